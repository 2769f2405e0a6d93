//! What the backend is told: its own section of the configuration, checked.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;

use pixels_core::{Error, Result, Settings};
use pixels_wire::{ClientIdentity, Endpoint, IdentityFault, ServerTrust, TlsEndpoint};

/// Where images come from unless configured otherwise.
pub(crate) const IMAGE_SERVER: &str = "https://images.linuxcontainers.org";
/// Where a daemon listens when nothing is said.
const SOCKET: &str = "/var/lib/incus/unix.socket";
/// The port of a remote that names none.
const PORT: u16 = 8443;
/// Processes a pixel may have unless configured otherwise: room for parallel
/// builds, and a fork bomb stays its own problem.
const PROCESSES: u64 = 8192;

/// How new pixels are connected, where it is not the default profile's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nic {
    /// As the default profile says.
    Profile,
    /// To a network that Incus manages.
    Network(String),
    /// To an interface of the host: NIC type and interface.
    Parent(String, String),
}

/// The settings, parsed. Paths have been read.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub endpoint: Endpoint,
    pub project: Option<String>,
    pub image: String,
    pub image_server: String,
    /// PEM of the CA that the image server's certificate leads to.
    pub image_server_ca: Option<String>,
    pub pool: Option<String>,
    pub nic: Nic,
    /// Name servers of unrestricted pixels; none is the network's own.
    pub dns: Vec<IpAddr>,
    pub user: String,
    pub cpu: Option<String>,
    pub memory: Option<u64>,
    pub disk: Option<u64>,
    pub isolate_idmap: bool,
    pub disable_guestapi: bool,
    pub hard_memory_limit: bool,
    /// 0 is no limit.
    pub processes: u64,
    /// Replaces the guest binary that is built in: how to serve another architecture.
    pub guest_binary: Option<PathBuf>,
}

impl Config {
    /// Reads the settings. Certificates are read from their files; nothing is connected.
    pub fn parse(settings: &Settings) -> Result<Self> {
        let get = |key: &str| settings.get(key).map(String::as_str).filter(|v| !v.is_empty());
        let owned = |key: &str| get(key).map(str::to_owned);
        let nic = match (get("network"), get("nic_type"), get("parent")) {
            (Some(network), None, None) => Nic::Network(network.into()),
            (None, Some(kind), Some(parent)) => {
                if !["bridged", "macvlan", "ipvlan", "sriov", "physical", "routed"].contains(&kind)
                {
                    return Err(Error::invalid(
                        "nic_type",
                        kind,
                        "a NIC type is bridged, macvlan, ipvlan, routed, sriov or physical",
                    ));
                }
                Nic::Parent(kind.into(), parent.into())
            }
            (None, None, None) => Nic::Profile,
            (Some(network), ..) => {
                return Err(Error::invalid(
                    "network",
                    network,
                    "network goes without nic_type and parent",
                ));
            }
            (None, kind, parent) => {
                return Err(Error::invalid(
                    "nic_type and parent",
                    kind.or(parent).unwrap_or_default(),
                    "nic_type and parent go together",
                ));
            }
        };
        Ok(Self {
            endpoint: endpoint(settings)?,
            project: owned("project"),
            image: owned("default_image").unwrap_or_else(|| "ubuntu/24.04".into()),
            image_server: owned("image_server").unwrap_or_else(|| IMAGE_SERVER.into()),
            image_server_ca: match get("image_server_ca") {
                Some(path) => Some(certificate("incus.image_server_ca", path)?),
                None => None,
            },
            pool: owned("pool"),
            nic,
            dns: addresses(settings, "dns")?,
            user: owned("user").unwrap_or_else(|| "pixel".into()),
            cpu: owned("cpu"),
            memory: number(settings, "memory")?,
            disk: number(settings, "disk")?,
            isolate_idmap: flag(settings, "isolate_idmap", true)?,
            disable_guestapi: flag(settings, "disable_guestapi", true)?,
            hard_memory_limit: flag(settings, "hard_memory_limit", true)?,
            processes: number(settings, "limit_processes")?.unwrap_or(PROCESSES),
            guest_binary: get("guest_binary").map(PathBuf::from),
        })
    }
}

fn endpoint(settings: &Settings) -> Result<Endpoint> {
    let get = |key: &str| settings.get(key).map(String::as_str).filter(|v| !v.is_empty());
    let Some(remote) = get("remote") else {
        return Ok(Endpoint::Unix(PathBuf::from(get("socket").unwrap_or(SOCKET))));
    };
    let (host, port) = split_remote(remote)?;
    let trust = match get("server_cert") {
        Some(path) => ServerTrust::Pem(certificate("incus.server_cert", path)?.into_bytes()),
        None => ServerTrust::System,
    };
    let identity = match (get("client_cert"), get("client_key")) {
        (Some(cert), Some(key)) => Some(identity(cert, key)?),
        (None, None) => None,
        (cert, key) => {
            return Err(Error::invalid(
                "incus.client_cert and incus.client_key",
                cert.or(key).unwrap_or_default(),
                "a client certificate and its key go together",
            ));
        }
    };
    Ok(Endpoint::Tls(TlsEndpoint { host, port, trust, identity }))
}

