//! The stream that carries a file tree from whoever decodes an archive to
//! whoever writes it to disk (the face `tree` of the guest binary).
//!
//! A stream is [`header`], then records, the last of which is [`Record::End`]: a
//! stream without it was cut off. A record is a u32 length (big-endian, at most
//! [`MAX_RECORD`]) and that many bytes; a [`Kind::File`] is followed by exactly
//! `size` bytes of content. Both sides check every name ([`check_path`]), so that
//! neither has to believe the other.

use std::fmt;

use crate::codec::{Reader, put_bytes};

/// Version of the stream; both ends are of one build.
pub const STREAM_VERSION: u32 = 1;
/// Length of [`header`] in bytes.
pub const STREAM_HEADER_LEN: usize = 8;
/// The longest record in bytes, its length not counted.
pub const MAX_RECORD: usize = 512 * 1024;
/// The longest path, and the longest target of a link, in bytes.
pub const MAX_PATH: usize = 4095;
/// The longest component of a path in bytes.
pub const MAX_NAME: usize = 255;
/// The highest user and group id of a file.
pub const MAX_ID: u32 = 65_535;
/// The most extended attributes of one entry.
pub const MAX_XATTRS: usize = 64;
/// The longest value of an extended attribute in bytes.
pub const MAX_XATTR_VALUE: usize = 64 * 1024;

const MAGIC: [u8; 4] = *b"PXtr";
const END: u8 = 0xff;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its content follows the record.
    File {
        /// Length of the content in bytes.
        size: u64,
    },
    /// A directory; the empty path is the root itself.
    Dir,
    /// A symbolic link.
    Symlink {
        /// Where it points, as it is.
        target: Vec<u8>,
    },
    /// Another name of a file that came before.
    Hardlink {
        /// The path of that file, in the form of [`Entry::path`].
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// The mark that a lower layer's file of this name is gone.
    Whiteout,
    /// The mark on a directory that lower layers' content is gone. Nothing else
    /// of the directory is said by it.
    Opaque,
    /// A device or a socket: counted, never made.
    Special,
}

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, without a leading or trailing slash: see [`check_path`].
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, the special ones too.
    pub mode: u32,
    /// The owner inside the guest.
    pub uid: u32,
    /// The group inside the guest.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// And nanoseconds.
    pub nanos: u32,
    /// Extended attributes, name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// An entry of root's, from 1970, with the usual permissions of its kind.
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind) -> Self {
        let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
        Self { path: path.into(), kind, mode, uid: 0, gid: 0, mtime: 0, nanos: 0, xattrs: vec![] }
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// One more entry.
    Entry(Entry),
    /// The stream is whole.
    End {
        /// How many entries it had.
        entries: u64,
        /// How many bytes of content.
        bytes: u64,
    },
}

/// Why a stream, or an entry on its way into one, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TreeError {
    /// The first bytes are not a stream's, or another version's.
    Header,
    /// A length runs past the end, bytes are left over, or a kind is unknown.
    Malformed,
    /// An entry breaks a rule.
    Entry {
        /// Its path, as far as it is known.
        path: Vec<u8>,
        /// The rule.
        rule: &'static str,
    },
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("not a tree stream of this version"),
            Self::Malformed => f.write_str("malformed tree stream"),
            Self::Entry { path, rule } => {
                write!(f, "entry {:?}: {rule}", String::from_utf8_lossy(path))
            }
        }
    }
}

impl std::error::Error for TreeError {}

/// Checks that `path` can only name something below a root: components of at
/// most [`MAX_NAME`] bytes, joined by single slashes, none of them empty, `.` or
/// `..`, no NUL, at most [`MAX_PATH`] bytes in all.
///
/// # Errors
/// The rule that it breaks.
pub fn check_path(path: &[u8]) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("the path is empty");
    }
    if path[0] == b'/' {
        return Err("the path is absolute");
    }
    if path.len() > MAX_PATH {
        return Err("the path is longer than 4095 bytes");
    }
    if path.contains(&0) {
        return Err("the path has a NUL in it");
    }
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" => return Err("the path has an empty component"),
            b"." => return Err("the path has a . in it"),
            b".." => return Err("the path has a .. in it"),
            name if name.len() > MAX_NAME => {
                return Err("the path has a component longer than 255 bytes");
            }
            _ => {}
        }
    }
    Ok(())
}

impl Entry {
    /// Checks every field against its bounds.
    ///
    /// # Errors
    /// [`TreeError::Entry`] with the path and the rule.
    pub fn check(&self) -> Result<(), TreeError> {
        self.rules().map_err(|rule| TreeError::Entry { path: self.path.clone(), rule })
    }

