//! Files by their names in an open directory, and times of what is not opened.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{check, check_size};

/// Opens `name`, a path from `dir` on, or one that is absolute where there is no
/// `dir`. Never inherited by programs.
pub(crate) fn open(
    dir: Option<&File>,
    name: &[u8],
    flags: libc::c_int,
    mode: libc::mode_t,
) -> io::Result<File> {
    let (dir, name) = (dir.map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd), text(name)?);
    let flags = flags | libc::O_CLOEXEC;
    loop {
        // SAFETY: `name` is NUL-terminated; a mode is given, as O_CREAT wants it.
        match check(unsafe { libc::openat(dir, name.as_ptr(), flags, mode) }) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // SAFETY: fresh and owned by nobody else.
            other => return other.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }.into()),
        }
    }
}

/// Where a link that was opened with `O_PATH | O_NOFOLLOW` points.
pub(crate) fn read_link(link: &File) -> io::Result<Vec<u8>> {
    // One more than the longest there is: what fills it is not whole.
    let mut target = vec![0; libc::PATH_MAX as usize + 1];
    // SAFETY: the empty name means the link itself; `target` is valid for
    // writes of its length.
    let len = check_size(|| unsafe {
        libc::readlinkat(link.as_raw_fd(), c"".as_ptr(), target.as_mut_ptr().cast(), target.len())
    })?;
    if len == target.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    target.truncate(len);
    Ok(target)
}

/// Renames within `dir`, replacing what is in the way.
pub(crate) fn rename(dir: &File, from: &[u8], to: &[u8]) -> io::Result<()> {
    let (dir, from, to) = (dir.as_raw_fd(), text(from)?, text(to)?);
    // SAFETY: both names are NUL-terminated.
    check(unsafe { libc::renameat(dir, from.as_ptr(), dir, to.as_ptr()) }).map(drop)
}

/// Removes what is no directory.
pub(crate) fn remove_file(dir: &File, name: &[u8]) -> io::Result<()> {
    let name = text(name)?;
    // SAFETY: the name is NUL-terminated.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Sets when the content of what `path` is was last changed, links followed, and
/// leaves when it was last read.
pub(crate) fn set_mtime(path: &CStr, seconds: i64) -> io::Result<()> {
    let times = [
        libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        libc::timespec { tv_sec: seconds as libc::time_t, tv_nsec: 0 },
    ];
    // SAFETY: `path` is NUL-terminated and `times` has the two elements that are read.
    check(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), 0) }).map(drop)
}

fn text(name: &[u8]) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
