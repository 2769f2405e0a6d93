//! Writes a tree from a stream, confined to its directory.
//!
//! The directory is held open; every parent is looked up below it with
//! openat2(`RESOLVE_IN_ROOT`), so that a link of the tree leads at most to
//! another place of the tree. The last component is never followed: what is in
//! its place is removed first. Nobody else writes below the directory meanwhile.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use pixels_guest_api::tree::{
    Entry, Kind, Record, STREAM_HEADER_LEN, TreeError, check_header, record_len,
};

use crate::sys::fd;
use crate::sys::place::{self, IN_ROOT, Occupant, STAY};

/// What a tree may measure.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Entries, whatever their kind.
    entries: u64,
    /// Bytes of content altogether.
    bytes: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Entries of the stream.
    pub(crate) entries: u64,
    /// Bytes of content.
    pub(crate) bytes: u64,
    /// Devices and sockets, which are never made.
    pub(crate) left_out: u64,
    /// Extended attributes that are not taken, or that this file system has no room for.
    pub(crate) xattrs_left_out: u64,
}

/// Writes the stream from the descriptor `input` below the directory `dir`, which
/// is made if it is missing, and puts it on the disk. Owners become their id plus
/// `shift`; `limits` are entries and bytes. What was written before a failure
/// stays: the caller throws the directory away. The mode mask has been cleared.
///
/// # Errors
/// A broken or truncated stream, an entry that breaks a rule or a limit (named),
/// what the file system says (with the entry named).
pub(crate) fn write(
    dir: &Path,
    input: RawFd,
    shift: u32,
    limits: (u64, u64),
) -> io::Result<Summary> {
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let root = File::options().read(true).custom_flags(flags).open(dir)?;
    let input = BufReader::with_capacity(PIECE, Input(input));
    let limits = Limits { entries: limits.0, bytes: limits.1 };
    write_below(root.as_fd(), input, shift, limits)
}

/// Read and written at once.
const PIECE: usize = 256 * 1024;

struct Input(RawFd);

impl Read for Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        fd::read(self.0, buf)
    }
}

fn write_below(
    root: BorrowedFd<'_>,
    mut input: impl Read,
    shift: u32,
    limits: Limits,
) -> io::Result<Summary> {
    let mut head = [0; STREAM_HEADER_LEN];
    input.read_exact(&mut head).map_err(cut_off)?;
    check_header(&head).map_err(refused)?;
    let mut writer = Writer::new(root, shift, limits)?;
    let mut body = Vec::new();
    loop {
        let mut len = [0; 4];
        input.read_exact(&mut len).map_err(cut_off)?;
        body.resize(record_len(len).map_err(refused)?, 0);
        input.read_exact(&mut body).map_err(cut_off)?;
        match Record::decode(&body).map_err(refused)? {
            Record::Entry(entry) => {
                writer.entry(&entry, &mut input).map_err(|e| named(&entry.path, &e))?;
            }
            Record::End { entries, bytes } => {
                if (entries, bytes) != (writer.done.entries, writer.done.bytes) {
                    return Err(refused(TreeError::Malformed));
                }
                writer.finish()?;
                place::sync_file_system(root)?;
                return Ok(writer.done);
            }
        }
    }
}

fn refused(e: TreeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e.to_string())
}

fn cut_off(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::UnexpectedEof {
        return io::Error::new(e.kind(), "the tree stream was cut off");
    }
    e
}

/// The error with the entry's path before it, unless it is there already.
fn named(path: &[u8], e: &io::Error) -> io::Error {
    let text = e.raw_os_error().map_or_else(|| e.to_string(), crate::sys::describe);
    if text.starts_with("entry ") {
        return io::Error::new(e.kind(), text);
    }
    io::Error::new(e.kind(), format!("entry {:?}: {text}", String::from_utf8_lossy(path)))
}

fn invalid(rule: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, rule)
}

fn has_errno(e: &io::Error, wanted: &[i32]) -> bool {
    e.raw_os_error().is_some_and(|n| wanted.contains(&n))
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| invalid("the path has a NUL in it"))
}

