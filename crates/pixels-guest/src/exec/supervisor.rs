//! Process B: reads the request, starts the command, and ends the tree when it
//! must. Answers the exit code that A passes on.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use pixels_guest_api::host::Answer;
use pixels_guest_api::{
    EXIT_KILLED, EXIT_SETUP, EXIT_TIMEOUT, ExecRequest, Nonce, READY_MARKER, Report, ReportKind,
    SIGNAL_KILL_TREE,
};

use super::request::{self, Refused};
use super::spawn::{self, Job};
use super::{apply, drain, pty, tree, user};
use crate::sys::process::{self, End, Fork, Pid, Waited};
use crate::sys::{errno, fd, tty};
use crate::{host, identity};

/// The signals that ask a command to end.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Where reports go.
enum Teller<'a> {
    /// Into the command's stderr, behind a number that the command never learns.
    Stderr(Nonce),
    /// Over the socket to the library, which nobody else has.
    Socket(&'a OwnedFd),
}

/// A process of its own kind: nobody's terminal, everybody's parent.
fn stand_alone() -> std::io::Result<()> {
    process::new_session()
        .and_then(|()| process::become_subreaper())
        .and_then(|()| process::forbid_tracing())
}

/// Runs a request that is here already. `control` is the socket to the library:
/// signals come over it, reports go over it, and its end cancels the command.
pub(crate) fn run_with(control: &OwnedFd, request: ExecRequest) -> i32 {
    let teller = Teller::Socket(control);
    if let Err(e) = stand_alone() {
        let what = "cannot set the guest supervisor up";
        return teller.tell(&apply::failed(ReportKind::System, what, errno(&e)));
    }
    let terminal = tty::is_terminal(fd::STDIN);
    supervise(request, control, terminal, teller)
}

/// Runs one request. `control` is the pipe from A.
pub(crate) fn run(control: OwnedFd) -> i32 {
    if let Err(e) = stand_alone() {
        return plain(&format!("cannot set the guest supervisor up: {e}"));
    }
    let terminal = tty::is_terminal(fd::STDIN);
    let mut request = match receive(&control, terminal) {
        Ok(request) => request,
        Err(Refused::Abandoned) => return i32::from(EXIT_KILLED),
        Err(Refused::Signal(SIGNAL_KILL_TREE)) => return i32::from(EXIT_KILLED),
        Err(Refused::Signal(n)) => return 128 + n,
        Err(Refused::Bad(Some(nonce), e)) => {
            return Teller::Stderr(nonce).tell(&refusal(ReportKind::BadRequest, &e.to_string()));
        }
        Err(Refused::Bad(None, e)) => return plain(&e.to_string()),
        Err(Refused::Io(e)) => return plain(&format!("cannot read the request: {e}")),
    };
    // The backend runs commands as soon as a clone has started, and that is before
    // its boot unit. One that fails here (a full disk) must not keep a person from
    // running what would mend it.
    let _ = identity::at_boot();
    // From here on only the teller knows the nonce.
    let nonce = std::mem::replace(&mut request.nonce, Nonce([0; 16]));
    supervise(request, &control, terminal, Teller::Stderr(nonce))
}

/// The handshake, and the request.
fn receive(control: &OwnedFd, terminal: bool) -> Result<ExecRequest, Refused> {
    if !terminal {
        // The host keeps the command's input until it knows that somebody is here
        // to take it: a backend that cannot start this binary says so late.
        fd::write_all(fd::STDERR, &READY_MARKER)?;
        return request::read(control);
    }
    let before = pty::begin_handshake()?;
    let request = request::read(control);
    let restored = pty::end_handshake(&before);
    let request = request?;
    restored?;
    Ok(request)
}

fn supervise(
    request: ExecRequest,
    control: &OwnedFd,
    terminal: bool,
    mut teller: Teller<'_>,
) -> i32 {
    let deadline = match request.timeout_ms {
        0 => None,
        ms => Instant::now().checked_add(Duration::from_millis(ms)),
    };
    let (login, kill_on_exit, timeout_ms) =
        (request.login, request.kill_on_exit, request.timeout_ms);
    let drain_output = request.drain_output && !terminal;
    let Some(account) = user::resolve(&request.user) else {
        return teller.tell(&refusal(ReportKind::User, "no such user in the pixel"));
    };
    let through_shell = login && !request.argv.is_empty() && account.preparing_shell().is_some();
    let job = Job { request, account, terminal };
    let started = fd::pipe().and_then(|pipe| {
        let children = process::child_watch()?;
        Ok((pipe, children, process::fork()?))
    });
    let ((report_in, report_out), children, fork) = match started {
        Ok(started) => started,
        Err(e) => {
            let what = "cannot start the command";
            return teller.tell(&apply::failed(ReportKind::System, what, errno(&e)));
        }
    };
    let command = match fork {
        Fork::Child => {
            teller.forget();
            process::exit_now(spawn::become_command(job, report_out));
        }
        Fork::Parent(pid) => pid,
    };
    drop((job, report_out));
    if !terminal {
        // Both sides do this, so that a signal finds the group at once.
        let _ = process::new_group(command);
    }
    // The command's streams end when the command ends them; stderr stays for
    // the report, stdout only to see it drained.
    if let Ok(null) = fd::null() {
        let _ = fd::dup_onto(null.as_raw_fd(), fd::STDIN);
        if !drain_output {
            let _ = fd::dup_onto(null.as_raw_fd(), fd::STDOUT);
        }
        if let Teller::Socket(_) = teller {
            let _ = fd::dup_onto(null.as_raw_fd(), fd::STDERR);
        }
    }

    // Somebody who does not want to read the errors is not gone: the socket says that.
    let host = if let Teller::Socket(_) = teller { -1 } else { fd::STDERR };
    let code = match watch(command, control, &children, deadline, terminal, host) {
        Outcome::Ended(end, asked) => {
            // What the command left behind on purpose stays. After a request to end
            // nothing is on purpose, and the client can no longer ask for it to go.
            if kill_on_exit || asked {
                tree::kill(None);
            }
            finish(&teller, end, through_shell, &report_in)
        }
        Outcome::Cancelled => {
            tree::kill(Some(command));
            i32::from(EXIT_KILLED)
        }
        Outcome::TimedOut => {
            tree::kill(Some(command));
            let report = Report {
                exit_code: EXIT_TIMEOUT,
                ..refusal(ReportKind::Timeout, &format!("timed out after {timeout_ms} ms"))
            };
            teller.tell(&report)
        }
    };
    if drain_output {
        drain::wait(control);
    }
    code
}

