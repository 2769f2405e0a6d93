//! The names in a directory.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pixels_guest_api::files::{Kind, Listing, Stat};

use super::wire::Wire;
use super::{Stop, fault, read};

/// Sends what is in a directory, piece by piece.
pub(super) fn read_dir(wire: &mut Wire, path: &Path) -> Result<(), Stop> {
    let mut listing = Listing::new();
    for entry in fs::read_dir(path).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        let stat = match entry.metadata() {
            Ok(meta) => read::describe(&meta),
            // Removed since.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            // A mount point of a dead file system, say: it is there, and no more is known.
            Err(_) => Stat { kind: Kind::Special, size: 0, mode: 0, uid: 0, gid: 0, mtime: 0 },
        };
        if let Some(frame) = listing.push(entry.file_name().as_bytes(), &stat) {
            wire.send(&frame).map_err(|_| Stop::Wire)?;
        }
    }
    wire.send(&listing.finish()).map_err(|_| Stop::Wire)
}
