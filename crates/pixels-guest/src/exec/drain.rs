//! Waiting until the backend has taken the last of the output.
//!
//! Incus reads what is left in a command's pipes for one second after the
//! process it started has ended, and throws away the rest
//! (internal/linux/poll.go, `finishDeadline`): a reader that is slow for a
//! moment loses the end of the output. So that process does not end before.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use pixels_guest_api::SIGNAL_KILL_TREE;

use crate::sys::fd;

/// Between two looks. The kernel tells a pipe's writer when there is room, not
/// when it is empty.
const FIRST: Duration = Duration::from_micros(50);
const LAST: Duration = Duration::from_millis(10);

/// Returns when nothing is left in stdout and stderr, or nobody reads them any
/// more, or A is gone or told to end it all.
pub(crate) fn wait(control: &OwnedFd) {
    let mut pipes: Vec<RawFd> = vec![fd::STDOUT, fd::STDERR];
    let mut pause = FIRST;
    loop {
        pipes.retain(|pipe| fd::unread(*pipe) > 0);
        if pipes.is_empty() {
            return;
        }
        let mut fds = vec![fd::watch(control.as_raw_fd(), libc::POLLIN)];
        // No event is asked for: a pipe whose reader is gone says so unasked.
        fds.extend(pipes.iter().map(|pipe| fd::watch(*pipe, 0)));
        if fd::poll(&mut fds, Some(pause)).is_err() {
            return;
        }
        if fds[0].revents != 0 {
            let mut signals = [0; 64];
            match fd::read(control.as_raw_fd(), &mut signals) {
                Ok(0) | Err(_) => return,
                Ok(n) if signals[..n].iter().any(|s| i32::from(*s) == SIGNAL_KILL_TREE) => return,
                Ok(_) => {}
            }
        }
        pipes.retain(|pipe| {
            fds.iter().any(|f| f.fd == *pipe && f.revents & (libc::POLLERR | libc::POLLHUP) == 0)
        });
        pause = (pause * 2).min(LAST);
    }
}
