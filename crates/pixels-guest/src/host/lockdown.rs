//! What a process may not do any more before it becomes one of the pixel's.

use std::io;

use pixels_guest_api::host::Lockdown;

use crate::sys::{caps, ns};

/// Locks this process down. It must be root of its user namespace with all its
/// capabilities: that is what lets the filter be installed without "no new
/// privileges", which would take sudo away.
pub(crate) fn apply(rules: &Lockdown) -> io::Result<()> {
    let (soft, hard) = rules.files;
    // A hard limit cannot be raised by an ordinary user's store; what is there stays.
    if ns::limit(libc::RLIMIT_NOFILE, soft, hard).is_err() {
        let most = crate::sys::process::descriptor_limit();
        ns::limit(libc::RLIMIT_NOFILE, soft.min(most), most)?;
    }
    ns::limit(libc::RLIMIT_CORE, 0, libc::RLIM_INFINITY)
        .or_else(|_| ns::limit(libc::RLIMIT_CORE, 0, 0))?;
    if rules.no_new_privs {
        caps::no_new_privileges()?;
    }
    caps::install_filter(&rules.filter)?;
    caps::keep_only(rules.capabilities)
}