    fn rules(&self) -> Result<(), &'static str> {
        let root = self.path.is_empty() && matches!(self.kind, Kind::Dir | Kind::Opaque);
        if !root {
            check_path(&self.path)?;
        }
        match &self.kind {
            Kind::Symlink { target } if target.is_empty() => {
                return Err("the link's target is empty");
            }
            Kind::Symlink { target } if target.len() > MAX_PATH => {
                return Err("the link's target is longer than 4095 bytes");
            }
            Kind::Symlink { target } if target.contains(&0) => {
                return Err("the link's target has a NUL in it");
            }
            Kind::Hardlink { target } => {
                check_path(target)
                    .map_err(|_| "the hard link's target is no path inside the tree")?;
            }
            _ => {}
        }
        if self.mode > 0o7777 {
            return Err("the mode has more than permission bits");
        }
        if self.uid > MAX_ID || self.gid > MAX_ID {
            return Err("its owner's or group's id is above 65535");
        }
        if self.nanos >= 1_000_000_000 {
            return Err("the nanoseconds are more than a second");
        }
        if self.xattrs.len() > MAX_XATTRS {
            return Err("it has more than 64 extended attributes");
        }
        let mut total = 0;
        for (name, value) in &self.xattrs {
            if name.is_empty() || name.len() > MAX_NAME || name.contains(&0) {
                return Err("the name of an extended attribute is empty, too long or has a NUL");
            }
            if value.len() > MAX_XATTR_VALUE {
                return Err("an extended attribute is longer than 64 KiB");
            }
            total += name.len() + value.len();
        }
        if total > MAX_RECORD / 2 {
            return Err("its extended attributes are longer than 256 KiB");
        }
        Ok(())
    }
}

/// The first bytes of a stream.
pub fn header() -> [u8; STREAM_HEADER_LEN] {
    let mut out = [0; STREAM_HEADER_LEN];
    out[..4].copy_from_slice(&MAGIC);
    out[4..].copy_from_slice(&STREAM_VERSION.to_be_bytes());
    out
}

/// Checks the first bytes of a stream.
///
/// # Errors
/// [`TreeError::Header`].
pub fn check_header(bytes: &[u8; STREAM_HEADER_LEN]) -> Result<(), TreeError> {
    if *bytes == header() { Ok(()) } else { Err(TreeError::Header) }
}

/// The length of the record whose first four bytes these are.
///
/// # Errors
/// [`TreeError::Malformed`] for 0 and for more than [`MAX_RECORD`].
pub fn record_len(head: [u8; 4]) -> Result<usize, TreeError> {
    match usize::try_from(u32::from_be_bytes(head)) {
        Ok(len) if (1..=MAX_RECORD).contains(&len) => Ok(len),
        _ => Err(TreeError::Malformed),
    }
}

impl Record {
    /// Encodes a record, its length first.
    ///
    /// # Errors
    /// What [`Record::decode`] would refuse is refused here.
    pub fn encode(&self) -> Result<Vec<u8>, TreeError> {
        let mut out = vec![0; 4];
        match self {
            Self::End { entries, bytes } => {
                out.push(END);
                out.extend_from_slice(&entries.to_be_bytes());
                out.extend_from_slice(&bytes.to_be_bytes());
            }
            Self::Entry(entry) => {
                entry.check()?;
                put_entry(&mut out, entry);
            }
        }
        let len = u32::try_from(out.len() - 4).map_err(|_| TreeError::Malformed)?;
        out[..4].copy_from_slice(&len.to_be_bytes());
        Ok(out)
    }

    /// Decodes a record, without its length.
    ///
    /// # Errors
    /// [`TreeError::Malformed`], or the rule that the entry breaks.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        let mut r = Reader::new(bytes);
        let record = take_record(&mut r).ok_or(TreeError::Malformed)?;
        if !r.is_empty() {
            return Err(TreeError::Malformed);
        }
        if let Self::Entry(entry) = &record {
            entry.check()?;
        }
        Ok(record)
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let (kind, size, target): (u8, u64, &[u8]) = match &entry.kind {
        Kind::File { size } => (0, *size, b""),
        Kind::Dir => (1, 0, b""),
        Kind::Symlink { target } => (2, 0, target),
        Kind::Hardlink { target } => (3, 0, target),
        Kind::Fifo => (4, 0, b""),
        Kind::Whiteout => (5, 0, b""),
        Kind::Opaque => (6, 0, b""),
        Kind::Special => (7, 0, b""),
    };
    out.push(kind);
    put_bytes(out, &entry.path);
    match kind {
        0 => out.extend_from_slice(&size.to_be_bytes()),
        2 | 3 => put_bytes(out, target),
        _ => {}
    }
    for number in [entry.mode, entry.uid, entry.gid, entry.nanos] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&entry.mtime.to_be_bytes());
    let count = u32::try_from(entry.xattrs.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    for (name, value) in &entry.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

fn take_record(r: &mut Reader<'_>) -> Option<Record> {
    let kind = r.u8()?;
    if kind == END {
        return Some(Record::End { entries: r.u64()?, bytes: r.u64()? });
    }
    let path = r.bytes()?.to_vec();
    let kind = match kind {
        0 => Kind::File { size: r.u64()? },
        1 => Kind::Dir,
        2 => Kind::Symlink { target: r.bytes()?.to_vec() },
        3 => Kind::Hardlink { target: r.bytes()?.to_vec() },
        4 => Kind::Fifo,
        5 => Kind::Whiteout,
        6 => Kind::Opaque,
        7 => Kind::Special,
        _ => return None,
    };
    let (mode, uid, gid, nanos) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
    let mtime = i64::from_be_bytes(r.array()?);
    let count = usize::try_from(r.u32()?).ok().filter(|n| *n <= MAX_XATTRS)?;
    let mut xattrs = Vec::with_capacity(count);
    for _ in 0..count {
        xattrs.push((r.bytes()?.to_vec(), r.bytes()?.to_vec()));
    }
    Some(Record::Entry(Entry { path, kind, mode, uid, gid, mtime, nanos, xattrs }))
}
