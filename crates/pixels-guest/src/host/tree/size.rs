//! What the files of a tree occupy on disk.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::walk::{self, Dir};

/// Adds up the blocks of everything below a directory, files with several names once.
pub(crate) fn size(path: &Path) -> io::Result<u64> {
    walk::allow_depth();
    let (mut bytes, mut seen) = (0, HashSet::new());
    let top = Dir::open(path)?;
    let names = top.names()?;
    let mut stack = vec![(top, names)];
    while let Some((dir, names)) = stack.last_mut() {
        let Some(name) = names.pop() else {
            stack.pop();
            continue;
        };
        let at = dir.at(&name);
        let meta = fs::symlink_metadata(&at)?;
        if meta.nlink() < 2 || meta.is_dir() || seen.insert(meta.ino()) {
            bytes += meta.blocks() * 512;
        }
        if meta.is_dir() {
            let dir = Dir::open(&at)?;
            let names = dir.names()?;
            stack.push((dir, names));
        }
    }
    Ok(bytes)
}
