//! `remote trust`: making this user a client of somebody's Incus.
//!
//! In two steps, so that whoever is interrupted between them runs both again:
//! [`redeem`] gets the server's trust for a key pair of our own, [`save`]
//! writes where both are into the configuration. A key pair that the server
//! trusts already costs no token.

use std::path::{Path, PathBuf};

use pixels_core::Result;
use pixels_incus::trust;

use crate::config::{Config, ConfigError, Source, edit};
use crate::select::{self, Reach, ThisHost};

pub use pixels_incus::trust::Trusted;

/// What [`save`] did.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The file that was written.
    pub file: PathBuf,
    /// The remote that was set there before, if it was another one.
    pub replaced: Option<String>,
    /// What keeps the new remote from being used, if anything does.
    pub overruled: Option<String>,
}

/// Redeems a token of `incus config trust add`. The key pair and the server's
/// certificate go below `$XDG_CONFIG_HOME/pixels/incus`.
///
/// # Errors
/// As [`trust::redeem`]; [`Error::Invalid`](pixels_core::Error::Invalid) where there is no home directory.
pub async fn redeem(config: &Config, token: &str) -> Result<Trusted> {
    let file = config.environ().config_file().ok_or_else(no_home)?;
    let dir = file.parent().unwrap_or(Path::new("/")).join("incus");
    trust::redeem(token, &dir).await
}

/// Sets `[incus] remote, client_cert, client_key, server_cert`, and `project`
/// where the client may use one project alone. Whatever else is in the file
/// stays, comments included.
///
/// `backend` is left alone: with a remote set and `backend` unset it is `incus`.
///
/// # Errors
/// As [`edit::set`].
pub fn save(config: &Config, trusted: &Trusted) -> std::result::Result<Saved, ConfigError> {
    let file = config.file().map(Path::to_owned).ok_or_else(no_home)?;
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| {
            ConfigError::new(path.display().to_string(), None, "a configured path is UTF-8")
        })
    };
    let (cert, key, pin) =
        (text(&trusted.client_cert)?, text(&trusted.client_key)?, text(&trusted.server_cert)?);
    let mut values = vec![
        ("remote", trusted.remote.as_str()),
        ("client_cert", &cert),
        ("client_key", &key),
        ("server_cert", &pin),
    ];
    values.extend(trusted.project.as_deref().map(|project| ("project", project)));
    edit::set(&file, "incus", &values)?;
    let replaced = match (config.source("incus.remote"), &config.incus.remote) {
        (Some(Source::File { .. }), Some(old)) if *old != trusted.remote => Some(old.clone()),
        _ => None,
    };
    Ok(Saved { file, replaced, overruled: overruled(config, trusted) })
}

/// What of this process's surroundings wins over the file.
fn overruled(config: &Config, trusted: &Trusted) -> Option<String> {
    if let Some(source @ (Source::Env { .. } | Source::Flag { .. })) = config.source("incus.remote")
    {
        return Some(format!("{source} sets another remote"))
            .filter(|_| config.incus.remote.as_deref() != Some(trusted.remote.as_str()));
    }
    // As the next command will choose: now there is a remote.
    let mut after = config.clone();
    after.incus.remote = Some(trusted.remote.clone());
    match select::choose(&after, &ThisHost) {
        Ok(choice) if choice.reach == Reach::Remote(trusted.remote.clone()) => None,
        Ok(choice) => Some(format!("the backend is {}, because {}", choice.backend, choice.why)),
        Err(e) => Some(e.to_string()),
    }
}

fn no_home() -> ConfigError {
    ConfigError::new("HOME", None, "neither it nor XDG_CONFIG_HOME is set")
}
