//! The faces that run on the host: they make pixels (`launch`), enter them
//! (`enter`), watch over them (`watch`) and work on the store (`tree`). What they are asked comes over a
//! socket, never in argv; see `pixels_guest_api::host`.

mod cgroup;
mod child;
mod door;
mod enter;
mod fail;
mod launch;
mod lockdown;
mod mounts;
mod pause;
mod rootfs;
mod store;
mod tree;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use pixels_guest_api::host::{Answer, MAX_SPEC};

use crate::sys::{errno, fd, socket};

pub(crate) use enter::run as enter;
pub(crate) use launch::run as launch;
pub(crate) use tree::run as tree;
pub(crate) use watch::run as watch;

/// A failure: which step, and what the kernel said.
pub(crate) struct Failed {
    step: String,
    error: io::Error,
}

/// Names the step that a result belongs to.
pub(crate) trait Step<T> {
    /// The failure of the step in these words.
    fn step(self, step: &str) -> Result<T, Failed>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: &str) -> Result<T, Failed> {
        self.map_err(|error| failed(step, error))
    }
}

/// The failure of a step.
pub(crate) fn failed(step: &str, error: io::Error) -> Failed {
    Failed { step: step.to_owned(), error }
}

impl Failed {
    /// What [`Failed::encode`] made.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let (number, words) = bytes.split_first_chunk::<4>().unwrap_or((&[0; 4], bytes));
        let words = String::from_utf8_lossy(words);
        let (step, why) = words.rsplit_once(": ").unwrap_or((&words, "it failed"));
        let error = match i32::from_be_bytes(*number) {
            0 => io::Error::other(why.to_owned()),
            number => io::Error::from_raw_os_error(number),
        };
        Self { step: step.to_owned(), error }
    }

    /// As it goes over a socket or pipe: the errno, then the words.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let number = self.error.raw_os_error();
        let mut out = number.unwrap_or(0).to_be_bytes().to_vec();
        let words = match number {
            Some(_) => crate::sys::describe(errno(&self.error)),
            None => self.error.to_string(),
        };
        out.extend_from_slice(format!("{}: {words}", self.step).as_bytes());
        out
    }
}

/// What a face was asked.
pub(crate) struct Call {
    /// The socket to whoever asked.
    pub(crate) socket: OwnedFd,
    /// The encoded request.
    pub(crate) spec: Vec<u8>,
    /// The descriptors that came with it, in order.
    pub(crate) fds: VecDeque<OwnedFd>,
}

/// Takes the request from the socket on standard input.
pub(crate) fn receive() -> Result<Call, Failed> {
    let own = socket::inherited(fd::STDIN).step("take the socket")?;
    // The number stays taken, so that nothing else gets it.
    let socket = fd::dup_from(own.as_raw_fd(), fd::STDERR + 1).step("keep the socket")?;
    let null = fd::null().step("open /dev/null")?;
    fd::dup_onto(null.as_raw_fd(), fd::STDIN).step("put /dev/null in its place")?;
    std::mem::forget(own);
    let (n, fds) = socket::receive(socket.as_raw_fd(), &mut [0]).step("read the request")?;
    let mut fds = VecDeque::from(fds);
    let spec = fds.pop_front().filter(|_| n == 1);
    let spec = spec.ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO));
    let spec = spec.and_then(|fd| fd::read_whole(fd.as_raw_fd(), MAX_SPEC));
    Ok(Call { socket, spec: spec.step("read the request")?, fds })
}

/// Sends one answer. Whoever asked may be gone: then nobody needs it.
pub(crate) fn answer(socket: &OwnedFd, kind: Answer, payload: &[u8]) -> io::Result<()> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let frame = [&[kind.byte()][..], &len.to_be_bytes(), payload].concat();
    socket::send_all(socket.as_raw_fd(), &frame)
}

/// The error of a request that cannot be decoded.
pub(crate) fn malformed(_: pixels_guest_api::host::Malformed) -> Failed {
    Failed { step: "read the request".into(), error: io::Error::from_raw_os_error(libc::EPROTO) }
}
