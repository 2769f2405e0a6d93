//! The face `exec`: one command, its whole tree under control.
//!
//! Three processes. **A** is what the backend started and all it can kill; it
//! forks **B** at once, then only forwards signals and waits. B is root, leads a
//! session of its own and is the subreaper of everything below; it reads the
//! request, starts the command **C** and holds the read end of a pipe whose only
//! write end A has. However A ends, B sees the end of that pipe and kills the
//! tree. C drops to the user, so it cannot signal B.

mod apply;
mod drain;
mod environment;
mod pty;
mod request;
mod search;
mod spawn;
mod spec;
mod supervisor;
mod tree;
mod user;

use std::os::fd::{AsRawFd, OwnedFd};

use pixels_guest_api::{EXIT_KILLED, EXIT_SETUP, SIGNAL_KILL_TREE};

use crate::sys::process::{self, End, Fork, Pid, Waited};
use crate::sys::{fd, signal};

pub(crate) use apply::run as apply;
pub(crate) use supervisor::run_with;

/// The hidden face that a login shell executes to become the command.
pub(crate) const APPLY: &str = "apply";

/// What A passes on to the command.
const FORWARDED: [i32; 9] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCONT,
    libc::SIGTSTP,
];

/// Process A; answers the exit code.
pub(crate) fn run() -> i32 {
    let setup = i32::from(EXIT_SETUP);
    // An inherited "ignore" would make children vanish without a status.
    signal::set_default(libc::SIGCHLD);
    pty::release_controlling_terminal();
    let forked = signal::block_all()
        .and_then(|()| fd::pipe())
        .and_then(|pipe| process::fork().map(|fork| (pipe, fork)));
    match forked {
        Err(e) => {
            fd::complain(&format!("error: cannot start the guest supervisor: {e}"));
            setup
        }
        Ok(((control, ours), Fork::Child)) => {
            drop(ours);
            process::exit_now(supervisor::run(control))
        }
        Ok(((theirs, control), Fork::Parent(pid))) => {
            drop(theirs);
            forward(control, pid)
        }
    }
}

/// Hands signals to B until it has ended.
fn forward(control: OwnedFd, supervisor: Pid) -> i32 {
    // The command's streams must end when the command closes them. Stderr stays
    // for the one message below.
    if let Ok(null) = fd::null() {
        let _ = fd::dup_onto(null.as_raw_fd(), fd::STDIN);
        let _ = fd::dup_onto(null.as_raw_fd(), fd::STDOUT);
    }
    // A flood of signals must not block this loop; B reads what fits.
    let _ = fd::set_nonblocking(control.as_raw_fd());
    let mut cancelled = false;
    loop {
        match process::wait(supervisor, false) {
            Waited::Ended(..) if cancelled => return i32::from(EXIT_KILLED),
            Waited::Ended(_, End::Exited(code)) => return code,
            Waited::Ended(_, End::Signaled(n)) => {
                fd::complain(&format!("error: the guest supervisor died of signal {n}"));
                return i32::from(EXIT_SETUP);
            }
            Waited::Nothing => {}
            Waited::NoChildren => return i32::from(EXIT_SETUP),
        }
        let signal = signal::take_any();
        cancelled |= signal == SIGNAL_KILL_TREE;
        if (signal == SIGNAL_KILL_TREE || FORWARDED.contains(&signal))
            && let Ok(byte) = u8::try_from(signal)
        {
            let _ = fd::write(control.as_raw_fd(), &[byte]);
        }
    }
}
