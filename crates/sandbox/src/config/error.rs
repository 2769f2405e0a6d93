//! Why a configuration is refused.

use std::fmt;

use pixels_core::Error;

/// A value, key or file that is refused. Shown as `place: key: problem`, the
/// place being `config.toml:12`, the variable or the flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it was read: a file with its line, a variable, a flag.
    pub place: String,
    /// The key it is about, where it is about one.
    pub key: Option<String>,
    /// What is wrong. Never holds a secret's value.
    pub problem: String,
    /// The next step, where there is one.
    pub hint: Option<String>,
}

impl ConfigError {
    pub(crate) fn new(
        place: impl Into<String>,
        key: Option<&str>,
        problem: impl Into<String>,
    ) -> Self {
        Self {
            place: place.into(),
            key: key.map(str::to_owned),
            problem: problem.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clean = pixels_core::text::clean;
        write!(f, "{}: ", clean(&self.place))?;
        if let Some(key) = &self.key {
            write!(f, "{}: ", clean(key))?;
        }
        f.write_str(&clean(&self.problem))
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for Error {
    /// An [`Error::Invalid`] for callers that know only that type.
    fn from(e: ConfigError) -> Self {
        let hint = e.hint.clone();
        let value = match &e.key {
            Some(key) => format!("{}: {key}", e.place),
            None => e.place.clone(),
        };
        let error = Error::Invalid { what: "configuration".into(), value, rule: e.problem };
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}
