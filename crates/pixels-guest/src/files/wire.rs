//! Frames on the socket.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pixels_guest_api::files::{HEAD_LEN, Head, MAX_BODY, Reply, Request};

use crate::sys::fd;

/// Room for an answer ahead of the first frame of a file's content.
const PREFIX: usize = 64;

/// The socket.
pub(super) struct Wire {
    socket: UnixStream,
    buffer: Vec<u8>,
}

/// What became of a frame of content.
pub(super) enum Stored {
    /// All of it is in the file.
    Whole,
    /// The file did not take it; all of it has been read.
    Failed(io::Error),
}

impl Wire {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket: socket.into(), buffer: vec![0; PREFIX + HEAD_LEN + MAX_BODY] }
    }

    /// The next request; `None` where there will be none, or none came for as long
    /// as `idle`.
    pub(super) fn request(&mut self, idle: Option<Duration>) -> io::Result<Option<Request>> {
        let watch = fd::watch(self.socket.as_raw_fd(), libc::POLLIN);
        if idle.is_some() && fd::poll(&mut [watch], idle)? == 0 {
            // A request that comes now is not lost: this end is closed with it
            // unread, and the other side is told so (ECONNRESET).
            return Ok(None);
        }
        let Some(head) = self.head()? else { return Ok(None) };
        self.fill(head.len)?;
        let request = Request::decode(head.tag, &self.buffer[..head.len]);
        request.map(Some).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
    }

    /// The next head; `None` at the end of the stream.
    pub(super) fn head(&mut self) -> io::Result<Option<Head>> {
        let mut head = [0; HEAD_LEN];
        let first = loop {
            match self.socket.read(&mut head) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if first == 0 {
            return Ok(None);
        }
        self.socket.read_exact(&mut head[first..])?;
        Head::decode(&head).map(Some).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
    }

    fn fill(&mut self, len: usize) -> io::Result<()> {
        self.socket.read_exact(&mut self.buffer[..len])
    }

    /// Moves the body of a frame of content into `file`.
    pub(super) fn store(&mut self, len: usize, file: &mut File) -> io::Result<Stored> {
        self.fill(len)?;
        Ok(match file.write_all(&self.buffer[..len]) {
            Ok(()) => Stored::Whole,
            Err(e) => Stored::Failed(e),
        })
    }

    /// Reads the body of a frame and drops it.
    pub(super) fn skip(&mut self, len: usize) -> io::Result<()> {
        self.fill(len)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Sends one frame of a file's content, behind the bytes `before`. Answers how much
    /// it was; at the end of the file only `before` is sent. An error of the file is
    /// the inner one.
    pub(super) fn load(
        &mut self,
        file: &mut File,
        tag: u8,
        before: Option<&Reply>,
    ) -> io::Result<io::Result<usize>> {
        let before = before.map(Reply::encode).unwrap_or_default();
        debug_assert!(before.len() <= PREFIX, "the answer to a read is short");
        let body = before.len() + HEAD_LEN;
        let read = loop {
            match file.read(&mut self.buffer[body..body + MAX_BODY]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let Ok(n) = read else { return Ok(read) };
        self.buffer[..before.len()].copy_from_slice(&before);
        let end = if n == 0 { before.len() } else { body + n };
        self.buffer[before.len()..body].copy_from_slice(&Head::encode(tag, n));
        self.socket.write_all(&self.buffer[..end])?;
        Ok(Ok(n))
    }
}
