//! What is remembered of images: one file each, replaced whole, and the locks
//! that processes wait on for one another.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pixels_core::{Error, ImageInfo, Result, What};
use serde::{Deserialize, Serialize};

use super::local;

/// An image at hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    /// 64 hexadecimal digits that stand for the content: the SHA-256 of the
    /// file, of the manifest, or of the tree's stream.
    pub(crate) fingerprint: String,
    /// What to call it.
    pub(crate) aliases: Vec<String>,
    /// What it says of itself.
    pub(crate) description: String,
    /// As the kernel spells it.
    pub(crate) architecture: String,
    /// Bytes of its layers together.
    pub(crate) size: u64,
    /// When it was brought in.
    pub(crate) created_at: Timestamp,
    /// The names of its layers, bottom first.
    pub(crate) layers: Vec<String>,
    /// The digests of the layers' archives, in the same order: another image
    /// with the same archive uses the same layer.
    #[serde(default)]
    pub(crate) blobs: Vec<String>,
    /// What it was asked for as.
    pub(crate) source: String,
}

impl Image {
    /// Whether it goes by this name, with or without the server's prefix, or by
    /// the beginning of its fingerprint.
    pub(crate) fn answers_to(&self, name: &str) -> bool {
        let bare = name.strip_prefix("images:").unwrap_or(name);
        self.aliases.iter().any(|a| a == bare || a == name) || self.fingerprint.starts_with(bare)
    }
}

impl Image {
    /// As it is listed.
    pub(crate) fn info(&self) -> ImageInfo {
        ImageInfo {
            aliases: self.aliases.clone(),
            fingerprint: self.fingerprint.clone(),
            description: self.description.clone(),
            architecture: self.architecture.clone(),
            size: self.size,
            created_at: Some(self.created_at),
        }
    }
}

/// The shortest beginning of a fingerprint that names an image.
const SHORTEST_PREFIX: usize = 6;

/// The files of images below the store's root.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    images: PathBuf,
    locks: PathBuf,
}

impl Records {
    pub(crate) fn new(root: &Path) -> Self {
        Self { images: root.join("images"), locks: root.join("locks") }
    }

    fn file(&self, fingerprint: &str) -> PathBuf {
        self.images.join(format!("{fingerprint}.json"))
    }

    /// All images, by name. A record that cannot be read is told and left out.
    pub(crate) fn list(&self) -> Result<Vec<Image>> {
        let found = match fs::read_dir(&self.images) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| local("listing images", &e))?,
        };
        let mut all = Vec::new();
        for entry in found.flatten() {
            let name = entry.file_name();
            let Some(fingerprint) = name.to_str().and_then(|n| n.strip_suffix(".json")) else {
                continue;
            };
            match self.get(fingerprint) {
                Ok(image) => all.extend(image),
                Err(error) => tracing::warn!(%error, "an image is left out"),
            }
        }
        all.sort_by(|a, b| (&a.aliases, &a.fingerprint).cmp(&(&b.aliases, &b.fingerprint)));
        Ok(all)
    }

    /// The image with this whole fingerprint.
    pub(crate) fn get(&self, fingerprint: &str) -> Result<Option<Image>> {
        let path = self.file(fingerprint);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| local("reading an image's record", &e))?,
        };
        let image: Image = serde_json::from_slice(&text)
            .map_err(|e| Error::backend(path.to_string_lossy(), e.to_string()))?;
        Ok((image.fingerprint == fingerprint).then_some(image))
    }

    /// The image of this name, or whose fingerprint alone begins like this.
    ///
    /// # Errors
    /// `Invalid` where several fingerprints do.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Image>> {
        let mut all = self.list()?;
        if let Some(at) = all.iter().position(|i| i.aliases.iter().any(|a| a == name)) {
            return Ok(Some(all.swap_remove(at)));
        }
        let digits = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if name.len() < SHORTEST_PREFIX || !name.bytes().all(digits) {
            return Ok(None);
        }
        all.retain(|i| i.fingerprint.starts_with(name));
        if all.len() > 1 {
            return Err(Error::invalid("image", name, "several fingerprints begin like this"));
        }
        Ok(all.pop())
    }

    /// Writes a record; its names are taken from whatever had them.
    pub(crate) fn put(&self, image: &Image) -> Result<()> {
        let failed = |e: io::Error| local("writing an image's record", &e);
        make_dir(&self.images).map_err(failed)?;
        // Held for some reads and writes of small files: nobody waits long.
        let _lock = Lock::take_blocking(&self.locks, "aliases").map_err(failed)?;
        for mut other in self.list()? {
            let before = other.aliases.len();
            other.aliases.retain(|a| !image.aliases.contains(a));
            if other.fingerprint != image.fingerprint && other.aliases.len() != before {
                self.write(&other).map_err(failed)?;
            }
        }
        self.write(image).map_err(failed)
    }

    fn write(&self, image: &Image) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(image)?;
        let temporary = self.images.join(format!(".{}", random_name()?));
        let written = (|| {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, self.file(&image.fingerprint))?;
            File::open(&self.images)?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes a record. One that is not there is none.
    pub(crate) fn remove(&self, fingerprint: &str) -> Result<()> {
        match fs::remove_file(self.file(fingerprint)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(local("removing an image's record", &e))
            }
            _ => Ok(()),
        }
    }

    /// Waits for its turn with what `key` stands for; `waiting` is called if it
    /// has to.
    pub(crate) async fn lock(&self, key: &str, waiting: impl FnOnce()) -> Result<(Lock, bool)> {
        let failed = |e: io::Error| local("locking an image", &e);
        if let Some(lock) = Lock::try_take(&self.locks, key).map_err(failed)? {
            return Ok((lock, false));
        }
        waiting();
        let (locks, key) = (self.locks.clone(), key.to_owned());
        let taken = super::blocking(move || Lock::take_blocking(&locks, &key)).await?;
        Ok((taken.map_err(failed)?, true))
    }

    /// Whether somebody has the lock.
    pub(crate) fn is_locked(&self, key: &str) -> bool {
        let Ok(file) = File::open(self.locks.join(key)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Removes locks that nobody has and records that were not finished.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for entry in entries(&self.locks)? {
            if let Some(lock) = Lock::try_take(&self.locks, &entry)? {
                let _ = fs::remove_file(&lock.path);
            }
        }
        let _lock = Lock::take_blocking(&self.locks, "aliases")?;
        for entry in entries(&self.images)?.iter().filter(|name| name.starts_with('.')) {
            let _ = fs::remove_file(self.images.join(entry));
        }
        Ok(())
    }
}