/// A path as parent and name. The stream's checks have been made: no component is odd.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

struct Writer<'a> {
    root: BorrowedFd<'a>,
    shift: u32,
    limits: Limits,
    done: Summary,
    /// What directories get once nothing changes in them any more.
    dirs: BTreeMap<Vec<u8>, Entry>,
    /// The parent last used. Good until something is removed.
    parent: Option<(Vec<u8>, OwnedFd)>,
    piece: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(root: BorrowedFd<'a>, shift: u32, limits: Limits) -> io::Result<Self> {
        place::set_mode(root, 0o755)?;
        let new = Self {
            root,
            shift,
            limits,
            done: Summary::default(),
            dirs: BTreeMap::new(),
            parent: None,
            piece: vec![0; PIECE],
        };
        new.own(root, 0, 0)?;
        Ok(new)
    }

    fn entry(&mut self, entry: &Entry, input: &mut impl Read) -> io::Result<()> {
        self.done.entries += 1;
        if self.done.entries > self.limits.entries {
            return Err(invalid(&format!(
                "the tree has more than {} entries",
                self.limits.entries
            )));
        }
        if entry.path.is_empty() {
            return self.of_root(entry);
        }
        let (parent_path, name) = split(&entry.path);
        let name = c_string(name)?;
        if matches!(entry.kind, Kind::Special) {
            self.done.left_out += 1;
            return Ok(());
        }
        let parent = self.parent(parent_path)?;
        let result = self.make(entry, parent.1.as_fd(), &name, input);
        // What was removed may have been the parent that is kept, or on the way to it.
        self.parent = match result {
            Ok(false) => Some(parent),
            _ => None,
        };
        result.map(drop)
    }

    /// Makes one entry; whether something had to be removed for it.
    fn make(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &CStr,
        input: &mut impl Read,
    ) -> io::Result<bool> {
        match &entry.kind {
            Kind::File { size } => {
                let mut removed = false;
                let file = match place::create(parent, name) {
                    Err(e) if has_errno(&e, &[libc::EEXIST]) => {
                        clear(parent, name)?;
                        removed = true;
                        place::create(parent, name)?
                    }
                    other => other?,
                };
                self.fill(File::from(file), *size, entry, input)?;
                Ok(removed)
            }
            Kind::Dir => self.make_dir(entry, parent, name),
            Kind::Opaque => {
                let removed = self.need_dir(parent, name)?;
                mark_opaque(place::open_dir(parent, name)?.as_fd())?;
                Ok(removed)
            }
            Kind::Symlink { target } => {
                let removed = clear(parent, name)?;
                place::make_symlink(parent, name, &c_string(target)?)?;
                self.own_name(entry, parent, name)?;
                Ok(removed)
            }
            Kind::Hardlink { target } => self.link(target, parent, name),
            Kind::Fifo => {
                let removed = clear(parent, name)?;
                place::make_fifo(parent, name, entry.mode & 0o777)?;
                self.own_name(entry, parent, name)?;
                Ok(removed)
            }
            Kind::Whiteout => match place::occupant(parent, name)? {
                Occupant::Nothing => place::make_whiteout(parent, name).map(|()| false),
                // A whiteout is about lower layers: what this one has stays.
                Occupant::Directory => {
                    mark_opaque(place::open_dir(parent, name)?.as_fd()).map(|()| false)
                }
                Occupant::Whiteout | Occupant::Other => Ok(false),
            },
            Kind::Special => Ok(false),
        }
    }

    fn fill(
        &mut self,
        mut file: File,
        size: u64,
        entry: &Entry,
        input: &mut impl Read,
    ) -> io::Result<()> {
        let left = self.limits.bytes.saturating_sub(self.done.bytes);
        if size > left {
            return Err(invalid(&format!("the tree has more than {} bytes", self.limits.bytes)));
        }
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            input.read_exact(&mut self.piece[..want]).map_err(cut_off)?;
            file.write_all(&self.piece[..want])?;
            left -= want as u64;
        }
        self.done.bytes += size;
        self.dress(file.as_fd(), entry)
    }

    /// Owner before mode and attributes: a change of owner takes set-user-id and
    /// capabilities away.
    fn dress(&mut self, file: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
        self.own(file, entry.uid, entry.gid)?;
        place::set_mode(file, entry.mode)?;
        for (name, value) in &entry.xattrs {
            self.set_xattr(file, name, value)?;
        }
        place::set_mtime(file, entry.mtime, entry.nanos)
    }

    fn set_xattr(&mut self, file: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
        let capability = name == b"security.capability";
        let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if !(capability || user) {
            self.done.xattrs_left_out += 1;
            return Ok(());
        }
        let shifted = if capability { shift_capability(value, self.shift) } else { None };
        match place::set_xattr(file, &c_string(name)?, shifted.as_deref().unwrap_or(value)) {
            Err(e)
                if has_errno(
                    &e,
                    &[libc::EPERM, libc::ENOTSUP, libc::E2BIG, libc::ERANGE, libc::EINVAL],
                ) =>
            {
                self.done.xattrs_left_out += 1;
                Ok(())
            }
            other => other,
        }
    }

    fn own(&self, file: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
        place::set_owner(file, uid + self.shift, gid + self.shift)
    }

    fn own_name(&self, entry: &Entry, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        place::set_owner_of(parent, name, entry.uid + self.shift, entry.gid + self.shift)?;
        place::set_mtime_of(parent, name, entry.mtime, entry.nanos)
    }

    fn make_dir(&mut self, entry: &Entry, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        let removed = self.need_dir(parent, name)?;
        self.dirs.insert(entry.path.clone(), entry.clone());
        Ok(removed)
    }

    /// Has a directory there; one that is there stays. Where a whiteout was, it
    /// is opaque: what lower layers have is gone. Whether something was removed.
    fn need_dir(&self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        let was = place::occupant(parent, name)?;
        let removed = matches!(was, Occupant::Whiteout | Occupant::Other);
        if removed {
            place::remove(parent, name, false)?;
        }
        if was != Occupant::Directory {
            place::make_dir(parent, name, 0o755)?;
            place::set_owner_of(parent, name, self.shift, self.shift)?;
        }
        if was == Occupant::Whiteout {
            mark_opaque(place::open_dir(parent, name)?.as_fd())?;
        }
        Ok(removed)
    }

    fn link(&self, target: &[u8], parent: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        let (target_parent, target_name) = split(target);
        let from = match self.open(target_parent) {
            Err(e) if has_errno(&e, &[libc::ENOENT, libc::ENOTDIR, libc::ELOOP]) => {
                return Err(invalid(&missing_target(target)));
            }
            other => other?,
        };
        let from_name = c_string(target_name)?;
        match place::occupant(from.as_fd(), &from_name)? {
            Occupant::Nothing | Occupant::Whiteout => return Err(invalid(&missing_target(target))),
            Occupant::Directory => return Err(invalid("a hard link to a directory")),
            Occupant::Other => {}
        }
        let mut removed = false;
        loop {
            match place::make_link((from.as_fd(), &from_name), (parent, name)) {
                // The same file twice would remove itself: then it is there already.
                Err(e) if has_errno(&e, &[libc::EEXIST]) && !removed => {
                    if same(from.as_fd(), &from_name, parent, name)? {
                        return Ok(false);
                    }
                    removed = clear(parent, name)?;
                }
                Err(e) if has_errno(&e, &[libc::ENOENT]) => {
                    return Err(invalid(&missing_target(target)));
                }
                other => return other.map(|()| removed),
            }
        }
    }

    fn of_root(&mut self, entry: &Entry) -> io::Result<()> {
        if entry.kind == Kind::Opaque {
            return mark_opaque(self.root);
        }
        self.dirs.insert(Vec::new(), entry.clone());
        Ok(())
    }

    /// The directory `path`, made where it is missing.
    fn parent(&mut self, path: &[u8]) -> io::Result<(Vec<u8>, OwnedFd)> {
        if let Some(kept) = self.parent.take_if(|(kept, _)| kept == path) {
            return Ok(kept);
        }
        let dir = match self.open(path) {
            Err(e) if has_errno(&e, &[libc::ENOENT]) => {
                self.make_parents(path)?;
                self.open(path)
            }
            other => other,
        };
        match dir {
            Ok(dir) => Ok((path.to_vec(), dir)),
            Err(e) if has_errno(&e, &[libc::ENOENT, libc::ENOTDIR, libc::ELOOP]) => {
                Err(invalid("its parent is no directory of the tree"))
            }
            Err(e) => Err(e),
        }
    }

    fn make_parents(&self, path: &[u8]) -> io::Result<()> {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let (parent, name) = split(&path[..end]);
            let (parent, name) = (self.open(parent)?, c_string(name)?);
            match place::make_dir(parent.as_fd(), &name, 0o755) {
                Ok(()) => {
                    place::set_owner_of(parent.as_fd(), &name, self.shift, self.shift)?;
                }
                Err(e) if has_errno(&e, &[libc::EEXIST]) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Opens a directory of the tree, following links inside it.
    fn open(&self, path: &[u8]) -> io::Result<OwnedFd> {
        if path.is_empty() {
            return self.root.try_clone_to_owned();
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        place::open_below(self.root, &c_string(path)?, flags, IN_ROOT | STAY)
    }

    /// Directories get what they are to have, those within others first.
    fn finish(&mut self) -> io::Result<()> {
        for (path, entry) in std::mem::take(&mut self.dirs).into_iter().rev() {
            self.finish_dir(&path, &entry).map_err(|e| named(&path, &e))?;
        }
        Ok(())
    }

    fn finish_dir(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        if path.is_empty() {
            return self.dress(self.root, entry);
        }
        let (parent, name) = split(path);
        let opened =
            self.open(parent).and_then(|dir| place::open_dir(dir.as_fd(), &c_string(name)?));
        match opened {
            Ok(dir) => self.dress(dir.as_fd(), entry),
            // A later entry has taken its place.
            Err(e) if has_errno(&e, &[libc::ENOENT, libc::ENOTDIR, libc::ELOOP]) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

fn missing_target(target: &[u8]) -> String {
    format!("a hard link to {:?}, which is not in the tree", String::from_utf8_lossy(target))
}

/// Whether two names are one file.
fn same(a: BorrowedFd<'_>, a_name: &CStr, b: BorrowedFd<'_>, b_name: &CStr) -> io::Result<bool> {
    Ok(place::identity(a, a_name)? == place::identity(b, b_name)?)
}

fn mark_opaque(dir: BorrowedFd<'_>) -> io::Result<()> {
    place::set_xattr(dir, c"user.overlay.opaque", b"y")
}

/// Removes whatever has this name, and what is in it. Whether there was anything.
fn clear(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match place::occupant(parent, name)? {
        Occupant::Nothing => Ok(false),
        Occupant::Directory => {
            for inner in place::names(place::open_dir(parent, name)?)? {
                let dir = place::open_dir(parent, name)?;
                clear(dir.as_fd(), &inner)?;
            }
            place::remove(parent, name, true).map(|()| true)
        }
        Occupant::Whiteout | Occupant::Other => place::remove(parent, name, false).map(|()| true),
    }
}

/// A file's capabilities for the user `shift`, which is root inside the pixel:
/// revision 2 means the root of the namespace they are set in, revision 3 names
/// one (capabilities(7)). `None` where they can stay as they are.
fn shift_capability(value: &[u8], shift: u32) -> Option<Vec<u8>> {
    const REVISION_2: u8 = 2;
    const REVISION_3: u8 = 3;
    if shift == 0 || value.len() != 20 || value[3] != REVISION_2 {
        return None;
    }
    let mut out = value.to_vec();
    out[3] = REVISION_3;
    out.extend_from_slice(&shift.to_le_bytes());
    Some(out)
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
