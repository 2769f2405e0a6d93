//! How requests and answers look in frames.

use super::{
    Attrs, BAD, END, Entry, Fault, HEAD_LEN, Head, Kind, Refused, Reply, Request, Stat, Which,
    is_name, link, mode,
};
use crate::codec::{Reader, put_bytes};

const STAT: u8 = 16;
const READ_DIR: u8 = 17;
const READ_LINK: u8 = 18;
const READ: u8 = 19;
const WRITE: u8 = 20;
const MKDIR: u8 = 21;
const SYMLINK: u8 = 22;
const RENAME: u8 = 23;
const REMOVE_FILE: u8 = 24;
const REMOVE_DIR: u8 = 25;
const SET_ATTRS: u8 = 26;

const A_STAT: u8 = 32;
const A_ENTRIES: u8 = 33;
const A_LINK: u8 = 34;
const A_DONE: u8 = 35;
const A_ERROR: u8 = 36;

impl Request {
    /// The whole frame.
    ///
    /// # Errors
    /// What [`Request::decode`] would refuse is refused here.
    pub fn encode(&self) -> Result<Vec<u8>, Refused> {
        self.check()?;
        let mut out = vec![0; HEAD_LEN];
        let tag = match self {
            Self::Stat { path, follow } => {
                put_bytes(&mut out, path);
                out.push(u8::from(*follow));
                STAT
            }
            Self::ReadDir { path } => one(&mut out, path, READ_DIR),
            Self::ReadLink { path } => one(&mut out, path, READ_LINK),
            Self::Read { path } => one(&mut out, path, READ),
            Self::RemoveFile { path } => one(&mut out, path, REMOVE_FILE),
            Self::RemoveDir { path } => one(&mut out, path, REMOVE_DIR),
            Self::Write { path, temp, attrs } => {
                put_bytes(&mut out, path);
                put_bytes(&mut out, temp);
                put_attrs(&mut out, attrs);
                WRITE
            }
            Self::Mkdir { path, mode, owner } => {
                put_bytes(&mut out, path);
                put_attrs(&mut out, &Attrs { mode: Some(*mode), owner: *owner, mtime: None });
                MKDIR
            }
            Self::Symlink { target, path, owner } => {
                put_bytes(&mut out, path);
                put_bytes(&mut out, target);
                put_attrs(&mut out, &Attrs { owner: *owner, ..Attrs::default() });
                SYMLINK
            }
            Self::Rename { from, to } => {
                put_bytes(&mut out, from);
                put_bytes(&mut out, to);
                RENAME
            }
            Self::SetAttrs { path, attrs } => {
                put_bytes(&mut out, path);
                put_attrs(&mut out, attrs);
                SET_ATTRS
            }
        };
        Ok(seal(out, tag))
    }

    /// Reads the body of a frame with this tag.
    ///
    /// # Errors
    /// A tag that is no request's, and fields that break a rule.
    pub fn decode(tag: u8, body: &[u8]) -> Result<Self, Refused> {
        let mut r = Reader::new(body);
        let request = Self::fields(tag, &mut r)?;
        if !r.is_empty() {
            return Err(BAD);
        }
        request.check()?;
        Ok(request)
    }

    fn fields(tag: u8, r: &mut Reader<'_>) -> Result<Self, Refused> {
        let mut bytes = || r.bytes().map(<[u8]>::to_vec).ok_or(BAD);
        Ok(match tag {
            STAT => Self::Stat { path: bytes()?, follow: flag(r)? },
            READ_DIR => Self::ReadDir { path: bytes()? },
            READ_LINK => Self::ReadLink { path: bytes()? },
            READ => Self::Read { path: bytes()? },
            REMOVE_FILE => Self::RemoveFile { path: bytes()? },
            REMOVE_DIR => Self::RemoveDir { path: bytes()? },
            WRITE => Self::Write { path: bytes()?, temp: bytes()?, attrs: attrs(r)? },
            MKDIR => {
                let path = bytes()?;
                match attrs(r)? {
                    Attrs { mode: Some(mode), owner, mtime: None } => {
                        Self::Mkdir { path, mode, owner }
                    }
                    _ => return Err(BAD),
                }
            }
            SYMLINK => {
                let (path, target) = (bytes()?, bytes()?);
                match attrs(r)? {
                    Attrs { mode: None, owner, mtime: None } => {
                        Self::Symlink { target, path, owner }
                    }
                    _ => return Err(BAD),
                }
            }
            RENAME => Self::Rename { from: bytes()?, to: bytes()? },
            SET_ATTRS => Self::SetAttrs { path: bytes()?, attrs: attrs(r)? },
            _ => return Err(Refused("a frame is no request")),
        })
    }
}