/// The names in a directory that are text; none where it is not there.
pub(crate) fn entries(dir: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
        Ok(found) => Ok(found.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()),
    }
}

/// A directory for this user alone.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// 32 hexadecimal digits that nobody else has.
pub(crate) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(super::hex(&bytes))
}

/// A lock held until it is dropped, whatever becomes of the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    fn open(dir: &Path, key: &str) -> io::Result<(File, PathBuf)> {
        make_dir(dir)?;
        let path = dir.join(key);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        Ok((file, path))
    }

    /// Whoever sweeps removes the file of a lock that it holds itself: then the
    /// one that is waited for here is not the one that others see.
    fn is_current(file: &File, path: &Path) -> io::Result<bool> {
        let ours = file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Takes it if nobody has it.
    pub(crate) fn try_take(dir: &Path, key: &str) -> io::Result<Option<Self>> {
        loop {
            let (file, path) = Self::open(dir, key)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
                Ok(()) => {}
            }
            if Self::is_current(&file, &path)? {
                return Ok(Some(Self { _file: file, path }));
            }
        }
    }

    /// Waits for it.
    pub(crate) fn take_blocking(dir: &Path, key: &str) -> io::Result<Self> {
        loop {
            let (file, path) = Self::open(dir, key)?;
            file.lock()?;
            if Self::is_current(&file, &path)? {
                return Ok(Self { _file: file, path });
            }
        }
    }
}

/// A place for what is not finished. Dropped, it goes; of a process that was
/// killed, `sweep` takes it away.
#[derive(Debug)]
pub(crate) struct Temporary {
    dir: PathBuf,
    lock: Lock,
}

impl Temporary {
    /// A new directory below `tmp`.
    pub(crate) fn new(tmp: &Path) -> Result<Self> {
        let failed = |e: io::Error| local("making a temporary directory", &e);
        let name = random_name().map_err(failed)?;
        // The lock is there before what it stands for.
        let lock = Lock::take_blocking(tmp, &format!("{name}.lock")).map_err(failed)?;
        let dir = tmp.join(name);
        let made = Self { dir, lock };
        make_dir(&made.dir).map_err(failed)?;
        Ok(made)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Removes what killed processes left below `tmp`; how many that was.
    pub(crate) fn sweep(tmp: &Path) -> io::Result<usize> {
        let mut removed = 0;
        let all = entries(tmp)?;
        for name in &all {
            let (base, is_lock) = match name.strip_suffix(".lock") {
                Some(base) => (base, true),
                None => (name.as_str(), false),
            };
            if !is_lock && tmp.join(format!("{base}.lock")).exists() {
                continue;
            }
            let Some(lock) = Lock::try_take(tmp, &format!("{base}.lock"))? else { continue };
            let dead = Self { dir: tmp.join(base), lock };
            removed += usize::from(dead.dir.exists());
            drop(dead);
        }
        Ok(removed)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, dir = %self.dir.display(), "cannot remove a temporary directory");
            return;
        }
        let _ = fs::remove_file(&self.lock.path);
    }
}

/// The error for an image that there is not.
pub(crate) fn missing(name: &str) -> Error {
    Error::not_found(What::Image, name).with_hint("pixels image list shows what there is")
}
