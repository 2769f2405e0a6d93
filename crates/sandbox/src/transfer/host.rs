//! The host's side: every step is relative to an open directory and follows no
//! link, so that a tree that changes underneath leads nowhere else.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Error as IoError, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pixels_core::{Error, FileKind, Result, What, text};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::tree::{Bounds, Node, join, refuse, special, temp_name};

/// An error of the host's about `path`.
pub(super) fn failed(path: &[u8], errno: Errno) -> Error {
    let shown = text::clean_bytes(path);
    let io = IoError::from(errno);
    match errno {
        Errno::NOENT => Error::not_found(What::Path, shown),
        Errno::EXIST | Errno::NOTEMPTY => Error::exists(What::Path, shown),
        Errno::ACCESS | Errno::PERM => Error::Denied { what: shown, reason: "on this host".into() },
        Errno::NOSPC | Errno::DQUOT => Error::Exhausted { what: shown, reason: io.to_string() },
        Errno::LOOP | Errno::NOTDIR => {
            refuse(path, "a directory was expected, and no link is followed")
        }
        Errno::ISDIR => refuse(path, "a directory is in the way"),
        _ => Error::Backend { what: shown, message: io.to_string(), source: Some(Box::new(io)) },
    }
}

/// An error of reading or writing a stream about `path`.
pub(super) fn stream(path: &[u8], error: IoError) -> Error {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(errno) => failed(path, errno),
        None if error.kind() == ErrorKind::StorageFull => {
            Error::Exhausted { what: text::clean_bytes(path), reason: error.to_string() }
        }
        None => Error::Backend {
            what: text::clean_bytes(path),
            message: error.to_string(),
            source: Some(Box::new(error)),
        },
    }
}

fn name(raw: &[u8]) -> &OsStr {
    OsStr::from_bytes(raw)
}

fn kind(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Dir,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Special,
    }
}

/// An open directory, and what to call it in messages.
pub(super) struct HostDir {
    fd: OwnedFd,
    pub path: Vec<u8>,
}

const DIR: OFlags =
    OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

