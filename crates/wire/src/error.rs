//! What can go wrong, each time with the endpoint it went wrong with.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failure on the pipe. HTTP statuses are not errors, except where a `101` was needed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing is at the socket's path.
    #[error("no socket at {}", path.display())]
    NoSocket {
        /// The socket.
        path: PathBuf,
    },
    /// This user may not connect to the socket.
    #[error("permission denied on {}", path.display())]
    PermissionDenied {
        /// The socket.
        path: PathBuf,
    },
    /// Nobody listens: a socket left behind by a dead daemon, or a closed port.
    #[error("{endpoint} refused the connection")]
    Refused {
        /// Where.
        endpoint: String,
    },
    /// The host name has no address.
    #[error("cannot resolve {host}: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// A step of setting up took too long.
    #[error("{what} {endpoint} took more than {} s", after.as_secs())]
    Timeout {
        /// Where.
        endpoint: String,
        /// Which step, such as `connecting to`.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// TLS did not come to a trusted connection.
    #[error("tls with {endpoint}: {kind}")]
    Tls {
        /// Where.
        endpoint: String,
        /// Why.
        kind: TlsFailure,
    },
    /// The peer went away in the middle.
    #[error("{endpoint} closed the connection")]
    Closed {
        /// Where.
        endpoint: String,
    },
    /// What the peer sent is no valid HTTP or WebSocket, or the request cannot be said in it.
    #[error("http with {endpoint}: {message}")]
    Http {
        /// Where.
        endpoint: String,
        /// What was wrong.
        message: String,
    },
    /// An answer or message is larger than is accepted.
    #[error("answer of {endpoint} is larger than {limit} bytes")]
    TooLarge {
        /// Where.
        endpoint: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The server answered a request to switch protocols with another status.
    #[error("{endpoint} answered {status} instead of switching protocols")]
    Status {
        /// Where.
        endpoint: String,
        /// The HTTP status.
        status: u16,
        /// The answer's body, at most 64 KiB of it, as sent.
        body: Vec<u8>,
    },
    /// The source of a streamed upload failed or was shorter than announced.
    #[error("upload to {endpoint}: {source}")]
    Upload {
        /// Where to.
        endpoint: String,
        /// What reading it gave.
        source: io::Error,
    },
    /// Anything else the operating system said.
    #[error("{endpoint}: {source}")]
    Io {
        /// Where.
        endpoint: String,
        /// What it said.
        source: io::Error,
    },
}

/// Why TLS failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The certificate does not lead to a trusted CA.
    #[error("the server's certificate is not signed by a trusted CA")]
    Untrusted,
    /// The certificate is another one than the pinned one. Both are SHA-256 in lower hex.
    #[error("the server's certificate has fingerprint {got}, not {expected}")]
    PinMismatch {
        /// The fingerprint that was pinned.
        expected: String,
        /// The fingerprint of what the server showed.
        got: String,
    },
    /// The certificate is past its validity.
    #[error("the server's certificate has expired")]
    Expired,
    /// The certificate is not valid yet.
    #[error("the server's certificate is not valid yet")]
    NotYetValid,
    /// The certificate is for another host.
    #[error("the server's certificate is not for {host}")]
    WrongName {
        /// The host that was asked for.
        host: String,
    },
    /// The certificate is unusable.
    #[error("the server's certificate is bad: {0}")]
    BadCertificate(String),
    /// The server wants a client certificate and there is none.
    #[error("the server requires a client certificate")]
    ClientCertificateRequired,
    /// The server does not accept our client certificate.
    #[error("the server refused the client certificate: {0}")]
    ClientCertificateRefused(String),
    /// Our own side cannot be set up: client certificate, key, trusted certificates.
    #[error("{0}")]
    Config(String),
    /// The handshake or a record is wrong in another way.
    #[error("{0}")]
    Protocol(String),
}

/// Marks an error of the upload's source on its way through the HTTP library.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UploadFailed(pub io::Error);

impl Error {
    /// Whether a daemon was not reached at all, as opposed to failing later.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Error::NoSocket { .. }
                | Error::PermissionDenied { .. }
                | Error::Refused { .. }
                | Error::Resolve { .. }
                | Error::Timeout { .. }
                | Error::Tls { .. }
        )
    }

    pub(crate) fn http(endpoint: &str, message: impl Into<String>) -> Error {
        Error::Http { endpoint: endpoint.to_owned(), message: clean(&message.into()) }
    }

    pub(crate) fn closed(endpoint: &str) -> Error {
        Error::Closed { endpoint: endpoint.to_owned() }
    }

    /// Sorts an I/O error of an open connection; rustls hides its errors in them.
    pub(crate) fn from_io(endpoint: &str, source: io::Error) -> Error {
        if let Some(tls) = source.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            return Error::Tls { endpoint: endpoint.to_owned(), kind: crate::tls::failure(tls) };
        }
        match source.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => Error::closed(endpoint),
            _ => Error::Io { endpoint: endpoint.to_owned(), source },
        }
    }

    /// Sorts an error of the HTTP library by what lies at its bottom.
    pub(crate) fn from_hyper(endpoint: &str, error: hyper::Error) -> Error {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(e) = cause {
            if let Some(UploadFailed(io)) = e.downcast_ref::<UploadFailed>() {
                return Error::Upload { endpoint: endpoint.to_owned(), source: copy_io(io) };
            }
            if let Some(io) = e.downcast_ref::<io::Error>() {
                return Error::from_io(endpoint, copy_io(io));
            }
            cause = e.source();
        }
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            return Error::closed(endpoint);
        }
        Error::http(endpoint, error.to_string())
    }
}

/// An I/O error cannot be cloned out of a borrowed chain; kind, number and what matters are kept.
fn copy_io(e: &io::Error) -> io::Error {
    if let Some(number) = e.raw_os_error() {
        return io::Error::from_raw_os_error(number);
    }
    match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => io::Error::new(e.kind(), tls.clone()),
        None => io::Error::new(e.kind(), e.to_string()),
    }
}

/// A peer's words made safe to print: control characters become spaces.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
