//! Times of files that are not to be opened.

use std::ffi::CStr;
use std::io;

use super::check;

/// Sets when the content of what `path` is last changed, links followed, and
/// leaves when it was last read.
pub(crate) fn set_mtime(path: &CStr, seconds: i64) -> io::Result<()> {
    let times = [
        libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        libc::timespec { tv_sec: seconds as libc::time_t, tv_nsec: 0 },
    ];
    // SAFETY: `path` is NUL-terminated and `times` has the two elements that are read.
    check(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), 0) }).map(drop)
}
