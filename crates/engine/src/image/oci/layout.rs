//! A directory in OCI's layout: `index.json` and `blobs/sha256/<digits>`.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pixels_core::{Bytes, Error, Result, What};
use sha2::{Digest, Sha256};

use super::super::meter::Meter;
use super::{Descriptor, LONGEST_DOCUMENT};

/// A layout and the name of an image in it.
pub(crate) struct Layout {
    dir: PathBuf,
    tag: Option<String>,
}

impl Layout {
    /// A layout, not looked at yet.
    pub(crate) fn new(dir: PathBuf, tag: Option<String>) -> Self {
        Self { dir, tag }
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Its index.
    pub(crate) fn index(&self) -> Result<Bytes> {
        let path = self.dir.join("index.json");
        read(&path, LONGEST_DOCUMENT).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                let name = self.dir.to_string_lossy();
                Error::not_found(What::Image, name).with_hint("an OCI layout has a file index.json")
            }
            _ => Error::backend(path.to_string_lossy(), e.to_string()),
        })
    }

    fn blob(&self, sha256: &str) -> PathBuf {
        self.dir.join("blobs/sha256").join(sha256)
    }

    /// A small blob. The caller compares the digest.
    pub(crate) fn read(&self, sha256: &str, limit: u64) -> Result<Bytes> {
        let path = self.blob(sha256);
        read(&path, limit).map_err(|e| Error::backend(path.to_string_lossy(), e.to_string()))
    }

    /// A link at `to` to a layer whose digest is right.
    pub(crate) async fn link(&self, what: &Descriptor, to: &Path, meter: &Meter) -> Result<()> {
        let (path, sha256) = (self.blob(what.sha256()?), what.sha256()?.to_owned());
        let failed = |e: io::Error| Error::backend(path.to_string_lossy(), e.to_string());
        let path = std::path::absolute(&path).map_err(failed)?;
        let (from, meter) = (path.clone(), meter.clone());
        let hash = super::super::blocking(move || hash_of(&from, &meter)).await?;
        let failed = |e: io::Error| Error::backend(path.to_string_lossy(), e.to_string());
        if hash.map_err(failed)? != sha256 {
            return Err(Error::backend(path.to_string_lossy(), "its content has another digest"));
        }
        std::os::unix::fs::symlink(&path, to).map_err(failed)
    }
}

/// Opens a regular file; nothing else is waited for.
fn open(path: &Path) -> io::Result<File> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblock).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut out)?;
    if out.len() as u64 > limit {
        return Err(io::Error::other("it is longer than such a file can be"));
    }
    Ok(out)
}

/// The SHA-256 of a file's content.
pub(crate) fn hash_of(path: &Path, meter: &Meter) -> io::Result<String> {
    let mut file = open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(super::super::hex(&hash.finalize())),
            Ok(n) => {
                hash.update(&piece[..n]);
                meter.add(n as u64);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
