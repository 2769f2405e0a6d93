//! The face `watch`: a supervisor for a pixel that has lost its own. Like that
//! one it only watches.

use std::os::fd::{AsRawFd, OwnedFd};

use pixels_guest_api::host::{Answer, WatchSpec};

use super::{Call, Step, answer, cgroup, launch, malformed, receive};
use crate::sys::process::{self, Fork};
use crate::sys::{fd, signal};

/// Runs the face; answers the exit code of the process that was started, which
/// is over as soon as the supervisor has a life of its own.
pub(crate) fn run() -> i32 {
    let call = match receive() {
        Ok(call) => call,
        Err(failed) => {
            fd::complain(&String::from_utf8_lossy(&failed.encode()[4..]));
            return 1;
        }
    };
    let Call { socket, spec, fds } = call;
    let found = WatchSpec::decode(&spec).map_err(malformed).and_then(|spec| {
        let pidfd = launch::find(spec.pid, spec.start_time)?;
        Ok((spec, pidfd, process::fork().step("fork")?))
    });
    match found {
        Ok((spec, pidfd, Fork::Child)) => {
            let _ = process::new_session();
            signal::set_ignored(libc::SIGPIPE);
            let _ = answer(&socket, Answer::Done, &[]);
            drop(socket);
            until_end(&pidfd, &spec.cgroups);
            drop(fds);
            process::exit_now(0)
        }
        Ok((_, _, Fork::Parent(_))) => 0,
        Err(failed) => {
            let _ = answer(&socket, Answer::Failed, &failed.encode());
            1
        }
    }
}

/// Waits until a pixel's first process has ended, and takes its groups away.
pub(super) fn until_end(pidfd: &OwnedFd, groups: &[Vec<u8>]) {
    let mut ended = [fd::watch(pidfd.as_raw_fd(), libc::POLLIN)];
    while fd::poll(&mut ended, None).is_ok_and(|n| n == 0) {}
    // Those that came in from outside are in no namespace that ended with init.
    cgroup::kill(groups);
    cgroup::remove(groups);
}
