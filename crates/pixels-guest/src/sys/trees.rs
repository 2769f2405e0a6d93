//! What the standard library lacks for copying trees of files, and the
//! subvolumes of btrfs.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{check, check_size};

/// The kernel's number for btrfs (magic.h).
pub(crate) const BTRFS: i64 = 0x9123_683e;

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Makes a FIFO, socket or device.
pub(crate) fn make_node(path: &Path, mode: u32, device: u64) -> io::Result<()> {
    let path = text(path)?;
    // SAFETY: `path` is NUL-terminated.
    check(unsafe { libc::mknod(path.as_ptr(), mode, device) }).map(drop)
}

/// Sets the times of what is at a path, links not followed; seconds and nanoseconds.
pub(crate) fn set_times(path: &Path, access: (i64, i64), change: (i64, i64)) -> io::Result<()> {
    let path = text(path)?;
    let spec = |(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec };
    let times = [spec(access), spec(change)];
    // SAFETY: `path` is NUL-terminated and there are two times.
    check(unsafe {
        libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW)
    })
    .map(drop)
}

/// Another name for an open file, which is not to be found by its path again.
pub(crate) fn link_open(fd: RawFd, to: &Path) -> io::Result<()> {
    let (from, to) = (CString::new(format!("/proc/self/fd/{fd}"))?, text(to)?);
    // SAFETY: both paths are NUL-terminated.
    check(unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    })
    .map(drop)
}

/// The names of the extended attributes of what is at a path, links not followed.
pub(crate) fn attributes(path: &Path) -> io::Result<Vec<CString>> {
    let path = text(path)?;
    let mut names = vec![0u8; 64 * 1024];
    // SAFETY: `path` is NUL-terminated, `names` is valid for writes of its length.
    let n = check_size(|| unsafe {
        libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len())
    })?;
    Ok(names[..n]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| CString::new(name).ok())
        .collect())
}

/// One extended attribute.
pub(crate) fn attribute(path: &Path, name: &CStr) -> io::Result<Vec<u8>> {
    let path = text(path)?;
    let mut value = vec![0u8; 64 * 1024];
    // SAFETY: both strings are NUL-terminated, `value` is valid for writes of its length.
    let n = check_size(|| unsafe {
        libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    })?;
    value.truncate(n);
    Ok(value)
}

/// Sets an extended attribute.
pub(crate) fn set_attribute(path: &Path, name: &CStr, value: &[u8]) -> io::Result<()> {
    let path = text(path)?;
    // SAFETY: both strings are NUL-terminated, `value` is valid for reads of its length.
    check(unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    })
    .map(drop)
}

/// Lets an empty file share the content of another, where the file system can.
pub(crate) fn share_content(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: this ioctl takes a descriptor as a number.
    check(unsafe { libc::ioctl(to, libc::FICLONE, from) }).map(drop)
}

/// The next stretch of content at or after an offset, holes left out.
pub(crate) fn next_data(fd: RawFd, from: u64) -> io::Result<Option<(u64, u64)>> {
    let seek = |at: u64, whence| -> io::Result<Option<u64>> {
        let at = libc::off_t::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: plain call without pointers.
        let found = unsafe { libc::lseek(fd, at, whence) };
        match u64::try_from(found) {
            Ok(found) => Ok(Some(found)),
            Err(_) => match io::Error::last_os_error() {
                e if e.raw_os_error() == Some(libc::ENXIO) => Ok(None),
                e => Err(e),
            },
        }
    };
    let Some(start) = seek(from, libc::SEEK_DATA)? else { return Ok(None) };
    let end = seek(start, libc::SEEK_HOLE)?.unwrap_or(start);
    Ok(Some((start, end)))
}

/// Copies bytes between files at the same offset, without them passing through
/// this process. Answers how many were copied; 0 is the end.
pub(crate) fn copy_range(from: RawFd, to: RawFd, at: u64, len: u64) -> io::Result<u64> {
    let bad = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut here = libc::off64_t::try_from(at).map_err(bad)?;
    let mut there = here;
    let len = usize::try_from(len.min(1 << 30)).map_err(bad)?;
    // SAFETY: both offsets outlive the call.
    let n = check_size(|| unsafe {
        libc::copy_file_range(from, &raw mut here, to, &raw mut there, len, 0)
    })?;
    Ok(n as u64)
}

