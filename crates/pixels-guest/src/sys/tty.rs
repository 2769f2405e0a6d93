//! Terminals.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

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
