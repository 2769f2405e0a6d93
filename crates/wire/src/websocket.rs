//! WebSockets.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, io};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, Sink, SinkExt, Stream as FutureStream, StreamExt};
use hyper::Uri;
use hyper::header::HOST;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Message as Raw};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::client::Client;
use crate::connect::Stream;
use crate::error::Error;
use crate::upgrade::SWITCH_TIMEOUT;

/// The largest message that is accepted.
const MESSAGE_LIMIT: usize = 64 << 20;
/// Larger messages are sent in frames of this size: the library moves what is left of its
/// buffer after every write, which for one frame of many megabytes would be most of the work.
const FRAME: usize = 128 * 1024;

/// A WebSocket message. Pings are answered and not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
    /// The peer says goodbye, with a status code if it gave one. Nothing follows.
    Close(Option<u16>),
}

/// An open WebSocket.
pub struct WebSocket {
    inner: WebSocketStream<Line>,
    endpoint: Arc<str>,
    done: bool,
}

/// The connection beneath, which can be made to swallow what is written.
struct Line {
    stream: Stream,
    quiet: bool,
}

/// The sending half of a [`WebSocket`].
pub struct WebSocketSender {
    inner: SplitSink<WebSocketStream<Line>, Raw>,
    endpoint: Arc<str>,
}

/// The receiving half of a [`WebSocket`]. It also answers pings, so it should be kept reading.
pub struct WebSocketReceiver {
    inner: SplitStream<WebSocketStream<Line>>,
    endpoint: Arc<str>,
    done: bool,
}

impl Client {
    /// Opens a WebSocket on a connection of its own.
    ///
    /// # Errors
    /// What connecting gives; [`Error::Status`] if the server does not switch;
    /// [`Error::Timeout`] after 30 s.
    pub async fn websocket(&self, path_and_query: &str) -> Result<WebSocket, Error> {
        let endpoint = Arc::clone(self.name());
        // The library wants an absolute address, of which it sends only path and query.
        let uri = Uri::try_from(format!("ws://localhost{path_and_query}"))
            .ok()
            .filter(|_| path_and_query.starts_with('/'))
            .ok_or_else(|| Error::http(&endpoint, "invalid path"))?;
        let mut request = uri.into_client_request().map_err(|e| sort(&endpoint, e))?;
        request.headers_mut().insert(HOST, self.host().clone());
        let config = WebSocketConfig::default()
            .read_buffer_size(FRAME)
            .write_buffer_size(FRAME)
            .max_message_size(Some(MESSAGE_LIMIT))
            .max_frame_size(Some(MESSAGE_LIMIT));
        let stream = Line { stream: self.open().await?, quiet: false };
        self.count_request();
        let handshake = client_async_with_config(request, stream, Some(config));
        match timeout(SWITCH_TIMEOUT, handshake).await {
            Err(_) => Err(self.switch_timed_out()),
            Ok(Err(error)) => Err(sort(&endpoint, error)),
            Ok(Ok((inner, _))) => Ok(WebSocket { inner, endpoint, done: false }),
        }
    }
}

impl WebSocket {
    /// The next message; `None` after the end. May be dropped and called again.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection broke without a goodbye; [`Error::TooLarge`] for a
    /// message over 64 MiB; [`Error::Http`] for what is no WebSocket.
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        receive(&mut self.inner, &mut self.done, &self.endpoint).await
    }

    /// Sends a message at once.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection is gone.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        transmit(&mut self.inner, message, &self.endpoint).await?;
        self.inner.flush().await.map_err(|e| sort(&self.endpoint, e))
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection is gone.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.send(Message::Close(None)).await
    }

    /// The receiving half alone, which from now on sends nothing: not even answers to
    /// pings. A peer that has sent its last and closed would answer those with a reset, and
    /// with it what was not read yet would be lost.
    pub fn receive_only(mut self) -> WebSocketReceiver {
        self.inner.get_mut().quiet = true;
        self.split().1
    }

    /// Two halves for two tasks.
    pub fn split(self) -> (WebSocketSender, WebSocketReceiver) {
        let (sink, stream) = self.inner.split();
        let sender = WebSocketSender { inner: sink, endpoint: Arc::clone(&self.endpoint) };
        let receiver =
            WebSocketReceiver { inner: stream, endpoint: self.endpoint, done: self.done };
        (sender, receiver)
    }
}

