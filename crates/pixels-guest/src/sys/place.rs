//! Files below a directory that is held open: nothing here takes a path of the
//! whole system, and nothing follows a link in a last component.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;
#[cfg(test)]
use super::check_size;

/// Links may be followed, but `/` and `..` stop at the directory (openat2(2)).
pub(crate) const IN_ROOT: u64 = 0x10;
/// No magic links of /proc, no other file system.
pub(crate) const STAY: u64 = 0x02 | 0x01;

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Opens `path` below `dir`, resolved as `resolve` says.
pub(crate) fn open_below(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    resolve: u64,
) -> io::Result<OwnedFd> {
    let how =
        OpenHow { flags: u64::from((flags | libc::O_CLOEXEC).cast_unsigned()), mode: 0, resolve };
    // A rename elsewhere in the tree makes the kernel give up with EAGAIN.
    for _ in 0..64 {
        // SAFETY: `path` is NUL-terminated, `how` is a valid open_how of the size given.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<OpenHow>(),
            )
        };
        match i32::try_from(fd) {
            // SAFETY: fresh and owned by nobody else.
            Ok(fd) if fd >= 0 => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => {
                let e = io::Error::last_os_error();
                if !matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) {
                    return Err(e);
                }
            }
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

/// Makes a file that was not there and opens it for writing.
pub(crate) fn create(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: `name` is NUL-terminated; the mode is passed as O_CREAT asks.
    let fd = check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags, 0o600) })?;
    // SAFETY: fresh and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a directory for listing; a link in its place is an error.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: `name` is NUL-terminated.
    let fd = check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags) })?;
    // SAFETY: fresh and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a directory.
pub(crate) fn make_dir(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// Makes a symbolic link.
pub(crate) fn make_symlink(dir: BorrowedFd<'_>, name: &CStr, target: &CStr) -> io::Result<()> {
    // SAFETY: both strings are NUL-terminated.
    check(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// Makes another name of a file; a link is linked itself, not what it points at.
pub(crate) fn make_link(
    from: (BorrowedFd<'_>, &CStr),
    to: (BorrowedFd<'_>, &CStr),
) -> io::Result<()> {
    let ((from_dir, from), (to_dir, to)) = (from, to);
    // SAFETY: both strings are NUL-terminated.
    check(unsafe {
        libc::linkat(from_dir.as_raw_fd(), from.as_ptr(), to_dir.as_raw_fd(), to.as_ptr(), 0)
    })
    .map(drop)
}

/// Makes a named pipe.
pub(crate) fn make_fifo(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated.
    check(unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), libc::S_IFIFO | mode, 0) })
        .map(drop)
}

/// Makes the mark overlayfs knows as "gone": a character device 0:0, which needs no privilege.
pub(crate) fn make_whiteout(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated.
    check(unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), libc::S_IFCHR, 0) }).map(drop)
}

/// Removes a file, or an empty directory where `directory`.
pub(crate) fn remove(dir: BorrowedFd<'_>, name: &CStr, directory: bool) -> io::Result<()> {
    let flags = if directory { libc::AT_REMOVEDIR } else { 0 };
    // SAFETY: `name` is NUL-terminated.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
}

/// What is in a place, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    Nothing,
    Directory,
    Whiteout,
    Other,
}

/// Looks at a name without following it.
pub(crate) fn occupant(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Occupant> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `name` is NUL-terminated and `stat` has room for the answer.
    let looked = check(unsafe {
        libc::fstatat(dir.as_raw_fd(), name.as_ptr(), stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW)
    });
    match looked {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(Occupant::Nothing),
        Err(e) => return Err(e),
        Ok(_) => {}
    }
    // SAFETY: the call succeeded and has filled it in.
    let stat = unsafe { stat.assume_init() };
    Ok(match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => Occupant::Directory,
        libc::S_IFCHR if stat.st_rdev == 0 => Occupant::Whiteout,
        _ => Occupant::Other,
    })
}

