//! What is to be moved: a tree as it was when looked at, and how much of it has been.

use std::sync::atomic::{AtomicU64, Ordering};

use pixels_core::{Error, Event, FileKind, Progress, Result, text};

use super::Transferred;

/// The deepest tree that is copied. A guest can make one without end.
pub(super) const MAX_DEPTH: usize = 256;
/// The most entries that are copied in one call.
pub(super) const MAX_ENTRIES: u64 = 2_000_000;

/// One entry of a tree, with what is below it.
#[derive(Debug)]
pub(super) struct Node {
    /// Its name in its directory; nothing for the root.
    pub name: Vec<u8>,
    pub kind: FileKind,
    /// Permission bits without setuid and setgid: the owner changes on the way.
    pub mode: u32,
    pub mtime: u64,
    pub size: u64,
    pub children: Vec<Node>,
}

impl Node {
    /// The bytes of all files in it.
    pub(super) fn bytes(&self) -> u64 {
        let below = self.children.iter().map(Self::bytes);
        let own = if self.kind == FileKind::File { self.size } else { 0 };
        below.fold(own, u64::saturating_add)
    }
}

/// Bounds a walk.
#[derive(Default)]
pub(super) struct Bounds {
    entries: u64,
}

impl Bounds {
    /// Counts one entry at `path`.
    ///
    /// # Errors
    /// Past a bound.
    pub(super) fn entry(&mut self, depth: usize, path: &[u8]) -> Result<()> {
        self.entries += 1;
        if depth > MAX_DEPTH {
            return Err(refuse(path, &format!("it is nested deeper than {MAX_DEPTH} directories")));
        }
        if self.entries > MAX_ENTRIES {
            return Err(refuse(path, &format!("there are more than {MAX_ENTRIES} entries")));
        }
        Ok(())
    }
}

/// A refusal that names the path, with its control characters stripped.
pub(super) fn refuse(path: &[u8], rule: &str) -> Error {
    Error::invalid("path", &text::clean_bytes(path), rule)
}

/// The refusal of what is neither file, directory nor link.
pub(super) fn special(path: &[u8]) -> Error {
    refuse(path, "a FIFO, socket or device cannot be copied")
}

/// `dir/name`.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Whether `name` is one component that means itself.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

/// A name that nothing else has, for what is not finished.
pub(super) fn temp_name() -> String {
    use std::hash::{BuildHasher, Hasher};
    format!(".pixels-{:016x}", std::hash::RandomState::new().build_hasher().finish())
}

/// Counts what has been moved and reports it.
pub(super) struct Meter {
    files: AtomicU64,
    dirs: AtomicU64,
    links: AtomicU64,
    bytes: AtomicU64,
    total: u64,
    progress: Progress,
}

impl Meter {
    pub(super) fn new(total: u64, progress: Progress) -> Self {
        let zero = || AtomicU64::new(0);
        Self { files: zero(), dirs: zero(), links: zero(), bytes: zero(), total, progress }
    }

    pub(super) fn bytes(&self, more: u64) {
        let done = self.bytes.fetch_add(more, Ordering::Relaxed) + more;
        // A file may have grown since it was looked at.
        self.progress.emit(Event::Bytes { done, total: Some(self.total.max(done)) });
    }

    pub(super) fn file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dir(&self) {
        self.dirs.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn link(&self) {
        self.links.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn done(&self) -> Transferred {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Transferred {
            files: get(&self.files),
            dirs: get(&self.dirs),
            links: get(&self.links),
            bytes: get(&self.bytes),
        }
    }
}