impl HostDir {
    /// Opens a directory that the user named; links in it are the user's own and are followed.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| failed(bytes, e))?;
        Ok(Self { fd, path: bytes.to_vec() })
    }

    /// Opens a directory in this one.
    pub(super) fn dir(&self, child: &[u8]) -> Result<Self> {
        let path = join(&self.path, child);
        let fd = rustix::fs::openat(&self.fd, name(child), DIR, Mode::empty())
            .map_err(|e| failed(&path, e))?;
        Ok(Self { fd, path })
    }

    /// What `child` is; `None` where there is nothing.
    pub(super) fn kind(&self, child: &[u8]) -> Result<Option<FileKind>> {
        Ok(self.stat(child)?.map(|stat| kind(&stat)))
    }

    fn stat(&self, child: &[u8]) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name(child), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(failed(&join(&self.path, child), e)),
        }
    }

    /// Opens a regular file for reading. A FIFO that has taken its place is an
    /// error at once: nothing waits for a writer.
    pub(super) fn read(&self, child: &[u8]) -> Result<File> {
        let path = join(&self.path, child);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&self.fd, name(child), flags, Mode::empty()).map_err(|e| {
            // Sockets and devices without a driver.
            if e == Errno::NXIO { special(&path) } else { failed(&path, e) }
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed(&path, e))?;
        match kind(&stat) {
            FileKind::File => Ok(File::from(fd)),
            _ => Err(refuse(&path, "it is no longer the regular file it was")),
        }
    }

    /// Where a link points.
    pub(super) fn read_link(&self, child: &[u8]) -> Result<Vec<u8>> {
        rustix::fs::readlinkat(&self.fd, name(child), Vec::new())
            .map(|target| target.into_bytes())
            .map_err(|e| failed(&join(&self.path, child), e))
    }

    /// Makes a new directory, ours alone for now, and opens it.
    pub(super) fn make_dir(&self, child: &[u8]) -> Result<Self> {
        rustix::fs::mkdirat(&self.fd, name(child), Mode::RWXU)
            .map_err(|e| failed(&join(&self.path, child), e))?;
        self.dir(child)
    }

    /// Makes a new file, ours alone for now.
    pub(super) fn make_file(&self, child: &[u8]) -> Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name(child), flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|e| failed(&join(&self.path, child), e))
    }

    /// Makes a new symbolic link.
    pub(super) fn make_link(&self, target: &[u8], child: &[u8]) -> Result<()> {
        rustix::fs::symlinkat(name(target), &self.fd, name(child))
            .map_err(|e| failed(&join(&self.path, child), e))
    }

    /// Renames within this directory, replacing a file or link in the way.
    pub(super) fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        rustix::fs::renameat(&self.fd, name(from), &self.fd, name(to))
            .map_err(|e| failed(&join(&self.path, to), e))
    }

    /// Renames within this directory to a name that has to be free.
    pub(super) fn rename_new(&self, from: &[u8], to: &[u8]) -> Result<()> {
        #[cfg(any(target_os = "linux", target_vendor = "apple"))]
        match rustix::fs::renameat_with(
            &self.fd,
            name(from),
            &self.fd,
            name(to),
            rustix::fs::RenameFlags::NOREPLACE,
        ) {
            // A filesystem that cannot do it in one step.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            other => return other.map_err(|e| failed(&join(&self.path, to), e)),
        }
        match self.stat(to)? {
            Some(_) => Err(failed(&join(&self.path, to), Errno::EXIST)),
            None => self.rename(from, to),
        }
    }

    /// Gives this directory its permissions.
    pub(super) fn set_mode(&self, mode: u32) -> Result<()> {
        set_mode(&self.fd, mode).map_err(|e| failed(&self.path, e))
    }

    /// Removes `child` and what is below it; what cannot be removed stays.
    pub(super) fn remove(&self, child: &[u8]) {
        if rustix::fs::unlinkat(&self.fd, name(child), AtFlags::empty()).is_ok() {
            return;
        }
        if let Ok(dir) = self.dir(child) {
            let _ = dir.set_mode(0o700);
            for entry in dir.names().unwrap_or_default() {
                dir.remove(&entry);
            }
        }
        let _ = rustix::fs::unlinkat(&self.fd, name(child), AtFlags::REMOVEDIR);
    }

    /// The names in it, in order.
    fn names(&self) -> Result<Vec<Vec<u8>>> {
        let dir = Dir::read_from(&self.fd).map_err(|e| failed(&self.path, e))?;
        let mut names = Vec::new();
        for entry in dir {
            let entry = entry.map_err(|e| failed(&self.path, e))?;
            let found = entry.file_name().to_bytes();
            if found != b"." && found != b".." {
                names.push(found.to_vec());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Looks at `child` and everything below it.
    ///
    /// # Errors
    /// `Invalid` naming the first FIFO, socket or device.
    pub(super) fn scan(&self, child: &[u8], depth: usize, bounds: &mut Bounds) -> Result<Node> {
        let path = join(&self.path, child);
        bounds.entry(depth, &path)?;
        let stat = self.stat(child)?.ok_or_else(|| failed(&path, Errno::NOENT))?;
        // 16 bits on some systems, 32 on others.
        #[allow(clippy::useless_conversion)]
        let mode = u32::from(stat.st_mode) & 0o1777;
        let mut node = Node {
            name: child.to_vec(),
            kind: kind(&stat),
            mode,
            mtime: u64::try_from(stat.st_mtime).unwrap_or(0),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            children: Vec::new(),
        };
        match node.kind {
            FileKind::Special => return Err(special(&path)),
            FileKind::Dir => {
                let dir = self.dir(child)?;
                for entry in dir.names()? {
                    node.children.push(dir.scan(&entry, depth + 1, bounds)?);
                }
            }
            FileKind::File | FileKind::Symlink => {}
        }
        Ok(node)
    }
}

fn set_mode(fd: impl AsFd, mode: u32) -> rustix::io::Result<()> {
    // The type is 16 bits wide on some systems; the value has 12.
    rustix::fs::fchmod(fd, Mode::from_bits_truncate(mode as rustix::fs::RawMode))
}

/// Gives a finished file its permissions and time.
pub(super) fn finish(file: &File, mode: u32, mtime: u64, path: &[u8]) -> Result<()> {
    set_mode(file, mode).map_err(|e| failed(path, e))?;
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::futimens(file, &times).map_err(|e| failed(path, e))
}

/// Something unfinished in a host directory. Dropping it removes it.
pub(super) struct Unfinished<'a> {
    dir: &'a HostDir,
    name: Vec<u8>,
    done: bool,
}

impl<'a> Unfinished<'a> {
    /// Picks a name for it.
    pub(super) fn new(dir: &'a HostDir) -> Self {
        Self { dir, name: temp_name().into_bytes(), done: false }
    }

    /// What it is called meanwhile.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Puts it in place of a file or link.
    pub(super) fn replace(mut self, target: &[u8]) -> Result<()> {
        self.dir.rename(&self.name, target)?;
        self.done = true;
        Ok(())
    }

    /// Puts it where nothing is.
    pub(super) fn place(mut self, target: &[u8]) -> Result<()> {
        self.dir.rename_new(&self.name, target)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.dir.remove(&self.name);
        }
    }
}