/// `https://host:port`, `host:port`, `host` or a bracketed IPv6 address, into
/// host and port.
///
/// # Errors
/// [`Error::Invalid`] for anything else: another scheme, a path, credentials.
pub fn split_remote(remote: &str) -> Result<(String, u16)> {
    let invalid = || {
        Error::invalid(
            "remote",
            remote,
            "a remote is https://host:port, without path or credentials",
        )
    };
    let full = if remote.contains("://") { remote.to_owned() } else { format!("https://{remote}") };
    let url = url::Url::parse(&full).map_err(|_| invalid())?;
    let plain = url.scheme() == "https"
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let host = url.host_str().filter(|_| plain).ok_or_else(invalid)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // The URL type drops a port that is the scheme's default.
    let port =
        url.port().unwrap_or(if full.trim_end_matches('/').ends_with(":443") { 443 } else { PORT });
    Ok((host.to_owned(), port))
}

/// A file's text. What it holds is in no error: it may be a key.
fn read_text(key: &str, path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| {
        let rule = match e.kind() {
            ErrorKind::NotFound => "there is no such file".to_owned(),
            ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
            ErrorKind::IsADirectory => "it is a directory".to_owned(),
            ErrorKind::InvalidData => "it is not text, and PEM is".to_owned(),
            _ => format!("cannot read it: {e}"),
        };
        Error::invalid(key, path, &rule)
    })
}

/// A file with at least one certificate.
fn certificate(key: &str, path: &str) -> Result<String> {
    let text = read_text(key, path)?;
    pixels_wire::cert::parse_pem(text.as_bytes())
        .map_err(|_| Error::invalid(key, path, NO_CERTIFICATE))?;
    Ok(text)
}

const NO_CERTIFICATE: &str = "it holds no certificate in PEM";

fn identity(cert: &str, key: &str) -> Result<ClientIdentity> {
    let identity = ClientIdentity {
        cert_chain_pem: certificate("incus.client_cert", cert)?.into_bytes(),
        key_pem: read_text("incus.client_key", key)?.into_bytes(),
    };
    match identity.check() {
        Ok(()) => Ok(identity),
        Err(IdentityFault::Certificate) => {
            Err(Error::invalid("incus.client_cert", cert, NO_CERTIFICATE))
        }
        Err(IdentityFault::Key) => {
            Err(Error::invalid("incus.client_key", key, "it holds no private key in PEM"))
        }
        Err(IdentityFault::Mismatch) => {
            Err(Error::invalid("incus.client_key", key, "it is not the key of incus.client_cert"))
        }
    }
}

fn number(settings: &Settings, key: &str) -> Result<Option<u64>> {
    match settings.get(key).filter(|v| !v.is_empty()) {
        None => Ok(None),
        Some(v) => v.parse().map(Some).map_err(|_| Error::invalid(key, v, "it is a whole number")),
    }
}

fn addresses(settings: &Settings, key: &str) -> Result<Vec<IpAddr>> {
    let text = settings.get(key).map_or("", String::as_str);
    text.split(',')
        .map(str::trim)
        .filter(|t| !t.is_empty())
        .map(|t| t.parse().map_err(|_| Error::invalid(key, t, "it is an IP address")))
        .collect()
}

fn flag(settings: &Settings, key: &str, default: bool) -> Result<bool> {
    match settings.get(key).map(String::as_str) {
        None | Some("") => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(v) => Err(Error::invalid(key, v, "it is true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes() {
        for (raw, host, port) in [
            ("https://10.0.0.1:8443", "10.0.0.1", 8443),
            ("incus.lan", "incus.lan", 8443),
            ("incus.lan:443", "incus.lan", 443),
            ("https://[::1]:9000/", "::1", 9000),
        ] {
            assert_eq!(split_remote(raw).unwrap(), (host.into(), port), "{raw}");
        }
        for bad in ["http://x", "https://u@x", "https://x/path", "https://", "x?y", ""] {
            assert_eq!(split_remote(bad).unwrap_err().code(), "invalid", "{bad}");
        }
    }

    #[test]
    fn refusals_name_value_and_rule() {
        let parse = |k: &str, v: &str| {
            Config::parse(&Settings::from([(k.to_owned(), v.to_owned())])).unwrap_err().to_string()
        };
        assert_eq!(
            parse("isolate_idmap", "yes"),
            "invalid isolate_idmap \"yes\": it is true or false"
        );
        assert_eq!(
            parse("parent", "eth9"),
            "invalid nic_type and parent \"eth9\": nic_type and parent go together"
        );
    }
}
