//! Owner, permission bits and time.

use std::ffi::CString;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown};
use std::path::Path;
use std::time::{Duration, SystemTime};

use pixels_guest_api::files::{Attrs, Fault, Ids, Kind, Reply};

use super::{fault, read};
use crate::sys::{at, process};

/// Sets what is given, links followed.
pub(super) fn set(path: &Path, attrs: Attrs) -> Result<Reply, Fault> {
    let found = fs::metadata(path).map_err(fault)?;
    if read::kind(&found) == Kind::Special {
        // Not to be opened, so by name.
        set_by_name(path, attrs).map_err(fault)?;
    } else {
        let (file, _) = read::open(path, true)?;
        apply(&file, attrs).map_err(fault)?;
    }
    Ok(Reply::Done)
}

/// Sets what is given. Owner first: changing it drops set-user-id bits.
pub(super) fn apply(file: &File, attrs: Attrs) -> io::Result<()> {
    if let Some((uid, gid)) = attrs.owner {
        let now = file.metadata()?;
        // Who may not change owners may still keep them.
        if (now.uid(), now.gid()) != (uid, gid) {
            fchown(file, Some(uid), Some(gid))?;
        }
    }
    if let Some(mode) = attrs.mode {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    if let Some(seconds) = attrs.mtime {
        let time = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        file.set_times(FileTimes::new().set_modified(time))?;
    }
    Ok(())
}

fn set_by_name(path: &Path, attrs: Attrs) -> io::Result<()> {
    if let Some((uid, gid)) = attrs.owner {
        chown(path, Some(uid), Some(gid))?;
    }
    if let Some(mode) = attrs.mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    if let Some(seconds) = attrs.mtime {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| invalid())?;
        at::set_mtime(&name, i64::try_from(seconds).map_err(|_| invalid())?)?;
    }
    Ok(())
}

/// Who owns what this process makes where nobody else is named: a set-group-id
/// directory would give it its own group.
pub(super) fn owner(named: Option<Ids>) -> Ids {
    named.unwrap_or_else(process::own_ids)
}
