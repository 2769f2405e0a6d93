//! Where a daemon is and why it is believed.

use std::fmt;
use std::path::PathBuf;

/// Where to connect.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A unix stream socket.
    Unix(PathBuf),
    /// TLS over TCP.
    Tls(TlsEndpoint),
    /// Plain TCP to this machine, and to no other: addresses of the name that
    /// are not loopback are not connected to.
    Loopback {
        /// A host name or an IP address; IPv6 with or without brackets.
        host: String,
        /// The TCP port.
        port: u16,
    },
}

/// A TLS server, what makes it trusted and who we are to it.
#[derive(Clone, Debug)]
pub struct TlsEndpoint {
    /// A host name or an IP address; IPv6 with or without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// What the server must prove.
    pub trust: ServerTrust,
    /// The certificate shown to the server, if any.
    pub identity: Option<ClientIdentity>,
}

/// What the server's certificate must be.
#[derive(Clone, Debug)]
pub enum ServerTrust {
    /// Exactly the leaf certificate whose DER has this SHA-256. The pin is the whole
    /// identity: neither host name nor validity dates are looked at.
    Pinned([u8; 32]),
    /// One or more PEM certificates: the server's leaf is one of them exactly (as if
    /// pinned), or its chain leads to one that is a CA, dates and host name included.
    Pem(Vec<u8>),
    /// The host's CA bundle: `SSL_CERT_FILE`, else the usual paths.
    System,
}

/// A client certificate and its key. `Debug` does not show the key.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The certificate, leaf first, in PEM.
    pub cert_chain_pem: Vec<u8>,
    /// The private key in PEM (PKCS#8, SEC1 or PKCS#1).
    pub key_pem: Vec<u8>,
}

/// Which part of a [`ClientIdentity`] cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityFault {
    /// There is no certificate.
    Certificate,
    /// There is no private key, or none of a kind that is known.
    Key,
    /// The key is another certificate's.
    Mismatch,
}

impl ClientIdentity {
    /// Whether certificate and key can be used together. Connecting finds the
    /// same; this says which part it is, before.
    ///
    /// # Errors
    /// The part that is wrong. Nothing of the key is in it.
    pub fn check(&self) -> Result<(), IdentityFault> {
        crate::tls::check_identity(self)
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity")
            .field("cert_chain_pem", &String::from_utf8_lossy(&self.cert_chain_pem))
            .field("key_pem", &"hidden")
            .finish()
    }
}

/// The host without the brackets of an IPv6 literal.
pub(crate) fn bare_host(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

/// `host:port` with IPv6 in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    let host = bare_host(host);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// As it appears in error messages: the socket's path, `https://host:port` or `http://host:port`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
            Endpoint::Tls(tls) => write!(f, "https://{}", authority(&tls.host, tls.port)),
            Endpoint::Loopback { host, port } => write!(f, "http://{}", authority(host, *port)),
        }
    }
}
