//! The face `enter`: becomes a process of a running pixel, with no more rights
//! than the pixel's own, and runs one thing there. No supervisor takes part.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use pixels_guest_api::ExecRequest;
use pixels_guest_api::host::{Answer, EnterSpec, Run};

use super::{Call, Failed, Step, answer, cgroup, launch, lockdown, malformed, pause, receive};
use crate::sys::process::{self, End, Fork, Pid, Waited};
use crate::sys::{fd, mount, ns, signal, socket, tty};
use crate::{dial, exec, files};

/// All namespaces of a pixel.
const ALL: libc::c_int = ns::PIXEL | libc::CLONE_NEWCGROUP;
/// The kernel's number for the file system of pseudo-terminals (magic.h).
const DEVPTS: i64 = 0x1cd1;
const EXIT_SETUP: i32 = pixels_guest_api::EXIT_SETUP as i32;

/// Runs the face; answers the exit code.
pub(crate) fn run() -> i32 {
    let call = match receive() {
        Ok(call) => call,
        Err(failed) => {
            fd::complain(&String::from_utf8_lossy(&failed.encode()[4..]));
            return EXIT_SETUP;
        }
    };
    let Call { socket, spec, fds } = call;
    let mut fds: Vec<OwnedFd> = fds.into();
    let entered =
        EnterSpec::decode(&spec).map_err(malformed).and_then(|spec| Ok((go_in(&spec)?, spec)));
    let result = entered.and_then(|((), spec)| match spec.run {
        Run::Exec { request, terminal } => command(&socket, &mut fds, &request, terminal),
        Run::Files(idle) => {
            let served = fds.pop().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF));
            let served = served.step("take the files' socket")?;
            answer(&socket, Answer::Done, &[]).step("say that it is ready")?;
            let idle = std::time::Duration::from_millis(idle.into());
            child(move || files::serve(served.as_raw_fd(), Some(idle)))
        }
        Run::Pause => child(|| pause::pause(&socket)),
        Run::Dial(port) => {
            let stream = dial::connect(port).step("connect")?;
            socket::send(socket.as_raw_fd(), &[Answer::Done.byte()], &[stream.as_raw_fd()])
                .step("hand the connection over")?;
            Ok(0)
        }
    });
    match result {
        Ok(code) => code,
        Err(failed) => {
            let _ = answer(&socket, Answer::Failed, &failed.encode());
            EXIT_SETUP
        }
    }
}

/// Joins the pixel in everything and gives up what its processes do not have.
fn go_in(spec: &EnterSpec) -> Result<(), Failed> {
    // Before anything of the pixel can see this process.
    process::forbid_tracing().step("forbid tracing")?;
    let pid = Pid::try_from(spec.pid).unwrap_or(-1);
    let pidfd = ns::pidfd_open(pid).step("find the pixel")?;
    // The descriptor is a process's for good: if the start time is right now, it
    // is the pixel's.
    let same = launch::start_time(pid).step("find the pixel")? == spec.start_time;
    let found = if same { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    found.step("find the pixel")?;
    cgroup::join(&spec.cgroups, 0).step("join the control groups")?;
    ns::enter(&pidfd, ALL).step("enter the pixel")?;
    drop(pidfd);
    process::set_umask(0o022);
    process::become_user(0, 0, &[]).step("become root of the pixel")?;
    process::change_directory(c"/").step("enter the root directory")?;
    lockdown::apply(&spec.lockdown).step("lock down")
}

/// Runs a command as the face `exec` does, with the caller's socket as its lifeline.
fn command(
    control: &OwnedFd,
    fds: &mut Vec<OwnedFd>,
    request: &[u8],
    terminal: Option<(u16, u16)>,
) -> Result<i32, Failed> {
    let decoded = ExecRequest::decode(request).map_err(io::Error::other);
    let request = decoded.step("read the request")?;
    if let Some((cols, rows)) = terminal {
        let (master, slave) = open_terminal(cols, rows).step("open a terminal")?;
        socket::send(control.as_raw_fd(), &[Answer::Done.byte()], &[master.as_raw_fd()])
            .step("hand the terminal over")?;
        drop(master);
        fds.clear();
        for stream in [fd::STDIN, fd::STDOUT, fd::STDERR] {
            fd::dup_onto(slave.as_raw_fd(), stream).step("take the terminal")?;
        }
    } else {
        if fds.len() != 3 {
            return Err(io::Error::from_raw_os_error(libc::EBADF)).step("take the streams");
        }
        for (fd, stream) in fds.iter().zip([fd::STDIN, fd::STDOUT, fd::STDERR]) {
            fd::dup_onto(fd.as_raw_fd(), stream).step("take the streams")?;
        }
        fds.clear();
    }
    child(move || exec::run_with(control, request))
}

/// Does the rest in a child, which is the first of this process's in the pixel's
/// pid namespace; answers its exit code.
fn child(work: impl FnOnce() -> i32) -> Result<i32, Failed> {
    signal::set_default(libc::SIGCHLD);
    signal::block_all().step("block signals")?;
    match process::fork().step("fork")? {
        Fork::Child => process::exit_now(work()),
        Fork::Parent(pid) => {
            // Whoever reads the streams must not wait for this process.
            let null = fd::null().step("open /dev/null")?;
            for stream in [fd::STDIN, fd::STDOUT, fd::STDERR] {
                fd::dup_onto(null.as_raw_fd(), stream).step("close the streams")?;
            }
            Ok(match process::wait(pid, true) {
                Waited::Ended(_, End::Exited(code)) => code,
                Waited::Ended(_, End::Signaled(n)) => 128 + n,
                _ => EXIT_SETUP,
            })
        }
    }
}

/// A terminal of the pixel's own. Its root may have put anything at that path,
/// so it counts only if it is on a file system of terminals.
fn open_terminal(cols: u16, rows: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let master = tty::open_master(c"/dev/pts/ptmx")?;
    if mount::magic(master.as_raw_fd())? != DEVPTS {
        return Err(io::Error::from_raw_os_error(libc::ENOTTY));
    }
    tty::set_size(master.as_raw_fd(), cols, rows)?;
    let slave = tty::open_slave(&master)?;
    Ok((master, slave))
}
