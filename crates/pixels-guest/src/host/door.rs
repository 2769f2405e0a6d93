//! Serves the files of a stopped pixel: one mount of its layers, however many
//! connections, because a writable layer must never be mounted twice.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use crate::files;
use crate::sys::process::{self, Fork, Waited};
use crate::sys::{signal, socket};

/// Takes connections from a socket until its end, each served by a child until
/// it has been idle for so long.
pub(crate) fn open(door: &OwnedFd, idle: Duration) -> i32 {
    // Children are reaped by the kernel.
    signal::set_ignored(libc::SIGCHLD);
    loop {
        let Ok((1, mut fds)) = socket::receive(door.as_raw_fd(), &mut [0]) else { break };
        let Some(connection) = fds.pop() else { continue };
        match process::fork() {
            Ok(Fork::Child) => {
                signal::set_default(libc::SIGCHLD);
                process::exit_now(files::serve(connection.as_raw_fd(), Some(idle)));
            }
            // Without a process the connection ends, and its maker says so.
            Ok(Fork::Parent(_)) | Err(_) => {}
        }
    }
    // They see that their connections have ended, and take back what is half-written.
    while !matches!(process::wait(-1, true), Waited::NoChildren) {}
    0
}
