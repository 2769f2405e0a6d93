//! The process's environment, taken once and handed around, so that nothing
//! below reads global state and tests need not change it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// A copy of an environment. `Debug` shows how many variables it has, no more.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environ(BTreeMap<OsString, OsString>);

impl Environ {
    /// This process's environment as it is now.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// A variable's value. One that is set to nothing counts as unset.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }

    /// A variable's value even where it is empty.
    pub fn raw(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The home directory, `$HOME`.
    pub fn home(&self) -> Option<&Path> {
        self.get("HOME").map(Path::new)
    }

    /// Where the configuration is unless told otherwise:
    /// `$XDG_CONFIG_HOME/pixels/config.toml`, else `~/.config/pixels/config.toml`.
    /// `None` where neither variable is set. A relative `XDG_CONFIG_HOME` is
    /// ignored, as its specification says.
    pub fn config_file(&self) -> Option<PathBuf> {
        let base = match self.get("XDG_CONFIG_HOME").map(Path::new).filter(|p| p.is_absolute()) {
            Some(dir) => dir.to_owned(),
            None => self.home()?.join(".config"),
        };
        Some(base.join("pixels").join("config.toml"))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environ {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(vars: T) -> Self {
        Self(vars.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl fmt::Debug for Environ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environ({} variables)", self.0.len())
    }
}
