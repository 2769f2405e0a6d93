//! A directory of this machine as an image: one file system, read through
//! descriptors, links never followed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pixels_guest_api::tree::{Entry, Kind};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::sink::{TreeSink, bad, carries};

/// What of a directory is left out, by path below it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Skip {
    /// Directories that are taken empty.
    pub(crate) inside: &'static [&'static [u8]],
    /// Files and directories that are not taken.
    pub(crate) whole: &'static [&'static [u8]],
}

/// Reads everything below `root`, in an order that depends on names alone.
/// `read` is told how many bytes of content were read.
///
/// # Errors
/// What cannot be read, named; what `sink` says.
pub(crate) fn unpack(
    root: &Path,
    skip: Skip,
    sink: &mut TreeSink<'_>,
    read: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let mut walk = Walk { root, links: HashMap::new(), skip };
    let mut todo = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let mut inner = walk.directory(&path, sink, read).map_err(|e| named(&path, &e))?;
        // The last is taken first.
        inner.reverse();
        todo.append(&mut inner);
    }
    Ok(())
}

fn named(path: &[u8], e: &io::Error) -> io::Error {
    let text = e.to_string();
    if text.starts_with("entry ") {
        return io::Error::new(e.kind(), text);
    }
    io::Error::new(e.kind(), bad(path, &text).to_string())
}

struct Walk {
    root: OwnedFd,
    /// First path of files with several names.
    links: HashMap<(u64, u64), Vec<u8>>,
    skip: Skip,
}

impl Walk {
    /// Takes a directory and its files; answers the directories in it.
    fn directory(
        &mut self,
        path: &[u8],
        sink: &mut TreeSink<'_>,
        read: &mut dyn FnMut(u64),
    ) -> io::Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = match self.open(path, flags) {
            // Another file system begins here: the directory itself belongs to this one.
            Err(Errno::XDEV) => {
                sink.entry(&Entry::new(path, Kind::Dir))?;
                return Ok(Vec::new());
            }
            other => other?,
        };
        sink.entry(&described(path, Kind::Dir, &rustix::fs::fstat(&dir)?, xattrs(&dir)?))?;
        if self.skip.inside.contains(&path) {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for found in Dir::read_from(&dir)? {
            let name = found?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        let mut inner = Vec::new();
        for name in names {
            let full = if path.is_empty() { name.clone() } else { [path, &name].join(&b'/') };
            if self.skip.whole.contains(&full.as_slice()) {
                continue;
            }
            if self.file(&dir, &name, &full, sink, read).map_err(|e| named(&full, &e))? {
                inner.push(full);
            }
        }
        Ok(inner)
    }

    /// Takes one entry, unless it is a directory: then it answers true.
    fn file(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
        sink: &mut TreeSink<'_>,
        read: &mut dyn FnMut(u64),
    ) -> io::Result<bool> {
        let name = OsStr::from_bytes(name);
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Ok(true),
            FileType::RegularFile => {
                return self.content(dir, name, path, sink, read).map(|()| false);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                Kind::Symlink { target: target.into_bytes() }
            }
            FileType::Fifo => Kind::Fifo,
            _ => Kind::Special,
        };
        sink.entry(&described(path, kind, &stat, Vec::new()))?;
        Ok(false)
    }

    fn content(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        path: &[u8],
        sink: &mut TreeSink<'_>,
        read: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        // Should something else have taken its place by now, opening that must not wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it changed while it was read"));
        }
        if stat.st_nlink > 1 {
            let first =
                self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec());
            if first != path {
                let kind = Kind::Hardlink { target: first.clone() };
                return sink.entry(&described(path, kind, &stat, Vec::new()));
            }
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let entry = described(path, Kind::File { size }, &stat, xattrs(&fd)?);
        sink.file(&entry, &mut File::from(fd))?;
        read(size);
        Ok(())
    }

    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), resolve)
    }
}

fn described(path: &[u8], kind: Kind, stat: &Stat, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Entry {
    Entry {
        path: path.to_vec(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0).min(999_999_999),
        xattrs,
    }
}

/// The attributes that trees carry; none where the file system has none.
fn xattrs(fd: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut list = vec![0u8; 64 * 1024];
    let len = match rustix::fs::flistxattr(&fd, &mut list[..]) {
        Ok(len) => len,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut out = Vec::new();
    for name in list[..len].split(|b| *b == 0).filter(|name| carries(name)) {
        let mut value = vec![0u8; 64 * 1024];
        match rustix::fs::fgetxattr(&fd, OsStr::from_bytes(name), &mut value[..]) {
            Ok(len) => {
                value.truncate(len);
                out.push((name.to_vec(), value));
            }
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    out.sort();
    Ok(out)
}
