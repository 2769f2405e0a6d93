//! Reads the request from stdin: its bytes and not one more, since what follows
//! belongs to the command.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use pixels_guest_api::{ExecRequest, HEADER_LEN, Nonce, RequestError, RequestHeader};

use crate::sys::{fd, process};

/// Why there is no request.
pub(crate) enum Refused {
    /// A is gone.
    Abandoned,
    /// A was sent this signal.
    Signal(i32),
    /// The frame is bad; with the nonce where that much could be read.
    Bad(Option<Nonce>, RequestError),
    /// Stdin failed or ended early.
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Reads one frame, giving up when A ends or is told to stop.
pub(crate) fn read(control: &OwnedFd) -> Result<ExecRequest, Refused> {
    let mut head = [0; HEADER_LEN];
    read_exact(control, &mut head)?;
    let nonce = RequestHeader::peek_nonce(&head);
    let header = RequestHeader::decode(&head).map_err(|e| Refused::Bad(nonce, e))?;
    process::wipe(&mut head);
    let mut body = vec![0; header.body_len];
    read_exact(control, &mut body)?;
    ExecRequest::decode_body(&header, &body).map_err(|e| Refused::Bad(nonce, e))
}

fn read_exact(control: &OwnedFd, buf: &mut [u8]) -> Result<(), Refused> {
    let mut filled = 0;
    while filled < buf.len() {
        let mut fds =
            [fd::watch(control.as_raw_fd(), libc::POLLIN), fd::watch(fd::STDIN, libc::POLLIN)];
        fd::poll(&mut fds, None)?;
        if fds[0].revents != 0 {
            abandon(control)?;
        }
        if fds[1].revents == 0 {
            continue;
        }
        match fd::read(fd::STDIN, &mut buf[filled..]) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// What would end a command ends the wait for one.
fn abandon(control: &OwnedFd) -> Result<(), Refused> {
    let mut signals = [0; 64];
    let n = fd::read(control.as_raw_fd(), &mut signals)?;
    if n == 0 {
        return Err(Refused::Abandoned);
    }
    let harmless = [libc::SIGWINCH, libc::SIGCONT, libc::SIGTSTP];
    match signals[..n].iter().map(|s| i32::from(*s)).find(|s| !harmless.contains(s)) {
        Some(signal) => Err(Refused::Signal(signal)),
        None => Ok(()),
    }
}
