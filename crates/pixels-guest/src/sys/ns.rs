//! Namespaces: making them, entering them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check;
use super::process::{Fork, Pid};

/// All namespaces of a pixel but that of its control groups, which is made once
/// the process is in its group.
pub(crate) const PIXEL: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET;

/// Has a child be born in a control group of the second version (Linux 5.7).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The kernel's `struct clone_args`, as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks a child into new namespaces (0: none) and a control group; the parent
/// gets a descriptor of it too.
pub(crate) fn fork_into(
    namespaces: libc::c_int,
    group: Option<&OwnedFd>,
) -> io::Result<(Fork, Option<OwnedFd>)> {
    let mut pidfd: RawFd = -1;
    let flags = u64::from((namespaces | libc::CLONE_PIDFD).cast_unsigned());
    let args = CloneArgs {
        flags: flags | group.map_or(0, |_| CLONE_INTO_CGROUP),
        cgroup: group.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM this is a fork, and this program never has a second
    // thread; `args` and `pidfd` outlive the call.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) as libc::c_int
    })?;
    if pid == 0 {
        return Ok((Fork::Child, None));
    }
    // SAFETY: the kernel has written a fresh descriptor.
    Ok((Fork::Parent(pid), Some(unsafe { OwnedFd::from_raw_fd(pidfd) })))
}

/// Moves this process into new namespaces.
pub(crate) fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: plain call without pointers.
    check(unsafe { libc::unshare(namespaces) }).map(drop)
}

/// Moves this process into those namespaces of another one; into a pid
/// namespace its next child.
pub(crate) fn enter(pidfd: &OwnedFd, namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: plain call without pointers.
    check(unsafe { libc::setns(pidfd.as_raw_fd(), namespaces) }).map(drop)
}

/// A descriptor of a process, which becomes readable when it has ended.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: plain call without pointers; a fresh descriptor is answered.
    let raw = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as libc::c_int)?;
    // SAFETY: fresh and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sends a signal to the process behind a descriptor.
pub(crate) fn pidfd_kill(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: no details of the signal are given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(done as libc::c_int).map(drop)
}

/// Sets the host name of this process's namespace.
pub(crate) fn set_hostname(name: &[u8]) -> io::Result<()> {
    // SAFETY: `name` is valid for reads of its length.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// The signal this process gets when its parent ends; 0 is none.
pub(crate) fn die_with_parent(signal: i32) -> io::Result<()> {
    // SAFETY: this prctl takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) }).map(drop)
}

/// Bounds a resource for this process and its children.
pub(crate) fn limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call.
    check(unsafe { libc::setrlimit(resource, &limit) }).map(drop)
}
