//! The one error type, what it is about, and what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::text::clean;

/// What came out of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of thing that can be missing or in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum What {
    /// A pixel.
    Pixel,
    /// A checkpoint of a pixel; its name is written `pixel:label`.
    Checkpoint,
    /// An image to make pixels from.
    Image,
    /// A file or directory inside a pixel.
    Path,
    /// A storage pool of the backend.
    Pool,
    /// A network of the backend.
    Network,
    /// A project of the backend.
    Project,
    /// A member of the backend's cluster.
    Member,
    /// A domain in an egress policy.
    Domain,
    /// A command to run.
    Command,
    /// A user inside a pixel.
    User,
}

impl What {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pixel => "pixel",
            Self::Checkpoint => "checkpoint",
            Self::Image => "image",
            Self::Path => "path",
            Self::Pool => "pool",
            Self::Network => "network",
            Self::Project => "project",
            Self::Member => "cluster member",
            Self::Domain => "domain",
            Self::Command => "command",
            Self::User => "user",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a call failed, naming the thing it is about.
///
/// Values that came from outside are shown with control characters stripped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The thing does not exist.
    #[error("{what} {:?} not found", clean(name))]
    NotFound {
        /// What kind of thing.
        what: What,
        /// Its name.
        name: String,
    },
    /// Something of that name exists already.
    #[error("{what} {:?} already exists", clean(name))]
    AlreadyExists {
        /// What kind of thing.
        what: What,
        /// Its name.
        name: String,
    },
    /// The pixel is in a state in which this cannot be done.
    #[error("pixel {:?} is {state}, {needs}", clean(name))]
    WrongState {
        /// The pixel.
        name: String,
        /// The state it is in.
        state: crate::Status,
        /// What the call needs, as a clause: `exec needs it running`.
        needs: String,
    },
    /// A value breaks a rule; nothing was changed.
    #[error("invalid {what} {:?}: {rule}", clean(value))]
    Invalid {
        /// What the value is for.
        what: String,
        /// The value.
        value: String,
        /// The rule, as a sentence without a full stop.
        rule: String,
    },
    /// The other side refused, or the policy does.
    #[error("{what}: permission denied: {}", clean(reason))]
    Denied {
        /// What was refused.
        what: String,
        /// Why.
        reason: String,
    },
    /// It took longer than it was given.
    #[error("{what} timed out after {}", seconds(*after))]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// The backend does not answer.
    #[error("cannot reach {target}: {}", clean(reason))]
    Unreachable {
        /// The address or socket.
        target: String,
        /// Why.
        reason: String,
    },
    /// The backend has no such thing.
    #[error("the {backend} backend does not support {op}")]
    Unsupported {
        /// The backend's name.
        backend: String,
        /// What was asked of it.
        op: String,
    },
    /// Storage, a quota or another bounded thing is used up.
    #[error("{what}: no space left: {}", clean(reason))]
    Exhausted {
        /// What was being done.
        what: String,
        /// What is used up.
        reason: String,
    },
    /// The caller gave up; what was half-made is gone.
    #[error("{what} interrupted")]
    Interrupted {
        /// What was going on.
        what: String,
    },
    /// The backend failed in a way that has no name here.
    #[error("{what}: {}", clean(message))]
    Backend {
        /// What was being done.
        what: String,
        /// What the backend said.
        message: String,
        /// The error beneath, where there is one.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// Another error, with the next step that its maker knew.
    #[error("{error}")]
    Hinted {
        /// The error.
        error: Box<Error>,
        /// The next step.
        hint: String,
    },
}

fn seconds(d: Duration) -> String {
    if d.subsec_millis() == 0 {
        format!("{} s", d.as_secs())
    } else {
        format!("{} ms", d.as_millis())
    }
}

impl Error {
    /// A [`Error::Invalid`].
    pub fn invalid(what: &str, value: &str, rule: &str) -> Self {
        Self::Invalid { what: what.into(), value: value.into(), rule: rule.into() }
    }

    /// A [`Error::NotFound`].
    pub fn not_found(what: What, name: impl Into<String>) -> Self {
        Self::NotFound { what, name: name.into() }
    }

    /// A [`Error::AlreadyExists`].
    pub fn exists(what: What, name: impl Into<String>) -> Self {
        Self::AlreadyExists { what, name: name.into() }
    }

