//! Files inside pixels.

use async_trait::async_trait;
use serde::Serialize;

use crate::{Bytes, Reader, Result};

/// Who owns a file inside a pixel, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What kind of thing a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A FIFO, socket or device: never opened.
    Special,
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// What it is.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Who owns it.
    pub owner: Owner,
    /// Seconds since 1970 of the last change to its content.
    pub mtime: u64,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name: one component, never empty, `.`, `..` or with a `/` in it.
    pub name: Bytes,
    /// The entry itself, links not followed.
    pub stat: FileStat,
}

/// One entry of [`crate::SandboxExt::list_files`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// The path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOpts {
    /// Permission bits; `None` keeps those of a file that is replaced, and is `0o644` for a new one.
    pub mode: Option<u32>,
    /// Owner; `None` keeps that of a file that is replaced, and is root for a new one.
    pub owner: Option<Owner>,
    /// Time of last change in seconds since 1970; `None` is now.
    pub mtime: Option<u64>,
}

/// File operations inside one pixel, over one connection.
///
/// Paths are bytes and absolute. They are resolved inside the pixel, never on
/// the host. All methods may be called at once from several tasks.
///
/// Not promised: that two calls see the same tree. The guest may change it
/// between any two.
#[async_trait]
pub trait FileSession: Send + Sync {
    /// What `path` is; the last link in it is followed if `follow`.
    async fn stat(&self, path: &[u8], follow: bool) -> Result<FileStat>;
    /// The names in a directory, in no particular order.
    async fn read_dir(&self, path: &[u8]) -> Result<Vec<DirEntry>>;
    /// Where a symbolic link points.
    async fn read_link(&self, path: &[u8]) -> Result<Bytes>;
    /// Opens a regular file for reading; links are followed. Anything but a
    /// regular file is an error, at once.
    async fn open_read(&self, path: &[u8]) -> Result<(FileStat, Reader)>;
    /// Writes a file so that `path` holds all of the old content or all of the
    /// new, whatever happens in between. Parents must exist. A directory, FIFO,
    /// socket or device at `path` is an error and stays; links are followed. Returns the bytes written.
    async fn write(&self, path: &[u8], content: Reader, opts: WriteOpts) -> Result<u64>;
    /// Makes a directory. One that exists is [`crate::Error::AlreadyExists`].
    async fn mkdir(&self, path: &[u8], mode: u32, owner: Option<Owner>) -> Result<()>;
    /// Makes a symbolic link at `path`.
    async fn symlink(&self, target: &[u8], path: &[u8], owner: Option<Owner>) -> Result<()>;
    /// Renames, replacing a file in the way.
    async fn rename(&self, from: &[u8], to: &[u8]) -> Result<()>;
    /// Removes a file or link, not a directory.
    async fn remove_file(&self, path: &[u8]) -> Result<()>;
    /// Removes an empty directory.
    async fn remove_dir(&self, path: &[u8]) -> Result<()>;
    /// Changes permission bits, owner and time of what `path` is, links followed.
    async fn set_attrs(&self, path: &[u8], opts: WriteOpts) -> Result<()>;
    /// A name that nothing else has, for what is made next to its place and
    /// renamed into it when it is whole. It begins with `.pixels-`.
    fn temp_name(&self) -> Bytes {
        use std::hash::{BuildHasher, Hasher};
        let random = std::hash::RandomState::new().build_hasher().finish();
        format!(".pixels-{random:016x}").into_bytes()
    }
    /// Whether this is something half-made, under a [`FileSession::temp_name`],
    /// whose maker is gone: nothing will ever rename it into place.
    fn is_leftover(&self, _entry: &DirEntry) -> bool {
        false
    }
}
