//! push and pull.

mod guest;
mod host;
mod pull;
mod push;
mod tree;

use std::path::{Path, PathBuf};

use pixels_core::{Name, Owner, Progress, Result};
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

/// How many files of one directory are on their way at once. A small file is
/// all waiting for answers.
const AT_ONCE: usize = 8;
/// How much of a file is in memory at once, in bytes.
const BLOCK: usize = 256 * 1024;

/// `path` in a pixel, from `home` where it is relative.
fn absolute(home: &[u8], path: &[u8]) -> Vec<u8> {
    match path {
        [] => home.to_vec(),
        [b'/', ..] => path.to_vec(),
        _ => tree::join(home, path),
    }
}

impl Pixels {
    /// Copies files and trees of this host into a pixel, running or not, by the
    /// rules of `docker cp`:
    ///
    /// - into a directory that exists, each source goes under its own name;
    ///   several sources need one;
    /// - to a path where nothing is, the one source becomes that path; its
    ///   parent has to exist, and a file needs a path without a slash at its end;
    /// - a source that ends in `/.` means what is in it;
    /// - links are copied as links, unless the source itself ends in a slash.
    ///
    /// Permissions and times are kept, setuid and setgid are dropped, because
    /// the owner changes. A file is replaced at once; a tree where nothing was
    /// appears when it is whole; a tree over another one replaces file by file.
    /// Interrupted, [`Pixels::close`] removes what was half-made; where the
    /// process is killed, a `.pixels-*` file or tree may stay behind, next to
    /// what it was to become, and the next push to that directory removes it
    /// (after a day, where that push is another machine's).
    ///
    /// # Errors
    /// `NotFound` for a source or parent that is missing; `Invalid` naming a
    /// FIFO, socket or device (before anything is changed), or a directory
    /// where a file has to go.
    pub async fn push(
        &self,
        sources: &[PathBuf],
        to: &Remote,
        opts: PushOpts,
    ) -> Result<Transferred> {
        self.push_inner(sources, to, opts).await
    }

    /// Copies a file or tree of a pixel, running or not, to this host, by the
    /// rules of [`Pixels::push`] the other way.
    ///
    /// The pixel is not trusted. Its links arrive as links, as they are, and are never
    /// followed, nor are links in a tree that is written over; setuid and
    /// setgid are dropped; names, depth and number of entries are checked.
    /// A link on this host where a file goes is replaced. What was half-made
    /// is removed at once on failure and on interruption.
    ///
    /// # Errors
    /// As [`Pixels::push`].
    pub async fn pull(&self, from: &Remote, to: &Path, opts: PullOpts) -> Result<Transferred> {
        self.pull_inner(from, to, opts).await
    }

    /// Removes a half-made tree that an interrupted push left in a pixel.
    pub(crate) async fn remove_path(&self, pixel: &Name, path: &[u8]) -> Result<()> {
        match self.backend().files(pixel).await {
            Ok(session) => guest::remove(session.as_ref(), path.to_vec(), 0).await,
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e),
        }
    }
}
