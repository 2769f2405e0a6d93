//! Starts the command: the child side of B's fork.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use pixels_guest_api::{ExecRequest, ReportKind};

use super::environment::{self, Env};
use super::spec::{Kept, Spec};
use super::user::{Account, base_name};
use super::{APPLY, apply};
use crate::sys::{errno, fd, process, signal, tty};

/// What the login shell is told: become the arguments. It sees no more of the
/// command than this.
const BECOME: &[u8] = b"exec \"$0\" \"$@\"";

/// Where kept descriptors start: beyond what shells and profiles use.
const HIGH: RawFd = 700;

/// Everything C needs.
pub(crate) struct Job {
    pub(crate) request: ExecRequest,
    pub(crate) account: Account,
    /// Whether stdin is a terminal.
    pub(crate) terminal: bool,
}

/// Turns the child of a fork into the command; returns the exit code of a
/// failure, which it has reported on `report`.
pub(crate) fn become_command(job: Job, report: OwnedFd) -> i32 {
    let own_group = if job.terminal {
        // On a terminal that another session keeps there is no job control; the
        // command runs all the same.
        process::new_session().map(|()| drop(tty::acquire(fd::STDIN)))
    } else {
        process::new_group(0)
    };
    signal::reset_all();
    fd::close_all_on_exec();
    process::set_umask(0o022);
    let ready = own_group.and_then(|()| signal::unblock_all());
    if let Err(e) = ready {
        let failed = apply::failed(ReportKind::System, "cannot start the command", errno(&e));
        apply::send(report.as_raw_fd(), &failed);
        return i32::from(failed.exit_code);
    }

    let term = job.terminal.then_some(job.request.term.as_deref());
    let env = environment::base(&job.account, term);
    let shell = if job.request.login && !job.request.argv.is_empty() {
        job.account.preparing_shell()
    } else {
        None
    };
    // These need root: the binary may lie where the user cannot reach it.
    let mut helper = shell.and_then(|shell| Some((shell, own_binary().ok()?)));
    let account = &job.account;
    if let Err(e) = switch_to(account) {
        let what = match &account.name {
            Some(name) => format!("cannot become {}", String::from_utf8_lossy(name)),
            None => format!("cannot become user {}", account.uid),
        };
        let failed = apply::failed(ReportKind::User, &what, errno(&e));
        apply::send(report.as_raw_fd(), &failed);
        return i32::from(failed.exit_code);
    }

    let mut spec = Spec {
        session_shell: account.session_shell(),
        home: account.home.clone(),
        argv: job.request.argv,
        env: job.request.env,
        cwd: job.request.cwd,
        report: report.as_raw_fd(),
        kept: Kept::default(),
    };
    if let Some((shell, binary)) = helper.take() {
        // Returns only where there is no such shell after all; what it prepared
        // is undone by finishing from here.
        let _ = through_shell(&shell, binary, &mut spec, &env, job.terminal);
    }
    apply::finish(&spec, env)
}

/// Nothing to do where this process is that user already and could not switch.
fn switch_to(account: &Account) -> io::Result<()> {
    let (uid, gid) = process::own_ids();
    if uid != 0 && (uid, gid) == (account.uid, account.gid) {
        return Ok(());
    }
    process::become_user(account.uid, account.gid, &account.groups)
}

/// Executes the login shell on stand-in streams, to come back as `apply`.
fn through_shell(
    shell: &[u8],
    binary: OwnedFd,
    spec: &mut Spec,
    env: &Env,
    terminal: bool,
) -> io::Result<()> {
    let limit = process::descriptor_limit();
    let high = match RawFd::try_from(limit) {
        Ok(limit) if limit < HIGH + 16 => (limit - 16).max(10),
        _ => HIGH,
    };
    let keep = |from: RawFd| fd::dup_from(from, high).map(IntoRawFd::into_raw_fd);
    let shell_path = CString::new(shell)?;

    let binary = keep(binary.as_raw_fd())?;
    spec.kept.helpers.push(binary);
    spec.report = keep(spec.report)?;
    if !terminal {
        // A profile can neither eat the command's input nor write into its
        // output.
        spec.kept.streams = Some((keep(fd::STDIN)?, keep(fd::STDOUT)?));
        fd::dup_onto(fd::null()?.as_raw_fd(), fd::STDIN)?;
        fd::dup_onto(fd::STDERR, fd::STDOUT)?;
    }
    // The memfd's own number is written into it, so it is reserved first.
    let memfd = keep(fd::STDERR)?;
    spec.kept.helpers.push(memfd);
    let sealed = fd::memfd(&spec.encode(), true)?;
    fd::replace(sealed.as_raw_fd(), memfd)?;
    for kept in spec.kept.helpers.iter().chain([&spec.report]) {
        fd::set_inherited(*kept, true)?;
    }
    if let Some((stdin, stdout)) = spec.kept.streams {
        fd::set_inherited(stdin, true)?;
        fd::set_inherited(stdout, true)?;
    }

    let name = match base_name(shell) {
        // It goes by the name it is called by.
        b"busybox" => b"sh",
        name => name,
    };
    let argv = [
        CString::new(name)?,
        c"-l".to_owned(),
        c"-c".to_owned(),
        CString::new(BECOME)?,
        CString::new(format!("/proc/self/fd/{binary}"))?,
        CString::new(APPLY)?,
        CString::new(memfd.to_string())?,
    ];
    // The profile starts at home, as after a login.
    let home = CString::new(&spec.home[..])?;
    if process::change_directory(&home).is_err() {
        process::change_directory(c"/")?;
    }
    Err(process::execute(&shell_path, &argv, &environment::strings(env)))
}

/// This binary, opened such that the command's user may execute it: itself where
/// everybody may, else a copy.
fn own_binary() -> io::Result<OwnedFd> {
    const EXECUTABLE_BY_ALL: u32 = 0o001;
    // To be executed it need not be readable, and not everywhere it is.
    let place = File::options().read(true).custom_flags(libc::O_PATH).open("/proc/self/exe")?;
    if place.metadata()?.mode() & EXECUTABLE_BY_ALL == EXECUTABLE_BY_ALL {
        return Ok(place.into());
    }
    let file = File::open("/proc/self/exe")?;
    const MAX_BINARY: usize = 64 * 1024 * 1024;
    fd::memfd(&fd::read_whole(file.as_raw_fd(), MAX_BINARY)?, false)
}
