//! Writing: all of the new content or all of the old.
//!
//! The content goes to a file next to the target, which is renamed over it when
//! it is whole. Meanwhile the directory is this process's working directory: it is
//! found again whatever the guest renames.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use pixels_guest_api::files::{ABORT, Attrs, DATA, END, Fault, Kind, Reply, Stat, Which};

use super::wire::{Stored, Wire};
use super::{Stop, about, as_path, attrs, errno, fault, read};

/// As the kernel's own limit (path_resolution(7)).
const LINKS: usize = 40;

/// Permission bits of a file that is new, where none are given.
const NEW: u32 = 0o644;

pub(super) fn write(wire: &mut Wire, path: &[u8], temp: &[u8], attrs: Attrs) -> Result<(), Stop> {
    let _back = Back;
    let target = enter(path)?;
    let temp = Temp(as_path(temp));
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY)
        .open(temp.0);
    let mut file = file.map_err(|e| match e.kind() {
        ErrorKind::NotFound => about(Which::Parent)(e),
        _ => fault(e),
    })?;
    wire.send(&Reply::Done.encode()).map_err(|_| Stop::Wire)?;
    let put = match receive(wire, &mut file)? {
        Received::Whole => place(file, temp.0, as_path(&target), attrs).map_err(Stop::Fault),
        Received::Aborted => Ok(()),
        Received::Failed(e) => {
            // Removed before it is said: the other side may not wait for the rest.
            drop(file);
            drop(temp);
            wire.send(&Reply::Error(fault(e)).encode()).map_err(|_| Stop::Wire)?;
            return drain(wire);
        }
    };
    // Before the answer, so that nothing half-made is there when it arrives.
    drop(temp);
    put?;
    wire.send(&Reply::Done.encode()).map_err(|_| Stop::Wire)
}

enum Received {
    Whole,
    Aborted,
    Failed(io::Error),
}

fn receive(wire: &mut Wire, file: &mut File) -> Result<Received, Stop> {
    loop {
        let head = wire.head().map_err(|_| Stop::Wire)?.ok_or(Stop::Wire)?;
        match (head.tag, head.len) {
            (DATA, len) => {
                if let Stored::Failed(e) = wire.store(len, file).map_err(|_| Stop::Wire)? {
                    return Ok(Received::Failed(e));
                }
            }
            (END, 0) => return Ok(Received::Whole),
            (ABORT, 0) => return Ok(Received::Aborted),
            _ => return Err(Stop::Wire),
        }
    }
}

/// Reads the rest of content that is of no use any more.
fn drain(wire: &mut Wire) -> Result<(), Stop> {
    loop {
        let head = wire.head().map_err(|_| Stop::Wire)?.ok_or(Stop::Wire)?;
        match head.tag {
            DATA => wire.skip(head.len).map_err(|_| Stop::Wire)?,
            END | ABORT if head.len == 0 => return Ok(()),
            _ => return Err(Stop::Wire),
        }
    }
}

/// Gives the finished file its attributes and its name.
fn place(file: File, temp: &Path, target: &Path, attrs: Attrs) -> Result<(), Fault> {
    // Asked again: the guest may have put something there.
    let old = there(target)?;
    let wanted = Attrs {
        mode: attrs.mode.or(old.map(|o| o.mode)).or(Some(NEW)),
        owner: Some(attrs::owner(attrs.owner.or(old.map(|o| (o.uid, o.gid))))),
        mtime: attrs.mtime,
    };
    attrs::apply(&file, wanted).map_err(fault)?;
    match file.sync_all() {
        // Some file systems cannot, and lose nothing by it.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {}
        other => other.map_err(fault)?,
    }
    fs::rename(temp, target).map_err(fault)
}

/// The regular file at `target`, a name in the working directory; `None` where
/// nothing is.
fn there(target: &Path) -> Result<Option<Stat>, Fault> {
    let meta = match fs::symlink_metadata(target) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fault(e)),
    };
    match read::kind(&meta) {
        Kind::File => Ok(Some(read::describe(&meta))),
        Kind::Dir => Err(errno(libc::EISDIR)),
        Kind::Special => Err(errno(libc::ENXIO)),
        // It was none when its place was looked for.
        Kind::Symlink => Err(errno(libc::EAGAIN)),
    }
}

/// Enters the directory where a write to `path` ends up, links followed, and
/// answers the name in it.
fn enter(path: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut path = path.to_vec();
    for _ in 0..=LINKS {
        let cut = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let (dir, name) = path.split_at(cut);
        if matches!(name, b"" | b"." | b"..") {
            return Err(errno(libc::EISDIR));
        }
        if !dir.is_empty() {
            std::env::set_current_dir(as_path(dir)).map_err(about(Which::Parent))?;
        }
        match fs::symlink_metadata(as_path(name)) {
            Ok(meta) if meta.is_symlink() => {
                path = fs::read_link(as_path(name)).map_err(fault)?.into_os_string().into_vec();
            }
            _ => {
                there(as_path(name))?;
                return Ok(name.to_vec());
            }
        }
    }
    Err(errno(libc::ELOOP))
}

/// Removes the half-made file, if it is still under this name.
struct Temp<'a>(&'a Path);

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// Leaves the directory, so that it can be unmounted.
struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        let _ = std::env::set_current_dir("/");
    }
}
