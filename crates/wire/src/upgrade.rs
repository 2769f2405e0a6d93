//! Leaving HTTP: a connection handed over to another protocol.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::client::{Client, Request};
use crate::connect::Stream;
use crate::error::Error;
use crate::response::BodyReader;

/// How long a server may take to switch protocols.
pub(crate) const SWITCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a refusal's body is kept.
const REFUSAL: usize = 64 * 1024;

/// A byte stream that HTTP has left. Nothing of what the server sent is lost.
pub struct Upgraded {
    early: Bytes,
    stream: Stream,
}

impl Client {
    /// Opens a connection and asks the server to speak `protocol` on it from now on.
    ///
    /// # Errors
    /// What connecting gives; [`Error::Status`] if the answer is not `101`;
    /// [`Error::Http`] if it is to another protocol; [`Error::Timeout`] after 30 s.
    pub async fn upgrade(&self, path_and_query: &str, protocol: &str) -> Result<Upgraded, Error> {
        let wanted = HeaderValue::from_str(protocol)
            .map_err(|_| Error::http(self.name(), "invalid protocol name"))?;
        let request = Request::new(Method::GET, path_and_query)
            .header(CONNECTION, HeaderValue::from_static("Upgrade"))
            .header(UPGRADE, wanted);
        let request = self.prepare(request)?;
        let mut sender = self.http_connection().await?;
        self.count_request();
        let switching = async {
            let answer = sender
                .send_request(request)
                .await
                .map_err(|e| Error::from_hyper(self.name(), e))?;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err(self.refusal(answer).await);
            }
            let agreed = answer.headers().get(UPGRADE).and_then(|v| v.to_str().ok());
            if !agreed.is_some_and(|v| v.eq_ignore_ascii_case(protocol)) {
                return Err(Error::http(self.name(), "switched to another protocol"));
            }
            let upgraded =
                hyper::upgrade::on(answer).await.map_err(|e| Error::from_hyper(self.name(), e))?;
            let parts = upgraded
                .downcast::<TokioIo<Stream>>()
                .map_err(|_| Error::http(self.name(), "upgraded connection of another kind"))?;
            Ok(Upgraded { early: parts.read_buf, stream: parts.io.into_inner() })
        };
        match timeout(SWITCH_TIMEOUT, switching).await {
            Ok(result) => result,
            Err(_) => Err(self.switch_timed_out()),
        }
    }

    async fn refusal(&self, answer: hyper::Response<hyper::body::Incoming>) -> Error {
        let status = answer.status().as_u16();
        let mut reader = BodyReader::new(answer.into_body(), None, Arc::clone(self.name()));
        let mut body = Vec::new();
        // The status is the message; a body that breaks off is kept as far as it came.
        while let Ok(Some(piece)) = reader.chunk().await {
            let room = REFUSAL - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
            if body.len() == REFUSAL {
                break;
            }
        }
        Error::Status { endpoint: self.name().to_string(), status, body }
    }

    pub(crate) fn switch_timed_out(&self) -> Error {
        Error::Timeout {
            endpoint: self.name().to_string(),
            what: "switching protocols with",
            after: SWITCH_TIMEOUT,
        }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..n]);
        self.early.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgraded")
    }
}
