//! Pixels as the backends report them, and what a new one is asked to be.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{EgressMode, Label, Name, Progress};

/// What a pixel is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// It runs.
    Running,
    /// It does not.
    Stopped,
    /// Its processes are frozen.
    Frozen,
    /// It is on its way up.
    Starting,
    /// It is on its way down.
    Stopping,
    /// The backend says that it is broken.
    Error,
    /// The backend says something that has no name here.
    Unknown,
}

impl Status {
    /// Whether commands can be run in it.
    pub fn is_running(self) -> bool {
        self == Self::Running
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Frozen => "frozen",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Error => "error",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What pixels itself remembers of a pixel. It is stored with the pixel, on
/// the backend, and nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Meta {
    /// When it may be destroyed by `gc`.
    pub expires_at: Option<Timestamp>,
    /// Its egress mode.
    pub egress: EgressMode,
    /// The image or `pixel:label` that it was made from.
    pub origin: Option<String>,
    /// Who asked for it: `cli`, `mcp`, or what a program calls itself.
    pub owner: Option<String>,
}

/// A pixel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Instance {
    /// Its name.
    pub name: Name,
    /// What it is doing.
    pub status: Status,
    /// Its addresses, the one to reach it by first. Empty while none is known.
    pub addresses: Vec<IpAddr>,
    /// When it was made, where the backend says.
    pub created_at: Option<Timestamp>,
    /// Where it runs: the cluster member, where there is one.
    pub location: Option<String>,
    /// Its limits.
    pub limits: Limits,
    /// What pixels remembers of it.
    pub meta: Meta,
}

/// What a pixel may use. `None` is the backend's own default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// CPUs, as the backend spells them: a count (`2`) or a set (`0-3`).
    pub cpu: Option<String>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Root disk in bytes.
    pub disk: Option<u64>,
}

/// What to make from an image.
#[derive(Clone, Debug)]
pub struct CreateOpts {
    /// The new pixel's name.
    pub name: Name,
    /// The image; `None` is the backend's default.
    pub image: Option<String>,
    /// CPUs, as in [`Limits::cpu`].
    pub cpu: Option<String>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Root disk in bytes.
    pub disk: Option<u64>,
    /// The instance alone: no provisioning, no wait until it is ready.
    pub bare: bool,
    /// The cluster member to put it on.
    pub target: Option<String>,
    /// What pixels is to remember of it.
    pub meta: Meta,
    /// Where progress goes.
    pub progress: Progress,
}

impl CreateOpts {
    /// A pixel called `name` with the backend's defaults.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            image: None,
            cpu: None,
            memory: None,
            disk: None,
            bare: false,
            target: None,
            meta: Meta::default(),
            progress: Progress::default(),
        }
    }
}

/// What to change in a clone.
#[derive(Clone, Debug, Default)]
pub struct CloneOpts {
    /// Limits that replace the source's.
    pub limits: Limits,
    /// The cluster member to put it on.
    pub target: Option<String>,
    /// When the clone may be destroyed. A source's own expiry is not inherited.
    pub expires_at: Option<Timestamp>,
    /// Who asked for it.
    pub owner: Option<String>,
    /// Where progress goes.
    pub progress: Progress,
}

/// How to stop a pixel.
#[derive(Clone, Debug)]
pub struct StopOpts {
    /// How long a clean shutdown may take.
    pub timeout: Duration,
    /// Kill it at once.
    pub force: bool,
}

impl Default for StopOpts {
    /// A clean shutdown within 120 s: what systemd needs after a package run.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(120), force: false }
    }
}

/// A checkpoint of a pixel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Its label.
    pub label: Label,
    /// Bytes that it alone holds on disk; `None` where the storage cannot tell.
    pub size: Option<u64>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
}

/// An image that pixels can be made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageInfo {
    /// What to call it in `--image`; empty for an image without an alias.
    pub aliases: Vec<String>,
    /// Its content's fingerprint, hexadecimal.
    pub fingerprint: String,
    /// What it says of itself.
    pub description: String,
    /// Its architecture, as the kernel spells it.
    pub architecture: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was brought in or built.
    pub created_at: Option<Timestamp>,
}

/// What a backend can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Checkpoints.
    pub snapshots: bool,
    /// Clones of a checkpoint.
    pub clone_from: bool,
    /// Clones of a running pixel as it is now, without a checkpoint.
    pub clone_live: bool,
    /// Restricted egress modes.
    pub egress_control: bool,
    /// Restoring past newer checkpoints keeps them.
    pub restore_keeps_newer: bool,
    /// File operations on stopped pixels.
    pub files_when_stopped: bool,
    /// Any byte but NUL in argv, environment and cwd.
    pub byte_exact_exec: bool,
    /// More than one host.
    pub cluster: bool,
    /// A running pixel has an address at which this machine reaches it.
    pub routable: bool,
    /// Notes for a person: what is lost here and why, key to sentence.
    pub notes: BTreeMap<String, String>,
}