impl WebSocketSender {
    /// Sends a message at once.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection is gone.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.feed(message).await?;
        self.flush().await
    }

    /// Queues a message; it goes out with the next [`flush`](Self::flush), or once 128 KiB wait.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection is gone.
    pub async fn feed(&mut self, message: Message) -> Result<(), Error> {
        transmit(&mut self.inner, message, &self.endpoint).await
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection is gone.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.inner.flush().await.map_err(|e| sort(&self.endpoint, e))
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection is gone.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.send(Message::Close(None)).await
    }
}

impl WebSocketReceiver {
    /// The next message; `None` after the end. May be dropped and called again.
    ///
    /// # Errors
    /// As [`WebSocket::recv`].
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        receive(&mut self.inner, &mut self.done, &self.endpoint).await
    }
}

async fn receive<S>(
    inner: &mut S,
    done: &mut bool,
    endpoint: &str,
) -> Result<Option<Message>, Error>
where
    S: FutureStream<Item = Result<Raw, tungstenite::Error>> + Unpin,
{
    loop {
        if *done {
            return Ok(None);
        }
        let raw = match inner.next().await {
            None => {
                *done = true;
                return Ok(None);
            }
            Some(Err(error)) => {
                *done = true;
                return match error {
                    tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                        Ok(None)
                    }
                    error => Err(sort(endpoint, error)),
                };
            }
            Some(Ok(raw)) => raw,
        };
        return Ok(Some(match raw {
            Raw::Binary(bytes) => Message::Binary(bytes),
            Raw::Text(text) => Message::Text(text.as_str().to_owned()),
            Raw::Close(frame) => {
                *done = true;
                // The library has queued the reply; one more poll sends it without waiting
                // for a server that may never hang up.
                let _ = inner.next().now_or_never();
                Message::Close(frame.map(|f| f.code.into()))
            }
            Raw::Ping(_) | Raw::Pong(_) | Raw::Frame(_) => continue,
        }));
    }
}

async fn transmit<S>(inner: &mut S, message: Message, endpoint: &str) -> Result<(), Error>
where
    S: Sink<Raw, Error = tungstenite::Error> + Unpin,
{
    let sent = match message {
        Message::Binary(bytes) if bytes.len() > FRAME => {
            fragments(inner, bytes, Data::Binary).await
        }
        Message::Text(text) if text.len() > FRAME => {
            fragments(inner, text.into(), Data::Text).await
        }
        Message::Binary(bytes) => inner.feed(Raw::Binary(bytes)).await,
        Message::Text(text) => inner.feed(Raw::text(text)).await,
        Message::Close(code) => {
            let frame = code.map(|code| tungstenite::protocol::CloseFrame {
                code: code.into(),
                reason: "".into(),
            });
            inner.feed(Raw::Close(frame)).await
        }
    };
    sent.map_err(|e| sort(endpoint, e))
}

/// One message as several frames (RFC 6455, 5.4).
async fn fragments<S>(inner: &mut S, mut rest: Bytes, kind: Data) -> Result<(), tungstenite::Error>
where
    S: Sink<Raw, Error = tungstenite::Error> + Unpin,
{
    let mut opcode = OpCode::Data(kind);
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(FRAME));
        let frame = Frame::message(piece, opcode, rest.is_empty());
        inner.feed(Raw::Frame(frame)).await?;
        opcode = OpCode::Data(Data::Continue);
    }
    Ok(())
}

fn sort(endpoint: &str, error: tungstenite::Error) -> Error {
    use tungstenite::Error as E;
    match error {
        E::ConnectionClosed
        | E::AlreadyClosed
        | E::Protocol(
            ProtocolError::ResetWithoutClosingHandshake
            | ProtocolError::HandshakeIncomplete
            | ProtocolError::SendAfterClosing,
        ) => Error::closed(endpoint),
        E::Io(error) => Error::from_io(endpoint, error),
        E::Capacity(_) => {
            Error::TooLarge { endpoint: endpoint.to_owned(), limit: MESSAGE_LIMIT as u64 }
        }
        E::Http(answer) => Error::Status {
            endpoint: endpoint.to_owned(),
            status: answer.status().as_u16(),
            body: answer.into_body().unwrap_or_default(),
        },
        other => Error::http(endpoint, other.to_string()),
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocket({})", self.endpoint)
    }
}

impl fmt::Debug for WebSocketSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocketSender({})", self.endpoint)
    }
}

impl fmt::Debug for WebSocketReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocketReceiver({})", self.endpoint)
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.quiet {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.quiet {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
