//! What an SFTP operation can fail with.

use std::{fmt, io};

/// A failed operation. What it was about is known to the caller, who asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There is no such file.
    NotFound,
    /// The server may not do that.
    PermissionDenied,
    /// Any other refusal; version 3 has no codes for "exists", "not empty" or "no space".
    Failure {
        /// The server's words, control characters stripped, at most 500 characters.
        message: String,
    },
    /// The server does not have this operation.
    Unsupported,
    /// The stream ended; whether the operation took place is unknown.
    ConnectionLost,
    /// The server does not speak the protocol; the session is of no further use.
    Protocol {
        /// What was wrong.
        message: String,
    },
}

impl Error {
    /// Whether the file does not exist.
    pub fn is_not_found(&self) -> bool {
        *self == Error::NotFound
    }

    pub(super) fn protocol(message: &str) -> Error {
        Error::Protocol { message: message.to_owned() }
    }

    pub(super) fn failure(message: &str) -> Error {
        Error::Failure { message: message.to_owned() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound => f.write_str("no such file or directory"),
            Error::PermissionDenied => f.write_str("permission denied"),
            Error::Failure { message } if message.is_empty() => f.write_str("failure"),
            Error::Failure { message } => f.write_str(message),
            Error::Unsupported => f.write_str("not supported by the sftp server"),
            Error::ConnectionLost => f.write_str("the sftp connection was lost"),
            Error::Protocol { message } => write!(f, "sftp protocol error: {message}"),
        }
    }
}

impl std::error::Error for Error {}

/// For `AsyncRead` and `AsyncWrite`; the [`Error`] is inside.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::NotFound => io::ErrorKind::NotFound,
            Error::PermissionDenied => io::ErrorKind::PermissionDenied,
            Error::Unsupported => io::ErrorKind::Unsupported,
            Error::ConnectionLost => io::ErrorKind::ConnectionReset,
            Error::Protocol { .. } => io::ErrorKind::InvalidData,
            Error::Failure { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
