//! Opening the byte stream: unix socket, or TCP and TLS.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::endpoint::{authority, bare_host};
use crate::error::{Error, TlsFailure};

/// How long name resolution, TCP and TLS may take together.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An open connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// Connects to a unix socket.
pub(crate) async fn unix(path: &Path) -> Result<Stream, Error> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    loop {
        let error = match UnixStream::connect(path).await {
            Ok(stream) => return Ok(Stream::Unix(stream)),
            Err(error) => error,
        };
        let endpoint = path.display().to_string();
        match error.kind() {
            io::ErrorKind::NotFound => return Err(Error::NoSocket { path: path.into() }),
            io::ErrorKind::PermissionDenied => {
                return Err(Error::PermissionDenied { path: path.into() });
            }
            io::ErrorKind::ConnectionRefused => return Err(Error::Refused { endpoint }),
            // A full backlog answers at once instead of waiting for its turn, and there
            // is no event for "there is room again".
            io::ErrorKind::WouldBlock if Instant::now() < deadline => {
                sleep(Duration::from_millis(2)).await;
            }
            io::ErrorKind::WouldBlock => return Err(timed_out(endpoint)),
            _ => {
                return Err(Error::Io { endpoint, source: error });
            }
        }
    }
}

/// Connects over TCP and completes a TLS handshake within [`CONNECT_TIMEOUT`].
pub(crate) async fn tls(host: &str, port: u16, config: Arc<ClientConfig>) -> Result<Stream, Error> {
    let endpoint = format!("https://{}", authority(host, port));
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let host = bare_host(host);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Tls {
        endpoint: endpoint.clone(),
        kind: TlsFailure::Config(format!("{host:?} is not a host name")),
    })?;
    let tcp = tcp(host, port, &endpoint, deadline, |_| true).await?;
    let handshake = TlsConnector::from(config).connect(name, tcp);
    match timeout_at(deadline, handshake).await {
        Err(_) => Err(timed_out(endpoint)),
        Ok(Err(error)) => Err(Error::from_io(&endpoint, error)),
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
    }
}

/// Connects over TCP to this machine.
pub(crate) async fn loopback(host: &str, port: u16) -> Result<Stream, Error> {
    let endpoint = format!("http://{}", authority(host, port));
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let here = |address: &SocketAddr| address.ip().is_loopback();
    tcp(bare_host(host), port, &endpoint, deadline, here).await.map(Stream::Plain)
}

async fn tcp(
    host: &str,
    port: u16,
    endpoint: &str,
    deadline: Instant,
    allowed: impl Fn(&SocketAddr) -> bool,
) -> Result<TcpStream, Error> {
    let unresolved = |reason: String| Error::Resolve { host: host.to_owned(), reason };
    let addresses: Vec<SocketAddr> =
        match timeout_at(deadline, tokio::net::lookup_host((host, port))).await {
            Err(_) => return Err(timed_out(endpoint.to_owned())),
            Ok(Err(error)) => return Err(unresolved(error.to_string())),
            Ok(Ok(found)) => found.filter(allowed).collect(),
        };
    let mut last = unresolved("it has no address that may be used".to_owned());
    for (tried, address) in addresses.iter().enumerate() {
        // Every address gets its share, so that one that drops packets does not starve the next.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Err(_) => last = timed_out(endpoint.to_owned()),
            Ok(Ok(stream)) => {
                tune(&stream);
                return Ok(stream);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                last = Error::Refused { endpoint: endpoint.to_owned() };
            }
            Ok(Err(source)) => {
                last = Error::Io { endpoint: endpoint.to_owned(), source };
            }
        }
    }
    Err(last)
}

/// Small messages go out at once, and a peer that vanished without a word is noticed
/// within about a minute even when nothing is being sent (a console left open).
fn tune(stream: &TcpStream) {
    use rustix::net::sockopt;
    let tuned = stream.set_nodelay(true).and_then(|()| {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
        sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
        sockopt::set_tcp_keepcnt(stream, 3)?;
        Ok(())
    });
    if let Err(error) = tuned {
        tracing::debug!(%error, "cannot tune the tcp connection");
    }
}

fn timed_out(endpoint: String) -> Error {
    Error::Timeout { endpoint, what: "connecting to", after: CONNECT_TIMEOUT }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Unix(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Stream::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Stream::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Unix(s) => s.is_write_vectored(),
            Stream::Plain(s) => s.is_write_vectored(),
            Stream::Tls(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(s) => Pin::new(s).poll_flush(cx),
            Stream::Plain(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
