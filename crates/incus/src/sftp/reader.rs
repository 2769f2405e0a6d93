//! Reading ahead.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};

use super::connection::Ticket;
use super::error::Error;
use super::file::{self, File};
use super::packet::CHUNK;

/// The most reads in flight: 2 MiB.
const WINDOW: usize = 16;

/// A file as a stream. It begins with one read and asks for more in advance the longer it is
/// read, so that small files cost little and large ones no waiting. The stream is as long as
/// the server makes it: whoever reads sets the limit.
#[derive(Debug)]
pub struct Reader {
    file: File,
    asked: VecDeque<Asked>,
    /// Where the next request starts.
    next: u64,
    window: usize,
    /// What the server gives at once, as far as is known.
    chunk: usize,
    current: Bytes,
    ended: bool,
}

struct Asked {
    offset: u64,
    length: usize,
    ticket: Ticket,
    /// The rest of a read that came back short, and how much came.
    rest_of: Option<usize>,
}

impl Reader {
    pub(super) fn new(file: File) -> Reader {
        Reader {
            file,
            asked: VecDeque::new(),
            next: 0,
            window: 1,
            chunk: CHUNK,
            current: Bytes::new(),
            ended: false,
        }
    }

    /// The file behind it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The next piece without a copy; `None` at the end. May be dropped and called again.
    ///
    /// # Errors
    /// As all operations.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if std::future::poll_fn(|cx| self.poll_fill(cx)).await? {
            return Ok(Some(std::mem::take(&mut self.current)));
        }
        Ok(None)
    }

    /// Has something in `current`; false at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        if !self.current.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        self.ask_ahead();
        let Some(front) = self.asked.front_mut() else {
            return Poll::Ready(Err(Error::protocol("file beyond all offsets")));
        };
        let reply = ready!(front.ticket.poll(cx));
        let Some(asked) = self.asked.pop_front() else {
            return Poll::Ready(Ok(false));
        };
        match reply.and_then(|reply| file::data(reply, asked.length)) {
            Ok(Some(data)) => {
                self.took(&asked, data.len());
                self.current = data;
                Poll::Ready(Ok(true))
            }
            end => {
                self.ended = true;
                self.asked.clear();
                Poll::Ready(end.map(|_| false))
            }
        }
    }

    fn ask_ahead(&mut self) {
        while self.asked.len() < self.window {
            let Some(after) = self.next.checked_add(self.chunk as u64) else {
                return;
            };
            self.asked.push_back(Asked {
                offset: self.next,
                length: self.chunk,
                ticket: self.file.ask_read(self.next, self.chunk),
                rest_of: None,
            });
            self.next = after;
        }
    }

    fn took(&mut self, asked: &Asked, got: usize) {
        if let Some(first) = asked.rest_of {
            // The short read was not the end: the server gives no more than that at once.
            self.chunk = self.chunk.min(first.max(4096));
        }
        if got == asked.length {
            self.window = (self.window * 2).min(WINDOW);
            return;
        }
        // The end of the file or a limit of the server; what is missing comes first.
        let offset = asked.offset + got as u64;
        let length = asked.length - got;
        self.asked.push_front(Asked {
            offset,
            length,
            ticket: self.file.ask_read(offset, length),
            rest_of: Some(got),
        });
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if ready!(self.poll_fill(cx))? {
            let n = self.current.len().min(buf.remaining());
            buf.put_slice(&self.current[..n]);
            self.current.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.offset, self.length)
    }
}