/// The magic number of the file system at a path.
pub(crate) fn magic(path: &Path) -> io::Result<i64> {
    let dir = std::fs::File::open(path)?;
    super::mount::magic(dir.as_raw_fd())
}

/// The most that a name in btrfs's requests may take.
const NAME: usize = 4040;
const SUBVOL_CREATE: libc::c_ulong = 0x5000_940e;
const SNAP_DESTROY: libc::c_ulong = 0x5000_940f;
const SNAP_CREATE_V2: libc::c_ulong = 0x5000_9417;
const QUOTA_CTL: libc::c_ulong = 0xc010_9428;
const QGROUP_LIMIT: libc::c_ulong = 0x8030_942b;
const INO_LOOKUP: libc::c_ulong = 0xd000_9412;
/// The first object of every subvolume, which is its root directory.
pub(crate) const SUBVOLUME_ROOT: u64 = 256;

/// The kernel's `btrfs_ioctl_vol_args`, and the second version's end of it.
#[repr(C)]
struct VolumeArgs {
    fd: i64,
    name: [u8; 4088],
}

#[repr(C)]
struct VolumeArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME],
}

fn named<const N: usize>(name: &[u8]) -> io::Result<[u8; N]> {
    let mut out = [0; N];
    let room = out.get_mut(..name.len()).filter(|_| name.len() < N && !name.contains(&b'/'));
    room.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name);
    Ok(out)
}

/// Makes an empty subvolume in a directory.
pub(crate) fn make_subvolume(parent: RawFd, name: &[u8]) -> io::Result<()> {
    let args = VolumeArgs { fd: 0, name: named(name)? };
    // SAFETY: `args` is as the kernel lays it out and outlives the call.
    check(unsafe { libc::ioctl(parent, SUBVOL_CREATE, &raw const args) }).map(drop)
}

/// Makes a snapshot of a subvolume in a directory.
pub(crate) fn snapshot(source: RawFd, parent: RawFd, name: &[u8]) -> io::Result<()> {
    let args = VolumeArgsV2 {
        fd: source.into(),
        transid: 0,
        flags: 0,
        unused: [0; 4],
        name: named(name)?,
    };
    // SAFETY: as above.
    check(unsafe { libc::ioctl(parent, SNAP_CREATE_V2, &raw const args) }).map(drop)
}

/// Removes a subvolume with all that is in it.
pub(crate) fn remove_subvolume(parent: RawFd, name: &[u8]) -> io::Result<()> {
    let args = VolumeArgs { fd: 0, name: named(name)? };
    // SAFETY: as above.
    check(unsafe { libc::ioctl(parent, SNAP_DESTROY, &raw const args) }).map(drop)
}

/// Bounds what a subvolume may hold. Turns the accounting on, which btrfs needs for it.
pub(crate) fn limit_subvolume(subvolume: RawFd, bytes: u64) -> io::Result<()> {
    #[repr(C)]
    struct QuotaCtl {
        command: u64,
        status: u64,
    }
    #[repr(C)]
    struct QgroupLimit {
        id: u64,
        flags: u64,
        max_referenced: u64,
        max_exclusive: u64,
        reserved_referenced: u64,
        reserved_exclusive: u64,
    }
    #[repr(C)]
    struct Lookup {
        tree: u64,
        object: u64,
        name: [u8; 4080],
    }
    let mut enable = QuotaCtl { command: 1, status: 0 };
    // SAFETY: as above.
    check(unsafe { libc::ioctl(subvolume, QUOTA_CTL, &raw mut enable) })?;
    let mut lookup = Lookup { tree: 0, object: SUBVOLUME_ROOT, name: [0; 4080] };
    // SAFETY: as above.
    check(unsafe { libc::ioctl(subvolume, INO_LOOKUP, &raw mut lookup) })?;
    // Flag 1: the first limit, on what the subvolume refers to.
    let limit = QgroupLimit {
        id: lookup.tree,
        flags: 1,
        max_referenced: bytes,
        max_exclusive: 0,
        reserved_referenced: 0,
        reserved_exclusive: 0,
    };
    // SAFETY: as above.
    check(unsafe { libc::ioctl(subvolume, QGROUP_LIMIT, &raw const limit) }).map(drop)
}
