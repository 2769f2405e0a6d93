//! Configuration: a TOML file, then `PIXELS_*` variables, then flags.
//!
//! [`KEYS`] is the one table of keys, from which reading, `config show` and the
//! reference come. [`Config::load`] lays the layers over each other and refuses
//! what it does not know, naming file and line, variable or flag; [`Config::entries`]
//! says where each value came from. Secrets are in no message and in no `Debug`.
//!
//! A relative path in the file is relative to the file's directory; in a
//! variable or flag, to the working directory. `~/` is the home directory
//! everywhere. A variable that is set to nothing counts as unset.

mod bases;
mod check;
pub mod edit;
mod environ;
mod error;
mod keys;
mod layers;
mod secret;
mod typed;
mod value;
mod vars;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;

pub use bases::Base;
pub use environ::Environ;
pub use error::ConfigError;
pub use keys::{KEYS, Key, reference};
pub use layers::{Flag, Source};
pub use secret::Secret;
pub use typed::{
    Checkpoint, Defaults, Devtools, Hardening, Incus, Local, Mcp, Network, Provision, Ssh, Truenas,
};
pub use value::{Kind, Value};
pub use vars::{Var, VarValue};

use layers::Layers;

/// Where to read the configuration from.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    /// The file that was asked for (`--config`), which then has to exist;
    /// `None` is the default one, which need not.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environ: Environ,
    /// Values from the command line.
    pub flags: Vec<Flag>,
    /// What relative paths in variables and flags start from; `None` leaves them relative.
    pub cwd: Option<PathBuf>,
}

impl Loader {
    /// The default file, this process's environment and no flags.
    pub fn of_process() -> Self {
        Self {
            file: None,
            environ: Environ::of_process(),
            flags: Vec::new(),
            cwd: std::env::current_dir().ok(),
        }
    }

    /// With a file that has to exist.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// With a value for `key` from the flag `name` (with its dashes).
    #[must_use]
    pub fn flag(mut self, key: &str, name: &str, value: impl Into<String>) -> Self {
        self.flags.push(Flag { key: key.into(), name: name.into(), value: value.into() });
        self
    }
}

/// One line of `config show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value; `None` where it is unset, [`Value::Hidden`] where it is a secret.
    pub value: Option<Value>,
    /// Where it came from.
    pub source: Source,
}

/// The configuration, checked, every key with a value or knowingly without.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// `backend`: `local`, `incus` or `truenas`; `None` leaves the choice to [`crate::select`].
    pub backend: Option<String>,
    /// `[truenas]`.
    pub truenas: Truenas,
    /// `[incus]`.
    pub incus: Incus,
    /// `[local]`.
    pub local: Local,
    /// `[defaults]`.
    pub defaults: Defaults,
    /// `[ssh]`.
    pub ssh: Ssh,
    /// `[checkpoint]`.
    pub checkpoint: Checkpoint,
    /// `[provision]`.
    pub provision: Provision,
    /// `[network]`.
    pub network: Network,
    /// `[mcp]`.
    pub mcp: Mcp,
    /// `[env]`, by name.
    pub vars: Vec<Var>,
    environ: Environ,
    file: Option<PathBuf>,
    layers: Layers,
}

impl Default for Config {
    /// The defaults alone: no file, an empty environment, no flags.
    fn default() -> Self {
        let environ = Environ::default();
        Self::build(Layers::defaults(&environ), environ, None)
    }
}

impl Config {
    /// Reads every layer.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing refused: a file that was asked for
    /// and is not there, an unknown key, a wrong type, a bad value.
    pub fn load(loader: Loader) -> Result<Self, ConfigError> {
        let Loader { file, environ, flags, cwd } = loader;
        let mut layers = Layers::defaults(&environ);
        let required = file.is_some();
        let file = file.or_else(|| environ.config_file());
        if let Some(path) = &file
            && let Some(text) = layers::read_file(path, required)?
        {
            // Errors name the path as it was given; values need one that lasts.
            let full = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let base = full.parent().map(PathBuf::from);
            layers.file(path, base.as_deref(), &text, &environ)?;
        }
        layers.environment(&environ, cwd.as_deref())?;
        layers.flags(&flags, &environ, cwd.as_deref())?;
        Ok(Self::build(layers, environ, file))
    }

    /// The file that was read, or would have been had it existed.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.file.as_deref()
    }

    /// The environment that it was read with.
    pub fn environ(&self) -> &Environ {
        &self.environ
    }

    /// Every key with its value and where it came from, in the order of
    /// [`KEYS`], then `[env]` and `[mcp.bases]`. Secrets and the values of `[env]` are hidden.
    pub fn entries(&self) -> Vec<Entry> {
        let keys = KEYS.iter().zip(&self.layers.values).map(|(key, (value, source))| Entry {
            key: key.name.into(),
            value: value.clone().map(|v| if key.secret { Value::Hidden } else { v }),
            source: source.clone(),
        });
        let at = |line| match &self.file {
            Some(path) => Source::File { path: path.clone(), line },
            None => Source::Default,
        };
        let vars = self.vars.iter().map(|var| Entry {
            key: format!("env.{}", var.name),
            value: Some(match var.value {
                VarValue::Forward => Value::Text("(forwarded)".into()),
                _ => Value::Hidden,
            }),
            source: at(var.line),
        });
        let bases = self.mcp.bases.iter().map(|base| Entry {
            key: format!("mcp.bases.{}", base.name),
            value: base.from.clone().or_else(|| base.parent_image.clone()).map(Value::Text),
            source: at(base.line),
        });
        keys.chain(vars).chain(bases).collect()
    }

    /// Where the value of `key` came from.
    pub fn source(&self, key: &str) -> Option<&Source> {
        keys::index(key).map(|at| &self.layers.values[at].1)
    }

    /// The variables of `[env]` that every exec and console gets and that are
    /// never stored: session-only ones, and the host's values of forwarded ones.
    pub fn session_env(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        use std::os::unix::ffi::OsStringExt;
        let value = |var: &Var| match &var.value {
            VarValue::Session(text) => Some(text.expose().as_bytes().to_vec()),
            VarValue::Forward => self.environ.raw(&var.name).map(|v| OsString::from(v).into_vec()),
            VarValue::Stored(_) => None,
        };
        let named = |var: &Var| Some((var.name.clone().into_bytes(), value(var)?));
        self.vars.iter().filter_map(named).collect()
    }
}
