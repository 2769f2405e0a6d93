//! Reading a file: frames of content into the caller's own buffer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pixels_core::Error;
use pixels_guest_api::files::{HEAD_LEN, Refused, Reply};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::conn::{Coming, Frame, STALL, Trouble, coming};
use super::errors::Subject;
use super::pool::Lease;

/// The longest answer that may stand between content: an error.
const MAX_ANSWER: usize = 64;

/// A file's content. Dropped before its end, it closes its connection.
pub(super) struct Download {
    lease: Option<Lease>,
    subject: Subject,
    state: State,
    stall: Pin<Box<Sleep>>,
    /// Whether `stall` runs.
    waiting: bool,
}

enum State {
    /// In a frame's head, of which so many bytes are there.
    Head([u8; HEAD_LEN], usize),
    /// In content, of which so many bytes are to come.
    Data(usize),
    /// In an answer with this tag, of whose body so many bytes are there.
    Answer(u8, Vec<u8>, usize),
    End,
    Failed,
}

impl Download {
    pub(super) fn new(lease: Lease, subject: Subject) -> Self {
        Self {
            lease: Some(lease),
            subject,
            state: State::Head([0; HEAD_LEN], 0),
            stall: Box::pin(sleep(STALL)),
            waiting: false,
        }
    }

    /// One read of the socket; nothing read is an error here.
    fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        let Some(lease) = &mut self.lease else { return Poll::Ready(Err(super::lost())) };
        let before = buf.filled().len();
        match Pin::new(&mut lease.conn.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                self.waiting = false;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(_) => Poll::Ready(Err(self.subject.trouble(Trouble::Lost))),
            Poll::Pending => {
                if !std::mem::replace(&mut self.waiting, true) {
                    self.stall.as_mut().reset(Instant::now() + STALL);
                }
                ready!(self.stall.as_mut().poll(cx));
                Poll::Ready(Err(self.subject.trouble(Trouble::Slow(STALL))))
            }
        }
    }

    /// Reads what is not content.
    fn poll_part(&mut self, cx: &mut Context<'_>, part: &mut [u8]) -> Poll<Result<usize, Error>> {
        let mut buf = ReadBuf::new(part);
        ready!(self.poll_socket(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        loop {
            match std::mem::replace(&mut self.state, State::Failed) {
                State::Head(mut head, mut have) => {
                    if have < HEAD_LEN {
                        let read = self.poll_part(cx, &mut head[have..]);
                        if let Poll::Ready(Ok(n)) = &read {
                            have += n;
                        }
                        if !matches!(read, Poll::Ready(Err(_))) {
                            self.state = State::Head(head, have);
                        }
                        ready!(read)?;
                        continue;
                    }
                    self.state = match coming(&head).map_err(|e| self.refused(e))? {
                        Coming::Frame(Frame::Data(len)) => State::Data(len),
                        Coming::Frame(_) => State::End,
                        Coming::Body(head) if head.len <= MAX_ANSWER => {
                            State::Answer(head.tag, vec![0; head.len], 0)
                        }
                        Coming::Body(_) => return Poll::Ready(Err(super::errors::unexpected())),
                    };
                }
                State::Data(0) => self.state = State::Head([0; HEAD_LEN], 0),
                State::Data(left) => {
                    let room = buf.remaining().min(left);
                    let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
                    let read = self.poll_socket(cx, &mut part);
                    let n = part.filled().len();
                    buf.advance(n);
                    if !matches!(read, Poll::Ready(Err(_))) {
                        self.state = State::Data(left - n);
                    }
                    return read;
                }
                State::Answer(tag, mut body, mut have) => {
                    if have < body.len() {
                        let read = self.poll_part(cx, &mut body[have..]);
                        if let Poll::Ready(Ok(n)) = &read {
                            have += n;
                        }
                        if !matches!(read, Poll::Ready(Err(_))) {
                            self.state = State::Answer(tag, body, have);
                        }
                        ready!(read)?;
                        continue;
                    }
                    return Poll::Ready(Err(match Reply::decode(tag, &body) {
                        Ok(Reply::Error(fault)) => {
                            self.finish();
                            self.subject.fault(fault)
                        }
                        Ok(_) => super::errors::unexpected(),
                        Err(e) => self.refused(e),
                    }));
                }
                State::End => {
                    self.finish();
                    self.state = State::End;
                    return Poll::Ready(Ok(()));
                }
                State::Failed => return Poll::Ready(Err(super::lost())),
            }
        }
    }

    fn refused(&self, e: Refused) -> Error {
        self.subject.trouble(e.into())
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.keep();
        }
    }
}

impl AsyncRead for Download {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(self.poll_content(cx, buf));
        if result.is_err() {
            // A connection in an unknown state serves nobody.
            self.lease = None;
        }
        Poll::Ready(result.map_err(super::errors::into_io))
    }
}
