//! The user namespace in which an ordinary user's store is worked on: 0 is the
//! user, what follows are the user's subordinate ids. The setuid programs
//! newuidmap and newgidmap check that these are the user's (newuidmap(1)).

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;

use pixels_guest_api::host::StoreIds;

use super::{Failed, Step};
use crate::sys::process::{self, End, Fork, Waited};
use crate::sys::{fd, mount, ns};

/// Moves this process there, with mounts of its own. Before the first fork.
pub(crate) fn enter(ids: &StoreIds) -> Result<(), Failed> {
    let parent = process::own_pid();
    let (go, ready) = fd::pipe().step("make a pipe")?;
    // The mapping is made by a child that stays outside.
    match process::fork().step("fork")? {
        Fork::Child => {
            drop(ready);
            // The end of file comes when the namespace is there.
            let _ = fd::read(go.as_raw_fd(), &mut [0]);
            process::exit_now(map(parent, ids))
        }
        Fork::Parent(child) => {
            drop(go);
            ns::unshare(libc::CLONE_NEWUSER).step("make the store's user namespace")?;
            drop(ready);
            let code = match process::wait(child, true) {
                Waited::Ended(_, End::Exited(code)) => code,
                _ => libc::EIO,
            };
            if code != 0 {
                let why = io::Error::from_raw_os_error(code);
                return Err(why).step("map the subordinate ids (newuidmap, newgidmap)");
            }
        }
    }
    process::become_user(0, 0, &[]).step("become the store's root")?;
    ns::unshare(libc::CLONE_NEWNS).step("make the store's mount namespace")?;
    mount::isolate(true).step("cut the store's mounts off")
}

/// Runs both programs; answers an errno.
fn map(parent: process::Pid, ids: &StoreIds) -> i32 {
    for (program, own, range) in
        [(c"newuidmap", ids.uid, ids.subuid), (c"newgidmap", ids.gid, ids.subgid)]
    {
        let numbers = [parent as u32, 0, own, 1, 1, range.base, range.count];
        let mut argv = vec![program.to_owned()];
        argv.extend(numbers.iter().filter_map(|n| CString::new(n.to_string()).ok()));
        let code = match process::fork() {
            Err(e) => return crate::sys::errno(&e),
            Ok(Fork::Child) => {
                let mut error = libc::ENOENT;
                for dir in ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"] {
                    let Ok(path) = CString::new(format!("{dir}/{}", program.to_string_lossy()))
                    else {
                        continue;
                    };
                    let e = crate::sys::errno(&process::execute(&path, &argv, &[]));
                    if e != libc::ENOENT {
                        error = e;
                    }
                }
                process::exit_now(if error == libc::ENOENT { 127 } else { 126 });
            }
            Ok(Fork::Parent(child)) => match process::wait(child, true) {
                Waited::Ended(_, End::Exited(code)) => code,
                _ => 1,
            },
        };
        match code {
            0 => {}
            127 => return libc::ENOENT,
            _ => return libc::EPERM,
        }
    }
    0
}