impl Reply {
    /// The whole frame. Entries are better put together by [`Listing`], which
    /// bounds them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEAD_LEN];
        let tag = match self {
            Self::Stat(stat) => {
                put_stat(&mut out, stat);
                A_STAT
            }
            Self::Entries(entries) => {
                for entry in entries {
                    put_bytes(&mut out, &entry.name);
                    put_stat(&mut out, &entry.stat);
                }
                A_ENTRIES
            }
            Self::Link(target) => one(&mut out, target, A_LINK),
            Self::Done => A_DONE,
            Self::Error(fault) => {
                out.extend_from_slice(&fault.errno.to_be_bytes());
                out.push(match fault.which {
                    Which::Path => 0,
                    Which::Parent => 1,
                    Which::To => 2,
                    Which::ToParent => 3,
                });
                A_ERROR
            }
        };
        seal(out, tag)
    }

    /// Reads the body of a frame with this tag.
    ///
    /// # Errors
    /// A tag that is no answer's, a name that is not one component, a link to
    /// nothing, and whatever else no honest server says.
    pub fn decode(tag: u8, body: &[u8]) -> Result<Self, Refused> {
        let mut r = Reader::new(body);
        let reply = match tag {
            A_STAT => Self::Stat(stat(&mut r)?),
            A_ENTRIES => {
                let mut entries = Vec::new();
                if r.is_empty() {
                    // They could come for ever.
                    return Err(Refused("a piece of a listing is empty"));
                }
                while !r.is_empty() {
                    let name = r.bytes().ok_or(BAD)?;
                    if !is_name(name) {
                        return Err(Refused("a directory lists what is no name"));
                    }
                    entries.push(Entry { name: name.to_vec(), stat: stat(&mut r)? });
                }
                Self::Entries(entries)
            }
            A_LINK => {
                let target = r.bytes().ok_or(BAD)?;
                link(target)?;
                Self::Link(target.to_vec())
            }
            A_DONE => Self::Done,
            A_ERROR => {
                let errno = r.i32().ok_or(BAD)?;
                let which = match r.u8() {
                    Some(0) => Which::Path,
                    Some(1) => Which::Parent,
                    Some(2) => Which::To,
                    Some(3) => Which::ToParent,
                    _ => return Err(BAD),
                };
                Self::Error(Fault { errno, which })
            }
            _ => return Err(Refused("a frame is no answer")),
        };
        if r.is_empty() { Ok(reply) } else { Err(BAD) }
    }
}

/// Puts frames of [`Reply::Entries`] together, of about 64 KiB each.
#[derive(Debug)]
pub struct Listing {
    frame: Vec<u8>,
}

impl Listing {
    const FULL: usize = 64 * 1024;

    /// Nothing yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { frame: vec![0; HEAD_LEN] }
    }

    /// Adds an entry; one whose name is no name is left out. Answers a frame
    /// when it is time to send one.
    pub fn push(&mut self, name: &[u8], stat: &Stat) -> Option<Vec<u8>> {
        if is_name(name) {
            put_bytes(&mut self.frame, name);
            put_stat(&mut self.frame, stat);
        }
        (self.frame.len() >= Self::FULL).then(|| self.take())
    }

    fn take(&mut self) -> Vec<u8> {
        seal(std::mem::replace(&mut self.frame, vec![0; HEAD_LEN]), A_ENTRIES)
    }

    /// The last frames: what is left, and [`END`].
    pub fn finish(mut self) -> Vec<u8> {
        let mut out = if self.frame.len() > HEAD_LEN { self.take() } else { Vec::new() };
        out.extend_from_slice(&Head::encode(END, 0));
        out
    }
}

fn one(out: &mut Vec<u8>, bytes: &[u8], tag: u8) -> u8 {
    put_bytes(out, bytes);
    tag
}

fn seal(mut frame: Vec<u8>, tag: u8) -> Vec<u8> {
    let head = Head::encode(tag, frame.len() - HEAD_LEN);
    frame[..HEAD_LEN].copy_from_slice(&head);
    frame
}

fn flag(r: &mut Reader<'_>) -> Result<bool, Refused> {
    match r.u8() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(BAD),
    }
}

fn put_attrs(out: &mut Vec<u8>, attrs: &Attrs) {
    let present = [attrs.mode.is_some(), attrs.owner.is_some(), attrs.mtime.is_some()];
    out.extend(present.map(u8::from));
    let (uid, gid) = attrs.owner.unwrap_or_default();
    for number in [attrs.mode.unwrap_or_default(), uid, gid] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&attrs.mtime.unwrap_or_default().to_be_bytes());
}

fn attrs(r: &mut Reader<'_>) -> Result<Attrs, Refused> {
    let (has_mode, has_owner, has_mtime) = (flag(r)?, flag(r)?, flag(r)?);
    let (mode, uid, gid) = (r.u32().ok_or(BAD)?, r.u32().ok_or(BAD)?, r.u32().ok_or(BAD)?);
    let mtime = r.u64().ok_or(BAD)?;
    Ok(Attrs {
        mode: has_mode.then_some(mode),
        owner: has_owner.then_some((uid, gid)),
        mtime: has_mtime.then_some(mtime),
    })
}

fn put_stat(out: &mut Vec<u8>, stat: &Stat) {
    out.push(match stat.kind {
        Kind::File => 0,
        Kind::Dir => 1,
        Kind::Symlink => 2,
        Kind::Special => 3,
    });
    for number in [stat.mode, stat.uid, stat.gid] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    for number in [stat.size, stat.mtime] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn stat(r: &mut Reader<'_>) -> Result<Stat, Refused> {
    let kind = match r.u8() {
        Some(0) => Kind::File,
        Some(1) => Kind::Dir,
        Some(2) => Kind::Symlink,
        Some(3) => Kind::Special,
        _ => return Err(BAD),
    };
    let (bits, uid, gid) = (r.u32().ok_or(BAD)?, r.u32().ok_or(BAD)?, r.u32().ok_or(BAD)?);
    mode(bits)?;
    let (size, mtime) = (r.u64().ok_or(BAD)?, r.u64().ok_or(BAD)?);
    Ok(Stat { kind, size, mode: bits, uid, gid, mtime })
}
