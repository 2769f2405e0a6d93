//! Where tests let a helper die; see `pixels_guest_api::fail`.

use pixels_guest_api::fail::{FAIL, Fail};

use crate::sys::process;

/// Takes what the request says.
pub(super) fn set(text: &[u8]) {
    let _ = FAIL.set(std::str::from_utf8(text).ok().and_then(Fail::parse));
}

/// Dies here if that is wanted.
pub(super) fn at(step: &'static str) {
    if let Some(Some(fail)) = FAIL.get()
        && fail.hits(step)
    {
        let _ = process::kill(process::own_pid(), libc::SIGKILL);
        // The first process of a pid namespace cannot kill itself.
        process::exit_now(128 + libc::SIGKILL);
    }
}
