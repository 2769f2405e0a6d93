//! What a path is, and what is in it.

use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use pixels_guest_api::files::{DATA, END, Fault, Head, Kind, Reply, Stat};

use super::wire::Wire;
use super::{Stop, errno, fault};

pub(super) fn stat(path: &Path, follow: bool) -> Result<Reply, Fault> {
    let meta = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
    meta.map(|meta| Reply::Stat(describe(&meta))).map_err(fault)
}

pub(super) fn read_link(path: &Path) -> Result<Reply, Fault> {
    fs::read_link(path).map(|t| Reply::Link(t.as_os_str().as_bytes().to_vec())).map_err(fault)
}

/// Sends a regular file.
pub(super) fn read(wire: &mut Wire, path: &Path) -> Result<(), Stop> {
    let (mut file, meta) = open(path, false)?;
    let found = Reply::Stat(describe(&meta));
    let mut before = Some(&found);
    while wire.load(&mut file, DATA, before).map_err(|_| Stop::Wire)?.map_err(fault)? > 0 {
        before = None;
    }
    wire.send(&Head::encode(END, 0)).map_err(|_| Stop::Wire)
}

/// Opens a regular file (or, if `dirs`, a directory) without ever waiting, and
/// whatever takes its place in between.
pub(super) fn open(path: &Path, dirs: bool) -> Result<(File, Metadata), Fault> {
    // Asked before: opening a device may have effects of its own.
    usable(&fs::metadata(path).map_err(fault)?, dirs)?;
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(fault)?;
    let meta = file.metadata().map_err(fault)?;
    usable(&meta, dirs)?;
    Ok((file, meta))
}

fn usable(meta: &Metadata, dirs: bool) -> Result<(), Fault> {
    match kind(meta) {
        Kind::File => Ok(()),
        Kind::Dir if dirs => Ok(()),
        Kind::Dir => Err(errno(libc::EISDIR)),
        Kind::Symlink | Kind::Special => Err(errno(libc::ENXIO)),
    }
}

pub(super) fn kind(meta: &Metadata) -> Kind {
    let kind = meta.file_type();
    if kind.is_file() {
        Kind::File
    } else if kind.is_dir() {
        Kind::Dir
    } else if kind.is_symlink() {
        Kind::Symlink
    } else {
        Kind::Special
    }
}

pub(super) fn describe(meta: &Metadata) -> Stat {
    Stat {
        kind: kind(meta),
        size: meta.size(),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: u64::try_from(meta.mtime()).unwrap_or(0),
    }
}