    /// A [`Error::Unsupported`].
    pub fn unsupported(backend: &str, op: impl Into<String>) -> Self {
        Self::Unsupported { backend: backend.into(), op: op.into() }
    }

    /// A [`Error::Backend`] that has nothing beneath it.
    pub fn backend(what: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Backend { what: what.into(), message: message.into(), source: None }
    }

    /// The same error with the next step.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self::Hinted { error: Box::new(self), hint: hint.into() }
    }

    /// The error itself, without the hints around it.
    pub fn kind(&self) -> &Self {
        match self {
            Self::Hinted { error, .. } => error.kind(),
            other => other,
        }
    }

    /// Whether something that was named does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind(), Self::NotFound { .. })
    }

    /// Whether something of that name exists already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self.kind(), Self::AlreadyExists { .. })
    }

    /// A word for the kind of failure, stable across versions, for JSON and MCP.
    pub fn code(&self) -> &'static str {
        match self.kind() {
            Self::NotFound { .. } => "not_found",
            Self::AlreadyExists { .. } => "already_exists",
            Self::WrongState { .. } => "wrong_state",
            Self::Invalid { .. } => "invalid",
            Self::Denied { .. } => "denied",
            Self::Timeout { .. } => "timeout",
            Self::Unreachable { .. } => "unreachable",
            Self::Unsupported { .. } => "unsupported",
            Self::Exhausted { .. } => "exhausted",
            Self::Interrupted { .. } => "interrupted",
            Self::Backend { .. } | Self::Hinted { .. } => "backend",
        }
    }

    /// The next step, where there is one to name.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Hinted { hint, .. } => Some(hint.clone()),
            Self::NotFound { what: What::Pixel, .. } => {
                Some("pixels list shows what there is".into())
            }
            Self::NotFound { what: What::Checkpoint, name } => {
                let pixel = name.split(':').next().unwrap_or(name);
                Some(format!("pixels checkpoint list {pixel} shows what there is"))
            }
            Self::NotFound { what: What::Image, .. } => {
                Some("pixels image list shows what there is".into())
            }
            Self::AlreadyExists { what: What::Pixel, name } => {
                Some(format!("pixels destroy {name} removes it"))
            }
            Self::WrongState { name, state: crate::Status::Stopped, .. } => {
                Some(format!("pixels start {name}"))
            }
            Self::Unreachable { .. } => Some("pixels doctor says what is wrong".into()),
            _ => None,
        }
    }
}

/// Turns an upstream error into an [`Error`] that knows whether it means "not
/// found": by a code where the upstream type has one. Converting twice changes
/// nothing.
pub trait WrapNotFound {
    /// This error, as [`Error::NotFound`] of the thing named if that is what it means.
    fn wrap_not_found(self, what: What, name: &str) -> Error;
}

impl WrapNotFound for Error {
    fn wrap_not_found(self, _: What, _: &str) -> Error {
        self
    }
}

impl WrapNotFound for std::io::Error {
    fn wrap_not_found(self, what: What, name: &str) -> Error {
        match self.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(what, name),
            std::io::ErrorKind::AlreadyExists => Error::exists(what, name),
            _ => Error::Backend {
                what: format!("{what} {name:?}"),
                message: self.to_string(),
                source: Some(Box::new(self)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_is_idempotent_and_goes_by_code() {
        let io = std::io::Error::new(std::io::ErrorKind::NotFound, "whatever");
        let once = io.wrap_not_found(What::Pixel, "a");
        assert!(once.is_not_found());
        let twice = once.wrap_not_found(What::Image, "b");
        assert_eq!(twice.to_string(), "pixel \"a\" not found");
        let other = std::io::Error::other("pool not found").wrap_not_found(What::Pixel, "a");
        assert!(!other.is_not_found(), "wording alone must not count");
    }

    #[test]
    fn hostile_values_are_stripped() {
        let err = Error::backend("exec", "a\x1b]0;x\x07b");
        assert_eq!(err.to_string(), "exec: a]0;xb");
        let err = Error::not_found(What::Pixel, "a\x1b[2J");
        assert_eq!(err.to_string(), "pixel \"a[2J\" not found");
    }

    #[test]
    fn a_hint_keeps_the_kind() {
        let err = Error::not_found(What::Image, "x").with_hint("try y");
        assert!(err.is_not_found());
        assert_eq!(err.hint().as_deref(), Some("try y"));
        assert_eq!(err.code(), "not_found");
    }
}
