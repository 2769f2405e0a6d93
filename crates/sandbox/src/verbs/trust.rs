//! Becoming a client that a remote daemon trusts.

use std::path::{Path, PathBuf};

use pixels_core::{Error, Result};
use pixels_incus::trust;
use serde::Serialize;

use crate::config::{Config, edit};

/// A remote that trusts us now, as it was written to the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrustedRemote {
    /// `https://host:port`.
    pub remote: String,
    /// What the token calls this client.
    pub client_name: String,
    /// The configuration file that was changed.
    pub config: PathBuf,
    /// The server's pinned certificate.
    pub server_cert: PathBuf,
}

/// Redeems an Incus trust token: makes a key pair beside the configuration
/// file, has the daemon trust it, and sets `[incus] remote`, `client_cert`,
/// `client_key` and `server_cert`. Doing it again with the same token is harmless.
///
/// # Errors
/// What redeeming says; `Invalid` where there is no place for a configuration
/// file, or one that cannot be changed.
pub async fn trust_remote(config: &Config, token: &str) -> Result<TrustedRemote> {
    let file = config.file().ok_or_else(|| {
        Error::invalid("configuration", "", "there is no home directory to keep it in")
            .with_hint("--config names a file")
    })?;
    let file =
        std::path::absolute(file).map_err(|e| Error::backend("configuration", e.to_string()))?;
    let dir = file.parent().unwrap_or(Path::new("/")).join("remotes");
    let trusted = trust::redeem(token, &dir).await?;
    let text = |path: &Path| match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Error::invalid("path", &path.to_string_lossy(), "a configured path is UTF-8")),
    };
    let (cert, key) = (text(&trusted.client_cert)?, text(&trusted.client_key)?);
    let server = text(&trusted.server_cert)?;
    let values = [
        ("remote", trusted.remote.as_str()),
        ("client_cert", &cert),
        ("client_key", &key),
        ("server_cert", &server),
    ];
    edit::set(&file, "incus", &values)?;
    Ok(TrustedRemote {
        remote: trusted.remote,
        client_name: trusted.client_name,
        config: file,
        server_cert: trusted.server_cert,
    })
}
