//! What a request carries.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::UploadFailed;

/// Read at once from the source of an upload.
const PIECE: usize = 64 * 1024;

/// A request's body: bytes in memory, or a stream.
pub struct Body(Kind);

enum Kind {
    Bytes(Bytes),
    Reader { reader: Pin<Box<dyn AsyncRead + Send>>, left: Option<u64>, buffer: BytesMut },
}

impl Body {
    /// No body.
    pub fn empty() -> Body {
        Body(Kind::Bytes(Bytes::new()))
    }

    /// Streams from `reader`: exactly `length` bytes where given (fewer is an
    /// [`Error::Upload`](crate::Error::Upload), more are not read), else to its end, in chunks.
    pub fn from_reader(reader: impl AsyncRead + Send + 'static, length: Option<u64>) -> Body {
        Body(Kind::Reader { reader: Box::pin(reader), left: length, buffer: BytesMut::new() })
    }

    /// The same body once more, if it is in memory.
    pub(crate) fn again(&self) -> Option<Body> {
        match &self.0 {
            Kind::Bytes(bytes) => Some(Body(Kind::Bytes(bytes.clone()))),
            Kind::Reader { .. } => None,
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Body {
        Body(Kind::Bytes(bytes.into()))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Bytes(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Kind::Reader { left, .. } => write!(f, "Body(stream of {left:?} bytes)"),
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.0 {
            Kind::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Reader { left: Some(0), .. } => Poll::Ready(None),
            Kind::Reader { reader, left, buffer } => {
                buffer.reserve(PIECE);
                let limit = left.unwrap_or(PIECE as u64).min(PIECE as u64);
                // Reading into a buffer may be dropped and begun anew at every poll.
                let mut limited = reader.take(limit);
                let polled = pin!(limited.read_buf(buffer)).poll(cx);
                match std::task::ready!(polled) {
                    Err(error) => Poll::Ready(Some(Err(UploadFailed(error).into()))),
                    Ok(0) if left.is_some() => {
                        let short = io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "it is shorter than announced",
                        );
                        Poll::Ready(Some(Err(UploadFailed(short).into())))
                    }
                    Ok(0) => Poll::Ready(None),
                    Ok(n) => {
                        if let Some(left) = left {
                            *left = left.saturating_sub(n as u64);
                        }
                        Poll::Ready(Some(Ok(Frame::data(buffer.split().freeze()))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.is_empty(),
            Kind::Reader { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Reader { left: Some(left), .. } => SizeHint::with_exact(*left),
            Kind::Reader { left: None, .. } => SizeHint::default(),
        }
    }
}
