//! What the suite runs on, and what a case of it is.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pixels_core::Sandbox;

use crate::Ctx;

/// A backend to be tested.
#[derive(Clone)]
pub struct Subject {
    /// The backend.
    pub backend: Arc<dyn Sandbox>,
    /// The image that pixels are made from; `None` is the backend's default.
    pub image: Option<String>,
    /// What every pixel's name begins with: different in every run, so that
    /// two runs on one server never meet.
    pub prefix: String,
    /// Whether there is a Linux inside with `sh`, `/proc` and coreutils. The
    /// memory backend has none.
    pub linux: bool,
}

impl Subject {
    /// `backend` with its default image, Linux inside, and a prefix of this run's own.
    pub fn new(backend: Arc<dyn Sandbox>) -> Self {
        // Process and time: enough to differ from every run that shares a server.
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let prefix = format!("t{:x}-{:x}", std::process::id(), nanos & 0xff_ffff);
        Self { backend, image: None, prefix, linux: true }
    }

    /// The same with pixels made from `image`.
    #[must_use]
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.image = Some(image.into());
        self
    }

    /// The same without a Linux inside.
    #[must_use]
    pub fn without_linux(mut self) -> Self {
        self.linux = false;
        self
    }
}

/// What a case cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A Linux inside the pixel.
    Linux,
    /// Checkpoints.
    Snapshots,
    /// Clones of checkpoints.
    CloneFrom,
    /// Clones without a checkpoint.
    CloneLive,
    /// Restricted egress modes.
    Egress,
    /// The lack of restricted egress modes.
    NoEgress,
    /// A restore that keeps newer checkpoints.
    KeepsNewer,
    /// Files of stopped pixels.
    FilesWhenStopped,
    /// Arguments and environment as bytes.
    ByteExact,
}

impl Need {
    /// Why a case with this need is left out on `subject`, if it is.
    pub fn unmet(self, subject: &Subject) -> Option<&'static str> {
        let can = subject.backend.capabilities();
        let (met, reason) = match self {
            Self::Linux => (subject.linux, "there is no Linux inside"),
            Self::Snapshots => (can.snapshots, "no checkpoints"),
            Self::CloneFrom => (can.clone_from, "no clones of checkpoints"),
            Self::CloneLive => (can.clone_live, "no clones without a checkpoint"),
            Self::Egress => (can.egress_control, "no restricted egress modes"),
            Self::NoEgress => (!can.egress_control, "restricted egress modes are there"),
            Self::KeepsNewer => (can.restore_keeps_newer, "a restore drops newer checkpoints"),
            Self::FilesWhenStopped => (can.files_when_stopped, "no files of stopped pixels"),
            Self::ByteExact => (can.byte_exact_exec, "arguments are not byte-exact"),
        };
        (!met).then_some(reason)
    }
}

/// What a case returns while it runs.
pub type CaseFuture = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// One test of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// `group::name`.
    pub name: &'static str,
    /// What it cannot do without.
    pub needs: &'static [Need],
    /// Runs it.
    pub run: fn(Ctx) -> CaseFuture,
}

impl Case {
    /// Why it is left out on `subject`, if it is.
    pub fn unmet(&self, subject: &Subject) -> Option<&'static str> {
        self.needs.iter().find_map(|need| need.unmet(subject))
    }
}

/// The error of a subject's constructor that cannot be had here: its cases are
/// then listed as ignored for this reason. Any other error fails them.
#[derive(Debug)]
pub struct Skip(
    /// Why.
    pub String,
);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}