/// Why the watch is over.
enum Outcome {
    /// The command has ended; after a signal that wants it to, or not.
    Ended(End, bool),
    /// A is gone or was told to end the tree, or the host is gone.
    Cancelled,
    TimedOut,
}

/// Reaps, passes signals on, and keeps the time until the command has ended.
fn watch(
    command: Pid,
    control: &OwnedFd,
    children: &OwnedFd,
    deadline: Option<Instant>,
    terminal: bool,
    mut host: RawFd,
) -> Outcome {
    let mut asked = false;
    loop {
        while let Waited::Ended(pid, end) = process::wait(-1, false) {
            if pid == command {
                return Outcome::Ended(end, asked);
            }
        }
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Outcome::TimedOut;
        }
        let mut fds = [
            fd::watch(control.as_raw_fd(), libc::POLLIN),
            fd::watch(children.as_raw_fd(), libc::POLLIN),
            // No event is asked for: only the end of whoever reads this comes. The
            // host reads it to the end, so that is a daemon which was killed. It
            // could not tell A.
            fd::watch(host, 0),
        ];
        if fd::poll(&mut fds, left).is_err() {
            return Outcome::Cancelled;
        }
        if fds[2].revents & (libc::POLLERR | libc::POLLHUP) != 0 {
            if !terminal {
                return Outcome::Cancelled;
            }
            // The kernel tells the command that its terminal hung up.
            asked = true;
            host = -1;
        }
        if fds[1].revents != 0 {
            // Only the wake-up counts: which child it was, wait() says.
            let _ = fd::read(children.as_raw_fd(), &mut [0; 1024]);
        }
        if fds[0].revents != 0 {
            let mut signals = [0; 64];
            match fd::read(control.as_raw_fd(), &mut signals) {
                Ok(0) | Err(_) => return Outcome::Cancelled,
                Ok(n) => {
                    for signal in signals[..n].iter().map(|s| i32::from(*s)) {
                        if signal == SIGNAL_KILL_TREE {
                            return Outcome::Cancelled;
                        }
                        asked |= ENDING.contains(&signal);
                        deliver(command, signal);
                    }
                }
            }
        }
    }
}

/// To the command's group; to the process alone until it has one, where the
/// signal waits because everything is still blocked.
fn deliver(command: Pid, signal: i32) {
    if process::kill(-command, signal).is_err() {
        let _ = process::kill(command, signal);
    }
}

/// The command, or what was to become it, has ended.
fn finish(teller: &Teller<'_>, end: End, through_shell: bool, pipe: &OwnedFd) -> i32 {
    let (reached, report) = received(pipe);
    match (report, end) {
        (Some(report), _) => teller.tell(&report),
        (None, End::Exited(code)) if through_shell && !reached => {
            let message = format!("the login shell exited with {code} before the command started");
            teller.tell(&refusal(ReportKind::LoginShell, &message))
        }
        (None, end) => end.code(),
    }
}

/// What C left in the report pipe. A process that a profile started may still
/// hold the other end, so this reads what is there and does not wait.
fn received(pipe: &OwnedFd) -> (bool, Option<Report>) {
    let mut bytes = [0; 4096];
    let n = fd::set_nonblocking(pipe.as_raw_fd())
        .and_then(|()| fd::read(pipe.as_raw_fd(), &mut bytes))
        .unwrap_or(0);
    let bytes = &bytes[..n];
    let (reached, rest) = match bytes {
        [apply::REACHED, rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let report = match rest {
        [apply::REPORT, payload @ ..] => Report::decode_payload(payload).ok(),
        _ => None,
    };
    (reached, report)
}

fn refusal(kind: ReportKind, message: &str) -> Report {
    Report { kind, errno: 0, exit_code: EXIT_SETUP, message: message.to_owned() }
}

impl Teller<'_> {
    /// Gives the one report; answers its exit code.
    fn tell(&self, report: &Report) -> i32 {
        match self {
            Self::Stderr(nonce) => drop(pty::write_verbatim(fd::STDERR, &report.encode(nonce))),
            Self::Socket(socket) => {
                drop(host::answer(socket, Answer::Report, &report.encode_payload()));
            }
        }
        i32::from(report.exit_code)
    }

    /// Leaves nothing of it in the memory of what becomes the command.
    fn forget(&mut self) {
        if let Self::Stderr(nonce) = self {
            process::wipe(&mut nonce.0);
        }
    }
}

/// For a peer whose nonce is not known.
fn plain(message: &str) -> i32 {
    fd::complain(&format!("error: {message}"));
    i32::from(EXIT_SETUP)
}
