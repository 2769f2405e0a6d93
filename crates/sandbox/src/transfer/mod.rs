//! push and pull.

use std::path::{Path, PathBuf};

use pixels_core::{Error, Owner, Progress, Result};
use serde::Serialize;

use crate::{Pixels, Remote};

/// How to push.
#[derive(Clone, Debug, Default)]
pub struct PushOpts {
    /// Who is to own what arrives; `None` is the user that commands run as,
    /// where the pixel has it, else root.
    pub owner: Option<Owner>,
    /// Where progress goes: [`pixels_core::Event::Bytes`].
    pub progress: Progress,
}

/// How to pull.
#[derive(Clone, Debug, Default)]
pub struct PullOpts {
    /// Where progress goes: [`pixels_core::Event::Bytes`].
    pub progress: Progress,
}

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Transferred {
    /// Regular files.
    pub files: u64,
    /// Directories that were made.
    pub dirs: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of files.
    pub bytes: u64,
}

impl Pixels {
    /// Copies files and trees of this host into a pixel.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for a FIFO, socket or device.
    pub async fn push(
        &self,
        sources: &[PathBuf],
        to: &Remote,
        opts: PushOpts,
    ) -> Result<Transferred> {
        let _ = (sources, to, opts);
        Err(Error::unsupported(self.backend().kind(), "push"))
    }

    /// Copies a file or tree of a pixel to this host.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for a FIFO, socket or device.
    pub async fn pull(&self, from: &Remote, to: &Path, opts: PullOpts) -> Result<Transferred> {
        let _ = (from, to, opts);
        Err(Error::unsupported(self.backend().kind(), "pull"))
    }
}
