//! The protocol of the face `files`: file operations over one stream socket,
//! one operation at a time.
//!
//! A frame is a head of [`HEAD_LEN`] bytes (u32 length of what follows the
//! length, u8 tag) and a body. The host asks with a [`Request`], and:
//!
//! - `Read` is answered by [`Reply::Stat`], then frames of [`DATA`], then [`END`];
//! - `ReadDir` by any number of [`Reply::Entries`], then [`END`];
//! - `Write` by [`Reply::Done`], which asks for the content: frames of [`DATA`], then
//!   [`END`] to put it in place or [`ABORT`] to drop it, answered by [`Reply::Done`];
//! - `Stat` by [`Reply::Stat`], `ReadLink` by [`Reply::Link`], the rest by [`Reply::Done`].
//!
//! [`Reply::Error`] may stand wherever an answer may, and ends the operation. One
//! that comes while content is on its way leaves the rest of it to be read and dropped.
//!
//! Neither side trusts the other: the host's answers come from inside a pixel.

mod frames;

use std::fmt;

pub use frames::Listing;

/// Bytes of a frame's head.
pub const HEAD_LEN: usize = 5;
/// The most bytes of a frame's body.
pub const MAX_BODY: usize = 256 * 1024;
/// The longest path in bytes: the kernel's own limit, without the NUL.
pub const MAX_PATH: usize = 4095;
/// The longest name of one entry in bytes. Linux's file systems have 255
/// characters, some of them of several bytes.
pub const MAX_NAME: usize = 1024;
/// How the name of a half-made file begins.
pub const TEMP_PREFIX: &[u8] = b".pixels-";

/// Tag of a frame of content.
pub const DATA: u8 = 1;
/// Tag of the end of content or of a listing; it has no body.
pub const END: u8 = 2;
/// Tag of content given up half-way; it has no body.
pub const ABORT: u8 = 3;

/// A frame or a value that breaks a rule; the text is the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(
    /// The rule, as a clause.
    pub &'static str,
);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

const BAD: Refused = Refused("a frame is malformed");

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the frame is.
    pub tag: u8,
    /// Bytes of its body, at most [`MAX_BODY`].
    pub len: usize,
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    /// A body beyond [`MAX_BODY`].
    pub fn decode(head: &[u8; HEAD_LEN]) -> Result<Self, Refused> {
        let [a, b, c, d, tag] = *head;
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| BAD)?;
        match len.checked_sub(1) {
            Some(len) if len <= MAX_BODY => Ok(Self { tag, len }),
            Some(_) => Err(Refused("a frame is too long")),
            None => Err(BAD),
        }
    }

    /// The head of a frame of `len` bytes; `len` is at most [`MAX_BODY`].
    pub fn encode(tag: u8, len: usize) -> [u8; HEAD_LEN] {
        debug_assert!(len <= MAX_BODY, "frames are bounded");
        let [a, b, c, d] = u32::try_from(len + 1).unwrap_or(u32::MAX).to_be_bytes();
        [a, b, c, d, tag]
    }
}

/// What kind of thing a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A FIFO, socket or device.
    Special,
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Seconds since 1970 of the last change of the content.
    pub mtime: u64,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One component that means itself.
    pub name: Vec<u8>,
    /// The entry itself, links not followed.
    pub stat: Stat,
}

/// User id and group id.
pub type Ids = (u32, u32);

/// What is to be set; `None` leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Permission bits (`0o7777`).
    pub mode: Option<u32>,
    /// Owner.
    pub owner: Option<Ids>,
    /// Seconds since 1970.
    pub mtime: Option<u64>,
}

