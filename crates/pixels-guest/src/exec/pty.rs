//! Terminals: handing one over from A to the command, the handshake before the
//! request, and reports that the line discipline leaves alone.

use std::io;
use std::os::fd::RawFd;

use pixels_guest_api::READY_MARKER;

use crate::sys::{fd, process, signal, tty};

/// Frees the terminal on stdin if this process leads the session that has it,
/// so that the command can lead a session on it.
pub(crate) fn release_controlling_terminal() {
    let own = process::own_session();
    if own != process::own_pid() || tty::session(fd::STDIN).ok() != Some(own) {
        return;
    }
    // The kernel tells the foreground group, which is this process, of the loss.
    signal::set_ignored(libc::SIGHUP);
    let _ = tty::release(fd::STDIN);
    signal::set_default(libc::SIGHUP);
}

/// Puts the terminal in raw mode and says so; answers the modes to restore.
pub(crate) fn begin_handshake() -> io::Result<tty::Modes> {
    let before = tty::modes(fd::STDIN)?;
    tty::set_modes(fd::STDIN, &before.raw())?;
    let out = if tty::is_terminal(fd::STDOUT) { fd::STDOUT } else { fd::STDIN };
    fd::write_all(out, &READY_MARKER)?;
    Ok(before)
}

/// Restores the modes exactly.
pub(crate) fn end_handshake(before: &tty::Modes) -> io::Result<()> {
    tty::set_modes(fd::STDIN, before)
}

/// Writes bytes to a pipe, or to a terminal without translation of newlines.
pub(crate) fn write_verbatim(to: RawFd, bytes: &[u8]) -> io::Result<()> {
    let Ok(before) = tty::modes(to) else {
        return fd::write_all(to, bytes);
    };
    tty::set_modes(to, &before.raw())?;
    let written = fd::write_all(to, bytes);
    tty::set_modes(to, &before)?;
    written
}
