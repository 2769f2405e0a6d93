//! Writing: all of the new content or all of the old.
//!
//! The content goes to a file next to the target, which is renamed over it when
//! it is whole. All of that is relative to one open directory, which stays the
//! same one whatever the guest renames meanwhile.

use std::fs::File;
use std::io::{self, ErrorKind};

use pixels_guest_api::files::{ABORT, Attrs, DATA, END, Fault, Kind, Reply, Stat, Which};

use super::wire::{Stored, Wire};
use super::{Stop, about, attrs, errno, fault, read};
use crate::sys::at;

/// As the kernel's own limit (path_resolution(7)).
const LINKS: usize = 40;

/// Permission bits of a file that is new, where none are given.
const NEW: u32 = 0o644;

pub(super) fn write(wire: &mut Wire, path: &[u8], temp: &[u8], attrs: Attrs) -> Result<(), Stop> {
    let target = find(path)?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let file = at::open(Some(&target.dir), temp, flags, 0o600);
    let mut file = file.map_err(|e| match e.kind() {
        ErrorKind::NotFound => about(Which::Parent)(e),
        _ => fault(e),
    })?;
    let temp = Temp { dir: &target.dir, name: temp };
    wire.send(&Reply::Done.encode()).map_err(|_| Stop::Wire)?;
    let put = match receive(wire, &mut file)? {
        Received::Whole => place(file, &temp, &target, attrs).map_err(Stop::Fault),
        Received::Aborted => Ok(()),
        Received::Failed(e) => {
            // Removed before it is said: the other side may not wait for the rest.
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
fn place(file: File, temp: &Temp<'_>, target: &Target, attrs: Attrs) -> Result<(), Fault> {
    // Asked again: the guest may have put something there.
    let old = match target.look()? {
        There::File(old) => Some(old),
        There::Nothing => None,
        There::Link(_) => return Err(errno(libc::EAGAIN)),
    };
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
    at::rename(&target.dir, temp.name, &target.name).map_err(fault)
}

/// Where a write ends up.
struct Target {
    dir: File,
    /// The name in it.
    name: Vec<u8>,
}

/// What is there.
enum There {
    Nothing,
    File(Stat),
    Link(File),
}

impl Target {
    /// # Errors
    /// A directory, FIFO, socket or device.
    fn look(&self) -> Result<There, Fault> {
        // Opens no FIFO and no device: it only names them.
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let found = match at::open(Some(&self.dir), &self.name, flags, 0) {
            Ok(found) => found,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(There::Nothing),
            Err(e) => return Err(fault(e)),
        };
        let meta = found.metadata().map_err(fault)?;
        match read::kind(&meta) {
            Kind::File => Ok(There::File(read::describe(&meta))),
            Kind::Symlink => Ok(There::Link(found)),
            Kind::Dir => Err(errno(libc::EISDIR)),
            Kind::Special => Err(errno(libc::ENXIO)),
        }
    }
}

/// Finds where a write to `path` ends up, links followed.
fn find(path: &[u8]) -> Result<Target, Fault> {
    let mut path = path.to_vec();
    let mut from: Option<File> = None;
    for _ in 0..=LINKS {
        let cut = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let (dir, name) = path.split_at(cut);
        if matches!(name, b"" | b"." | b"..") {
            return Err(errno(libc::EISDIR));
        }
        let dir = match from {
            // A link to a name beside it.
            Some(same) if dir.is_empty() => same,
            from => {
                let flags = libc::O_PATH | libc::O_DIRECTORY;
                at::open(from.as_ref(), dir, flags, 0).map_err(about(Which::Parent))?
            }
        };
        let target = Target { dir, name: name.to_vec() };
        match target.look()? {
            There::Link(link) => path = at::read_link(&link).map_err(fault)?,
            There::File(_) | There::Nothing => return Ok(target),
        }
        from = Some(target.dir);
    }
    Err(errno(libc::ELOOP))
}

/// Removes the half-made file, if it is still under this name.
struct Temp<'a> {
    dir: &'a File,
    name: &'a [u8],
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        let _ = at::remove_file(self.dir, self.name);
    }
}
