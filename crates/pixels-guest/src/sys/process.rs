//! Processes: fork, wait, kill, credentials, exec.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::check;

/// A process id.
pub(crate) type Pid = libc::pid_t;

/// The two sides of a fork.
pub(crate) enum Fork {
    Parent(Pid),
    Child,
}

/// How a child ended.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Exited(i32),
    Signaled(i32),
}

impl End {
    /// The number a shell shows for it.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(n) => 128 + n,
        }
    }
}

/// What [`wait`] found.
pub(crate) enum Waited {
    Ended(Pid, End),
    /// Children exist, none has ended (only without blocking).
    Nothing,
    NoChildren,
}

/// Forks this process.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: this program never has a second thread, so the child may do
    // everything the parent may.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Waits for `pid`, or for any child where it is -1.
pub(crate) fn wait(pid: Pid, block: bool) -> Waited {
    let flags = if block { 0 } else { libc::WNOHANG };
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for the write.
        match check(unsafe { libc::waitpid(pid, &mut status, flags) }) {
            Ok(0) => return Waited::Nothing,
            Ok(pid) if libc::WIFEXITED(status) => {
                return Waited::Ended(pid, End::Exited(libc::WEXITSTATUS(status)));
            }
            Ok(pid) if libc::WIFSIGNALED(status) => {
                return Waited::Ended(pid, End::Signaled(libc::WTERMSIG(status)));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Waited::NoChildren,
        }
    }
}

/// Sends a signal to a process, or to a group where `pid` is negative.
pub(crate) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: plain call without pointers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

pub(crate) fn own_pid() -> Pid {
    // SAFETY: always succeeds, no pointers.
    unsafe { libc::getpid() }
}

/// The session of this process.
pub(crate) fn own_session() -> Pid {
    // SAFETY: no pointers; cannot fail for the caller itself.
    unsafe { libc::getsid(0) }
}

/// Starts a session, without a controlling terminal.
pub(crate) fn new_session() -> io::Result<()> {
    // SAFETY: plain call without pointers.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Makes `pid` (0: this process) the leader of its own group.
pub(crate) fn new_group(pid: Pid) -> io::Result<()> {
    // SAFETY: plain call without pointers.
    check(unsafe { libc::setpgid(pid, 0) }).map(drop)
}

/// Orphans among the descendants become children of this process.
pub(crate) fn become_subreaper() -> io::Result<()> {
    // SAFETY: this prctl takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Nobody but the superuser may trace this process or read its memory.
pub(crate) fn forbid_tracing() -> io::Result<()> {
    // SAFETY: this prctl takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// Asks for the best scheduling there is; containers may refuse it.
pub(crate) fn hurry() {
    // SAFETY: plain call without pointers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

/// The most descriptors this process may have open.
pub(crate) fn descriptor_limit() -> libc::rlim_t {
    let mut limit = libc::rlimit { rlim_cur: 256, rlim_max: 256 };
    // SAFETY: `limit` is valid for the write; on failure it keeps its value.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}

/// The effective user and group ids.
pub(crate) fn own_ids() -> (u32, u32) {
    // SAFETY: always succeed, no pointers.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Becomes this user for good: groups first, the user last.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: `groups` is valid for reads of its length.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    // SAFETY: plain calls without pointers.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::setresuid(uid, uid, uid) }).map(drop)
}

/// Sets the file mode mask.
pub(crate) fn set_umask(mask: libc::mode_t) {
    // SAFETY: always succeeds, no pointers.
    unsafe { libc::umask(mask) };
}

/// Enters a directory.
pub(crate) fn change_directory(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` is NUL-terminated.
    check(unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

/// Replaces this program; only failure returns.
pub(crate) fn execute(path: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        let ends = std::iter::once(std::ptr::null());
        strings.iter().map(|s| s.as_ptr()).chain(ends).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in a null pointer and point at NUL-terminated
    // strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends this process at once, without what exit handlers would do: the child of
/// a fork must not flush its parent's buffers.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns, no pointers.
    unsafe { libc::_exit(code) }
}

/// Overwrites bytes in a way the compiler keeps.
pub(crate) fn wipe(bytes: &mut [u8]) {
    for byte in bytes {
        // SAFETY: a valid exclusive reference.
        unsafe { std::ptr::write_volatile(byte, 0) };
    }
}

/// Holds an advisory lock on an open file until it is closed.
pub(crate) fn lock(fd: libc::c_int) -> io::Result<()> {
    // SAFETY: plain call without pointers.
    check(unsafe { libc::flock(fd, libc::LOCK_EX) }).map(drop)
}

/// Random bytes of the kernel.
pub(crate) fn random(buf: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buf.len() {
        let rest = &mut buf[filled..];
        // SAFETY: `rest` is valid for writes of its length.
        filled += super::check_size(|| unsafe {
            libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0)
        })?;
    }
    Ok(())
}

/// A descriptor that becomes readable when a child has ended. SIGCHLD must be
/// blocked.
pub(crate) fn child_watch() -> io::Result<OwnedFd> {
    let set = super::signal::set_of(&[libc::SIGCHLD]);
    // SAFETY: `set` is initialised and outlives the call.
    let fd = check(unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: fresh and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Replaces this program by an open one; only failure returns.
pub(crate) fn execute_fd(binary: &OwnedFd, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        let ends = std::iter::once(std::ptr::null());
        strings.iter().map(|s| s.as_ptr()).chain(ends).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in a null pointer and point at NUL-terminated
    // strings that outlive the call.
    unsafe {
        libc::execveat(
            std::os::fd::AsRawFd::as_raw_fd(binary),
            c"".as_ptr(),
            argv.as_ptr().cast(),
            env.as_ptr().cast(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
