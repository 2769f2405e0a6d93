//! The face `enter`: becomes a process of a running pixel, with no more rights
//! than the pixel's own, and runs one thing there. No supervisor takes part.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use pixels_guest_api::ExecRequest;
use pixels_guest_api::host::{Answer, EnterSpec, Run};

use super::{Call, Failed, Step, answer, cgroup, launch, lockdown, malformed, pause, receive};
use crate::sys::process::{self, End, Fork, Waited};
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
    let result = EnterSpec::decode(&spec).map_err(malformed).and_then(|spec| {
        let target = launch::find(spec.pid, spec.start_time)?;
        // Before anything of the pixel can see this process.
        process::forbid_tracing().step("forbid tracing")?;
        signal::set_default(libc::SIGCHLD);
        signal::block_all().step("block signals")?;
        if process::own_ids().0 == 0 {
            as_root(&spec, &target, &socket, &mut fds)
        } else {
            as_user(&spec, &target, &socket, &mut fds)
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

/// Root's way: the child is born in the pixel's pid namespace and control group,
/// and enters the rest by itself. This process stays outside and waits.
fn as_root(
    spec: &EnterSpec,
    pidfd: &OwnedFd,
    socket: &OwnedFd,
    fds: &mut Vec<OwnedFd>,
) -> Result<i32, Failed> {
    let group = cgroup::unified(&spec.cgroups).step("open the control group")?;
    cgroup::join_first(&spec.cgroups).step("join the control groups")?;
    ns::enter(pidfd, libc::CLONE_NEWPID).step("enter the pixel")?;
    let work = |fds: &mut Vec<OwnedFd>| {
        go_in(spec, pidfd, ALL & !libc::CLONE_NEWPID)?;
        serve(spec, socket, fds)
    };
    in_child(group.as_ref(), socket, fds, work)
}

/// An ordinary user's way: everything is entered in one call, because only the
/// pixel's user namespace gives the right to enter the others.
fn as_user(
    spec: &EnterSpec,
    pidfd: &OwnedFd,
    socket: &OwnedFd,
    fds: &mut Vec<OwnedFd>,
) -> Result<i32, Failed> {
    let group = cgroup::unified(&spec.cgroups).step("open the control group")?;
    let work = |fds: &mut Vec<OwnedFd>| {
        go_in(spec, pidfd, ALL)?;
        in_child(None, socket, fds, |fds| serve(spec, socket, fds))
    };
    match group {
        Some(group) => in_child(Some(&group), socket, fds, work),
        None => work(fds),
    }
}

/// Enters namespaces and gives up what processes of the pixel do not have.
fn go_in(spec: &EnterSpec, pidfd: &OwnedFd, namespaces: libc::c_int) -> Result<(), Failed> {
    ns::enter(pidfd, namespaces).step("enter the pixel")?;
    process::set_umask(0o022);
    process::become_user(0, 0, &[]).step("become root of the pixel")?;
    process::change_directory(c"/").step("enter the root directory")?;
    lockdown::apply(&spec.lockdown).step("lock down")
}

/// Does what was asked for, as a process of the pixel; answers the exit code.
fn serve(spec: &EnterSpec, socket: &OwnedFd, fds: &mut Vec<OwnedFd>) -> Result<i32, Failed> {
    match &spec.run {
        Run::Exec { request, terminal } => command(socket, fds, request, *terminal),
        Run::Files(idle) => {
            let served = fds.pop().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF));
            let served = served.step("take the files' socket")?;
            answer(socket, Answer::Done, &[]).step("say that it is ready")?;
            let idle = std::time::Duration::from_millis((*idle).into());
            Ok(files::serve(served.as_raw_fd(), Some(idle)))
        }
        Run::Pause => Ok(pause::pause(socket)),
        Run::Dial(port) => {
            let stream = dial::connect(*port).step("connect")?;
            socket::send(socket.as_raw_fd(), &[Answer::Done.byte()], &[stream.as_raw_fd()])
                .step("hand the connection over")?;
            Ok(0)
        }
    }
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
    Ok(exec::run_with(control, request))
}

/// Does work in a child, born into a control group, and answers its exit code.
/// The child tells of its failures itself.
fn in_child(
    group: Option<&OwnedFd>,
    socket: &OwnedFd,
    fds: &mut Vec<OwnedFd>,
    work: impl FnOnce(&mut Vec<OwnedFd>) -> Result<i32, Failed>,
) -> Result<i32, Failed> {
    let fork = match group {
        Some(group) => ns::fork_into(0, Some(group)).map(|(fork, _)| fork),
        // Locked down already, this process has but the old call.
        None => process::fork(),
    };
    match fork.step("fork")? {
        Fork::Child => process::exit_now(work(fds).unwrap_or_else(|failed| {
            let _ = answer(socket, Answer::Failed, &failed.encode());
            EXIT_SETUP
        })),
        Fork::Parent(pid) => {
            // Whoever reads the streams must not wait for this process.
            fds.clear();
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
