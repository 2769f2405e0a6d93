//! Making, moving and removing.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::Path;

use pixels_guest_api::files::{Attrs, Fault, Ids, Reply, Which};

use super::{about, attrs, fault};

pub(super) fn mkdir(path: &Path, mode: u32, owner: Option<Ids>) -> Result<Reply, Fault> {
    DirBuilder::new().mode(0o700).create(path).map_err(fault)?;
    let wanted = Attrs { mode: Some(mode), owner: Some(attrs::owner(owner)), mtime: None };
    let made = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)
        .and_then(|dir| attrs::apply(&dir, wanted));
    if let Err(e) = made {
        let _ = fs::remove_dir(path);
        return Err(fault(e));
    }
    Ok(Reply::Done)
}

pub(super) fn symlink(target: &Path, path: &Path, owner: Option<Ids>) -> Result<Reply, Fault> {
    std::os::unix::fs::symlink(target, path).map_err(fault)?;
    let wanted = attrs::owner(owner);
    let made = fs::symlink_metadata(path).and_then(|now| {
        if (now.uid(), now.gid()) == wanted {
            return Ok(());
        }
        lchown(path, Some(wanted.0), Some(wanted.1))
    });
    if let Err(e) = made {
        let _ = fs::remove_file(path);
        return Err(fault(e));
    }
    Ok(Reply::Done)
}

/// Renames. A directory replaces nothing, not even an empty directory as the
/// kernel would have it.
pub(super) fn rename(from: &Path, to: &Path) -> Result<Reply, Fault> {
    let moved = fs::symlink_metadata(from).map_err(fault)?;
    if moved.is_dir()
        && let Ok(there) = fs::symlink_metadata(to)
        && (there.dev(), there.ino()) != (moved.dev(), moved.ino())
    {
        return Err(Fault { errno: libc::EEXIST, which: Which::To });
    }
    fs::rename(from, to).map(|()| Reply::Done).map_err(|e| about(side(from, &e))(e))
}

/// Which of the two a rename's failure is about.
fn side(from: &Path, error: &io::Error) -> Which {
    match error.kind() {
        ErrorKind::NotFound if fs::symlink_metadata(from).is_ok() => Which::ToParent,
        ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::AlreadyExists
        | ErrorKind::DirectoryNotEmpty
        | ErrorKind::InvalidInput => Which::To,
        _ => Which::Path,
    }
}

pub(super) fn remove_file(path: &Path) -> Result<Reply, Fault> {
    fs::remove_file(path).map(|()| Reply::Done).map_err(fault)
}

pub(super) fn remove_dir(path: &Path) -> Result<Reply, Fault> {
    fs::remove_dir(path).map(|()| Reply::Done).map_err(fault)
}
