//! Writing behind.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::connection::{self, Ticket};
use super::error::Error;
use super::file::File;
use super::packet::CHUNK;

/// The most writes in flight: 2 MiB.
const WINDOW: usize = 16;

/// A stream into a file. A failed write shows up in a later call at the latest in
/// [`finish`](Self::finish) or `shutdown`, and in every call after that. Dropped
/// unfinished, it loses what is still in its buffer.
pub struct Writer {
    file: File,
    offset: u64,
    buffer: BytesMut,
    written: VecDeque<Ticket>,
    closing: Option<Ticket>,
    closed: bool,
    failed: Option<Error>,
}

impl Writer {
    pub(super) fn new(file: File) -> Writer {
        Writer {
            file,
            offset: 0,
            buffer: BytesMut::new(),
            written: VecDeque::new(),
            closing: None,
            closed: false,
            failed: None,
        }
    }

    /// Writes bytes without copying them where they are many.
    ///
    /// # Errors
    /// That of this or an earlier write.
    pub async fn write_bytes(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        if bytes.len() < CHUNK - self.buffer.len() {
            self.buffer.extend_from_slice(&bytes);
            return self.failed.clone().map_or(Ok(()), Err);
        }
        self.send_buffer();
        while !bytes.is_empty() {
            self.room().await?;
            let piece = bytes.split_to(bytes.len().min(CHUNK));
            self.send(piece);
        }
        Ok(())
    }

    /// Writes everything `source` gives and says how much it was.
    ///
    /// # Errors
    /// The source's, or that of a write (an [`Error`] inside).
    pub async fn copy_from<R>(&mut self, source: &mut R) -> io::Result<u64>
    where
        R: AsyncRead + Unpin + ?Sized,
    {
        let mut total = 0;
        loop {
            self.buffer.reserve(CHUNK - self.buffer.len());
            let room = (CHUNK - self.buffer.len()) as u64;
            match source.take(room).read_buf(&mut self.buffer).await? {
                0 => return Ok(total),
                n => total += n as u64,
            }
            if self.buffer.len() == CHUNK {
                self.room().await?;
                self.send_buffer();
            }
        }
    }

    /// Waits until the server has acknowledged everything, and gives the file back, for its
    /// attributes and to be closed.
    ///
    /// # Errors
    /// That of any write.
    pub async fn finish(mut self) -> Result<File, Error> {
        std::future::poll_fn(|cx| self.poll_written(cx)).await?;
        Ok(self.file)
    }

    async fn room(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|cx| self.poll_room(cx, WINDOW - 1)).await
    }

    /// Waits until at most `left` writes are unacknowledged.
    fn poll_room(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<Result<(), Error>> {
        while self.failed.is_none() {
            let Some(front) = self.written.front_mut() else {
                break;
            };
            match front.poll(cx) {
                Poll::Pending if self.written.len() > left => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(reply) => {
                    self.written.pop_front();
                    self.failed = reply.and_then(connection::done).err();
                }
            }
        }
        Poll::Ready(self.failed.clone().map_or(Ok(()), Err))
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.send_buffer();
        self.poll_room(cx, 0)
    }

    fn send_buffer(&mut self) {
        let bytes = self.buffer.split().freeze();
        self.send(bytes);
    }

    fn send(&mut self, bytes: Bytes) {
        // After a failure nothing more is sent: there would be a hole before it.
        if bytes.is_empty() || self.failed.is_some() {
            return;
        }
        let length = bytes.len() as u64;
        self.written.push_back(self.file.ask_write(self.offset, bytes));
        self.offset = self.offset.saturating_add(length);
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.buffer.len() == CHUNK {
            ready!(self.poll_room(cx, WINDOW - 1))?;
            self.send_buffer();
        }
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone().into()));
        }
        let n = buf.len().min(CHUNK - self.buffer.len());
        let this = &mut *self;
        if this.buffer.capacity() < CHUNK {
            this.buffer.reserve(CHUNK - this.buffer.len());
        }
        this.buffer.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    /// Waits until the server has acknowledged everything.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(cx).map_err(Into::into)
    }

    /// Flushes and closes the file.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_written(cx))?;
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        let this = &mut *self;
        let closing = this.closing.get_or_insert_with(|| this.file.ask_close());
        let reply = ready!(closing.poll(cx));
        this.closing = None;
        this.closed = true;
        this.failed = reply.and_then(connection::done).err();
        Poll::Ready(this.failed.clone().map_or(Ok(()), |e| Err(e.into())))
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({} bytes sent)", self.offset)
    }
}
