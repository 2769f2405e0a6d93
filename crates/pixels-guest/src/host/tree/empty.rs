//! Makes the directory of an empty writable layer: `tree` and `work`, the
//! first owned by the pixel's root.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;

use super::remove;
use super::walk::Dir;
use crate::sys::trees;

/// Makes it, as a subvolume where asked and possible. It is there whole or not
/// at all. A bound that the file system cannot keep is an error: it must not be
/// believed.
pub(crate) fn empty(dir: &Path, root: u32, quota: Option<u64>, subvolumes: bool) -> io::Result<()> {
    let new = dir.with_extension("new");
    remove::remove(&new)?;
    make(&new, subvolumes)?;
    for name in ["tree", "work"] {
        let path = new.join(name);
        DirBuilder::new().mode(0o755).create(&path)?;
        chown(&path, Some(root), Some(root))?;
    }
    chown(&new, Some(root), Some(root))?;
    if let Some(bytes) = quota {
        trees::limit_subvolume(Dir::open(&new)?.fd(), bytes)?;
    }
    fs::rename(new, dir)
}

/// Makes the top of a tree, owned by the pixel's root.
pub(crate) fn own_dir(dir: &Path, root: u32) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(dir)?;
    chown(dir, Some(root), Some(root))
}

/// Makes a layer's directory.
pub(crate) fn make(dir: &Path, subvolumes: bool) -> io::Result<()> {
    if let (true, Some(parent), Some(name)) = (subvolumes, dir.parent(), dir.file_name())
        && trees::magic(parent)? == trees::BTRFS
    {
        trees::make_subvolume(Dir::open(parent)?.fd(), name.as_bytes())?;
        return fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755));
    }
    DirBuilder::new().mode(0o755).create(dir)
}
