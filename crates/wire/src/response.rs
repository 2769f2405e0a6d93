//! Answers, in memory and streamed.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use tokio::io::{AsyncRead, ReadBuf};

use crate::error::Error;
use crate::pool::Lease;

/// An answer with its whole body.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// An answer whose body is yet to be read.
#[derive(Debug)]
pub struct StreamResponse {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body. Dropped before its end, it closes the connection.
    pub body: BodyReader,
}

/// A streamed body. Unlimited: whoever reads bounds what is kept. As [`AsyncRead`], a failure
/// is an [`io::Error`] that wraps an [`Error`].
pub struct BodyReader {
    incoming: Incoming,
    chunk: Bytes,
    lease: Option<Lease>,
    endpoint: Arc<str>,
}

impl BodyReader {
    pub(crate) fn new(incoming: Incoming, lease: Option<Lease>, endpoint: Arc<str>) -> BodyReader {
        let mut reader = BodyReader { incoming, chunk: Bytes::new(), lease, endpoint };
        if reader.incoming.is_end_stream() {
            reader.finish();
        }
        reader
    }

    /// The length the server announced, in bytes.
    pub fn length(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// The next piece without a copy; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection ended before the body.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if self.chunk.is_empty() && !std::future::poll_fn(|cx| self.poll_fill(cx)).await? {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.chunk)))
    }

    /// The rest of the body, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past the limit; as [`chunk`](Self::chunk).
    pub async fn collect(mut self, limit: u64) -> Result<Bytes, Error> {
        if self.length().is_some_and(|n| n > limit) {
            return Err(self.too_large(limit));
        }
        let Some(first) = self.chunk().await? else {
            return Ok(Bytes::new());
        };
        // Most answers are one chunk, which is then not copied.
        let Some(second) = self.chunk().await? else {
            return self.within(first, limit);
        };
        let mut all = BytesMut::from(first);
        let mut next = Some(second);
        while let Some(piece) = next {
            if (all.len() + piece.len()) as u64 > limit {
                return Err(self.too_large(limit));
            }
            all.extend_from_slice(&piece);
            next = self.chunk().await?;
        }
        Ok(all.freeze())
    }

    fn within(&self, body: Bytes, limit: u64) -> Result<Bytes, Error> {
        if body.len() as u64 > limit {
            return Err(self.too_large(limit));
        }
        Ok(body)
    }

    fn too_large(&self, limit: u64) -> Error {
        Error::TooLarge { endpoint: self.endpoint.to_string(), limit }
    }

    /// Has the next non-empty piece in `chunk`; false at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        while self.chunk.is_empty() {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                None => {
                    self.finish();
                    return Poll::Ready(Ok(false));
                }
                Some(Err(error)) => {
                    self.lease = None;
                    return Poll::Ready(Err(Error::from_hyper(&self.endpoint, error)));
                }
                Some(Ok(frame)) => {
                    // Trailers are not data and nobody here asks for them.
                    if let Ok(data) = frame.into_data() {
                        self.chunk = data;
                    }
                }
            }
        }
        Poll::Ready(Ok(true))
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.hand_back();
        }
    }
}

impl AsyncRead for BodyReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if ready!(self.poll_fill(cx)).map_err(io::Error::other)? {
            let n = self.chunk.len().min(buf.remaining());
            buf.put_slice(&self.chunk[..n]);
            self.chunk.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyReader({:?} bytes of {})", self.length(), self.endpoint)
    }
}