/// The names in a directory, `.` and `..` left out.
pub(crate) fn names(dir: OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
    use std::os::fd::IntoRawFd;
    let raw = dir.into_raw_fd();
    // SAFETY: `raw` is owned here and passes to the stream if that is made.
    let stream = unsafe { libc::fdopendir(raw) };
    if stream.is_null() {
        let e = io::Error::last_os_error();
        super::fd::close(raw);
        return Err(e);
    }
    let mut found = Vec::new();
    let result = loop {
        // SAFETY: errno is this thread's own; readdir tells failure by it alone.
        unsafe { *libc::__errno_location() = 0 };
        // SAFETY: the stream is open and used by nobody else.
        let entry = unsafe { libc::readdir(stream) };
        if entry.is_null() {
            match io::Error::last_os_error() {
                e if e.raw_os_error() == Some(0) => break Ok(()),
                e => break Err(e),
            }
        }
        // SAFETY: the entry is valid until the next call, its name NUL-terminated.
        let name = unsafe { CStr::from_ptr((*entry).d_name.as_ptr()) };
        if name != c"." && name != c".." {
            found.push(name.to_owned());
        }
    };
    // SAFETY: closes the stream and its descriptor, once.
    unsafe { libc::closedir(stream) };
    result.map(|()| found)
}

/// Changes the owner of an open file.
pub(crate) fn set_owner(file: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: plain descriptor call without pointers.
    check(unsafe { libc::fchown(file.as_raw_fd(), uid, gid) }).map(drop)
}

/// Changes the owner of what has this name, a link itself included.
pub(crate) fn set_owner_of(dir: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> io::Result<()> {
    let nofollow = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: `name` is NUL-terminated.
    check(unsafe { libc::fchownat(dir.as_raw_fd(), name.as_ptr(), uid, gid, nofollow) }).map(drop)
}

/// Changes the permission bits of an open file.
pub(crate) fn set_mode(file: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    // SAFETY: plain descriptor call without pointers.
    check(unsafe { libc::fchmod(file.as_raw_fd(), mode) }).map(drop)
}

fn times(mtime: i64, nanos: u32) -> [libc::timespec; 2] {
    let omit = libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT };
    [omit, libc::timespec { tv_sec: mtime, tv_nsec: libc::c_long::from(nanos.cast_signed()) }]
}

/// Changes the time of the last modification of an open file.
pub(crate) fn set_mtime(file: BorrowedFd<'_>, mtime: i64, nanos: u32) -> io::Result<()> {
    let times = times(mtime, nanos);
    // SAFETY: `times` holds the two values the call reads.
    check(unsafe { libc::futimens(file.as_raw_fd(), times.as_ptr()) }).map(drop)
}

/// As [`set_mtime`], of what has this name, a link itself included.
pub(crate) fn set_mtime_of(
    dir: BorrowedFd<'_>,
    name: &CStr,
    mtime: i64,
    nanos: u32,
) -> io::Result<()> {
    let times = times(mtime, nanos);
    let nofollow = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: `name` is NUL-terminated and `times` holds the two values the call reads.
    check(unsafe { libc::utimensat(dir.as_raw_fd(), name.as_ptr(), times.as_ptr(), nofollow) })
        .map(drop)
}

/// Sets an extended attribute of an open file.
pub(crate) fn set_xattr(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated, `value` is valid for reads of its length.
    check(unsafe {
        libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    })
    .map(drop)
}

/// Reads an extended attribute of an open file into `value`; its length.
#[cfg(test)]
pub(crate) fn get_xattr(file: BorrowedFd<'_>, name: &CStr, value: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `name` is NUL-terminated, `value` is valid for writes of its length.
    check_size(|| unsafe {
        libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    })
}

/// Puts everything of the file system that `file` is on to the disk.
pub(crate) fn sync_file_system(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain descriptor call without pointers.
    check(unsafe { libc::syncfs(file.as_raw_fd()) }).map(drop)
}

/// Device and number of what has this name, a link itself included.
pub(crate) fn identity(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(u64, u64)> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    let nofollow = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: `name` is NUL-terminated and `stat` has room for the answer.
    check(unsafe { libc::fstatat(dir.as_raw_fd(), name.as_ptr(), stat.as_mut_ptr(), nofollow) })?;
    // SAFETY: the call succeeded and has filled it in.
    let stat = unsafe { stat.assume_init() };
    Ok((stat.st_dev, stat.st_ino))
}