/// One operation. Paths are absolute and have no NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// What a path is.
    Stat {
        /// The path.
        path: Vec<u8>,
        /// Whether a link at its end is followed.
        follow: bool,
    },
    /// The names in a directory.
    ReadDir {
        /// The directory.
        path: Vec<u8>,
    },
    /// Where a link points.
    ReadLink {
        /// The link.
        path: Vec<u8>,
    },
    /// The content of a regular file, links followed.
    Read {
        /// The file.
        path: Vec<u8>,
    },
    /// Content for a regular file, links followed.
    Write {
        /// The file.
        path: Vec<u8>,
        /// What the half-made file is called, in the directory where the file is
        /// to be: one component that begins with [`TEMP_PREFIX`].
        temp: Vec<u8>,
        /// Its attributes; what is `None` is that of a file that is replaced.
        attrs: Attrs,
    },
    /// Makes a directory.
    Mkdir {
        /// The directory.
        path: Vec<u8>,
        /// Permission bits (`0o7777`).
        mode: u32,
        /// Owner; `None` is the server's own.
        owner: Option<Ids>,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
        /// The link.
        path: Vec<u8>,
        /// Owner; `None` is the server's own.
        owner: Option<Ids>,
    },
    /// Renames, replacing what is no directory.
    Rename {
        /// The old path.
        from: Vec<u8>,
        /// The new path.
        to: Vec<u8>,
    },
    /// Removes what is no directory.
    RemoveFile {
        /// The path.
        path: Vec<u8>,
    },
    /// Removes an empty directory.
    RemoveDir {
        /// The path.
        path: Vec<u8>,
    },
    /// Sets attributes, links followed.
    SetAttrs {
        /// The path.
        path: Vec<u8>,
        /// What to set.
        attrs: Attrs,
    },
}

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The path of the request; of a rename, the old one.
    Path,
    /// The directory of that path.
    Parent,
    /// The new path of a rename.
    To,
    /// The directory of that.
    ToParent,
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kernel's number. `ENXIO` says of a path that it is a FIFO, socket or
    /// device, `EISDIR` that it is a directory.
    pub errno: i32,
    /// What it is about.
    pub which: Which,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What a path is.
    Stat(Stat),
    /// Some names of a directory.
    Entries(Vec<Entry>),
    /// Where a link points: not empty, no NUL.
    Link(Vec<u8>),
    /// It is done, or content may come.
    Done,
    /// It failed.
    Error(Fault),
}

/// Whether `name` is one component that means itself.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != b"."
        && name != b".."
        && !name.iter().any(|b| matches!(b, 0 | b'/'))
}

fn path(path: &[u8]) -> Result<(), Refused> {
    if path.first() != Some(&b'/') || path.contains(&0) {
        return Err(Refused("a path inside a pixel is absolute and has no NUL"));
    }
    if path.len() > MAX_PATH {
        return Err(Refused("a path has at most 4095 bytes"));
    }
    Ok(())
}

fn link(target: &[u8]) -> Result<(), Refused> {
    if target.is_empty() || target.contains(&0) || target.len() > MAX_PATH {
        return Err(Refused("a link's target is not empty, has no NUL and at most 4095 bytes"));
    }
    Ok(())
}

fn mode(mode: u32) -> Result<(), Refused> {
    if mode > 0o7777 {
        return Err(Refused("permission bits are at most 0o7777"));
    }
    Ok(())
}

impl Request {
    /// The rules of the fields.
    fn check(&self) -> Result<(), Refused> {
        match self {
            Self::Stat { path: p, .. }
            | Self::ReadDir { path: p }
            | Self::ReadLink { path: p }
            | Self::Read { path: p }
            | Self::RemoveFile { path: p }
            | Self::RemoveDir { path: p } => path(p),
            Self::Write { path: p, temp, attrs } => {
                path(p)?;
                if !is_name(temp) || !temp.starts_with(TEMP_PREFIX) {
                    return Err(Refused("a half-made file is called .pixels-…"));
                }
                mode(attrs.mode.unwrap_or(0))
            }
            Self::Mkdir { path: p, mode: m, .. } => path(p).and_then(|()| mode(*m)),
            Self::Symlink { target, path: p, .. } => path(p).and_then(|()| link(target)),
            Self::Rename { from, to } => path(from).and_then(|()| path(to)),
            Self::SetAttrs { path: p, attrs } => {
                path(p).and_then(|()| mode(attrs.mode.unwrap_or(0)))
            }
        }
    }
}
