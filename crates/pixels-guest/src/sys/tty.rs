//! Terminals.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check;
use super::process::Pid;

/// A terminal's modes.
#[derive(Clone, Copy)]
pub(crate) struct Modes(libc::termios);

impl Modes {
    /// No echo, no editing, no translation either way.
    pub(crate) fn raw(&self) -> Self {
        let mut raw = self.0;
        // SAFETY: `raw` is an initialised termios.
        unsafe { libc::cfmakeraw(&mut raw) };
        raw.c_cc[libc::VMIN] = 1;
        raw.c_cc[libc::VTIME] = 0;
        Self(raw)
    }
}

pub(crate) fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: plain call without pointers.
    unsafe { libc::isatty(fd) == 1 }
}

pub(crate) fn modes(fd: RawFd) -> io::Result<Modes> {
    let mut modes = MaybeUninit::uninit();
    // SAFETY: on success the kernel has filled `modes`.
    check(unsafe { libc::tcgetattr(fd, modes.as_mut_ptr()) })?;
    // SAFETY: filled just now.
    Ok(Modes(unsafe { modes.assume_init() }))
}

/// Sets the modes at once; input that waits to be read stays.
pub(crate) fn set_modes(fd: RawFd, modes: &Modes) -> io::Result<()> {
    // SAFETY: `modes` is initialised.
    check(unsafe { libc::tcsetattr(fd, libc::TCSANOW, &modes.0) }).map(drop)
}

/// The session whose controlling terminal this is.
pub(crate) fn session(fd: RawFd) -> io::Result<Pid> {
    // SAFETY: plain call without pointers.
    check(unsafe { libc::tcgetsid(fd) })
}

/// Gives the controlling terminal up, for the whole session if this is its
/// leader.
pub(crate) fn release(fd: RawFd) -> io::Result<()> {
    // SAFETY: this ioctl takes no argument.
    check(unsafe { libc::ioctl(fd, libc::TIOCNOTTY) }).map(drop)
}

/// Makes a terminal that no session has this session's controlling terminal,
/// with the caller's group in the foreground.
pub(crate) fn acquire(fd: RawFd) -> io::Result<()> {
    // SAFETY: this ioctl takes a number; 0 asks not to steal.
    check(unsafe { libc::ioctl(fd, libc::TIOCSCTTY, 0) }).map(drop)
}

/// Opens the multiplexer of a pseudo-terminal file system, following no link,
/// and unlocks the new terminal. Never waits for whatever else is there.
pub(crate) fn open_master(path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: an all-zero open_how is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from(flags.cast_unsigned());
    how.resolve = libc::RESOLVE_NO_SYMLINKS;
    // SAFETY: `path` is NUL-terminated, `how` is an open_how of that size.
    let raw = check(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        ) as libc::c_int
    })?;
    // SAFETY: fresh and owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let unlock: libc::c_int = 0;
    // SAFETY: the kernel reads one integer.
    check(unsafe { libc::ioctl(raw, libc::TIOCSPTLCK, &raw const unlock) })?;
    Ok(fd)
}

/// The other end of a terminal, without a path.
pub(crate) fn open_slave(master: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: this ioctl takes the flags as a number and answers a descriptor.
    let raw = check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: fresh and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Tells a terminal its size.
pub(crate) fn set_size(fd: RawFd, cols: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` outlives the call.
    check(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) }).map(drop)
}
