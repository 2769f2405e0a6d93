//! Mounts, by the descriptor-based calls of Linux 5.2 and later: what a mount
//! is made of never passes through a path.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// Attributes of a mount.
pub(crate) const RDONLY: u64 = 0x1;
pub(crate) const NOSUID: u64 = 0x2;
pub(crate) const NODEV: u64 = 0x4;
pub(crate) const NOEXEC: u64 = 0x8;
const IDMAP: u64 = 0x0010_0000;

const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_SET_FD: libc::c_uint = 5;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const AT_EMPTY_PATH: libc::c_uint = 0x1000;
const AT_RECURSIVE: libc::c_uint = 0x8000;

/// The kernel's `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let raw = check(result as libc::c_int)?;
    // SAFETY: callers pass the result of a call that answers a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A detached copy of the mount at a path relative to `dir`: of it alone, or
/// with what is mounted below.
pub(crate) fn clone_tree(dir: RawFd, path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    if path.is_empty() {
        flags |= AT_EMPTY_PATH;
    }
    // SAFETY: `path` is NUL-terminated; a fresh descriptor is answered.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

fn set_attr(dir: RawFd, path: &CStr, flags: libc::c_uint, attr: &MountAttr) -> io::Result<()> {
    // SAFETY: `path` is NUL-terminated and `attr` is a mount_attr of that size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            attr as *const MountAttr,
            size_of::<MountAttr>(),
        )
    };
    check(done as libc::c_int).map(drop)
}

/// Shows a detached tree with the ids of a user namespace.
pub(crate) fn map_ids(tree: &OwnedFd, namespace: &OwnedFd) -> io::Result<()> {
    let attr = MountAttr {
        set: IDMAP,
        userns_fd: namespace.as_raw_fd().cast_unsigned().into(),
        ..MountAttr::default()
    };
    set_attr(tree.as_raw_fd(), c"", AT_EMPTY_PATH, &attr)
}

/// Gives the mount behind a descriptor these attributes in addition.
pub(crate) fn restrict(tree: &OwnedFd, attributes: u64) -> io::Result<()> {
    let attr = MountAttr { set: attributes, ..MountAttr::default() };
    set_attr(tree.as_raw_fd(), c"", AT_EMPTY_PATH, &attr)
}

/// Puts a detached mount at a path.
pub(crate) fn attach(tree: &OwnedFd, path: &CStr) -> io::Result<()> {
    // SAFETY: both paths are NUL-terminated.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(done as libc::c_int).map(drop)
}

/// A file system that is being configured.
pub(crate) struct Config(OwnedFd);

impl Config {
    /// Opens a file system type.
    pub(crate) fn open(kind: &CStr) -> io::Result<Self> {
        // SAFETY: `kind` is NUL-terminated; a fresh descriptor is answered.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) }).map(Self)
    }

    fn call(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
        number: RawFd,
    ) -> io::Result<()> {
        let pointer = |s: Option<&CStr>| s.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: the strings are NUL-terminated or null where the command takes none.
        let done = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                pointer(key),
                pointer(value),
                number,
            )
        };
        check(done as libc::c_int).map(drop)
    }

    /// Sets an option without a value.
    pub(crate) fn flag(&self, key: &CStr) -> io::Result<()> {
        self.call(FSCONFIG_SET_FLAG, Some(key), None, 0)
    }

    /// Sets an option.
    pub(crate) fn set(&self, key: &CStr, value: &CStr) -> io::Result<()> {
        self.call(FSCONFIG_SET_STRING, Some(key), Some(value), 0)
    }

    /// Sets an option that is a file.
    pub(crate) fn set_fd(&self, key: &CStr, fd: RawFd) -> io::Result<()> {
        self.call(FSCONFIG_SET_FD, Some(key), None, fd)
    }

    /// Makes the file system and a detached mount of it.
    pub(crate) fn mount(self, attributes: u64) -> io::Result<OwnedFd> {
        self.call(FSCONFIG_CMD_CREATE, None, None, 0).map_err(|e| self.explain(e))?;
        // SAFETY: plain call; a fresh descriptor is answered.
        owned(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes as libc::c_uint,
            )
        })
    }

    /// The kernel's own words about a failure, which can be read from the configuration.
    fn explain(&self, e: io::Error) -> io::Error {
        let mut words = [0; 256];
        match super::fd::read(self.0.as_raw_fd(), &mut words) {
            Ok(n) if n > 0 => {
                let text = String::from_utf8_lossy(&words[..n]);
                io::Error::new(e.kind(), format!("{e}: {}", text.trim()))
            }
            _ => e,
        }
    }
}

/// A mounted file system of a type, with options as `key=value` or flags.
pub(crate) fn filesystem(kind: &CStr, options: &[&str], attributes: u64) -> io::Result<OwnedFd> {
    let config = Config::open(kind)?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => config.set(&CString::new(key)?, &CString::new(value)?)?,
            None => config.flag(&CString::new(*option)?)?,
        }
    }
    config.mount(attributes)
}

/// Cuts every mount of this namespace off from where it came from; with `slave`,
/// what goes there still goes here.
pub(crate) fn isolate(slave: bool) -> io::Result<()> {
    let kind = if slave { libc::MS_SLAVE } else { libc::MS_PRIVATE };
    // SAFETY: the path is NUL-terminated, the other pointers are not used.
    check(unsafe {
        libc::mount(
            std::ptr::null(),
            c"/".as_ptr(),
            std::ptr::null(),
            libc::MS_REC | kind,
            std::ptr::null(),
        )
    })
    .map(drop)
}

/// Makes the working directory, a mount, the root, and takes the old root away.
pub(crate) fn pivot_here() -> io::Result<()> {
    let here = c".";
    // SAFETY: both paths are NUL-terminated. The old root is then stacked on the
    // new one, which pivot_root(2) describes under "pivot_root(".", ".")".
    check(unsafe { libc::syscall(libc::SYS_pivot_root, here.as_ptr(), here.as_ptr()) as i32 })?;
    // SAFETY: NUL-terminated.
    check(unsafe { libc::umount2(here.as_ptr(), libc::MNT_DETACH) })?;
    super::process::change_directory(c"/")
}

/// The magic number of the file system behind a descriptor.
pub(crate) fn magic(fd: RawFd) -> io::Result<i64> {
    // SAFETY: an all-zero statfs is a valid value for the kernel to overwrite.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    check(unsafe { libc::fstatfs(fd, &mut stat) })?;
    Ok(stat.f_type as i64)
}

/// The classic call, for kernels whose overlay takes no descriptors.
pub(crate) fn mount(
    kind: &CStr,
    target: &CStr,
    flags: libc::c_ulong,
    data: &CStr,
) -> io::Result<()> {
    // SAFETY: all strings are NUL-terminated.
    check(unsafe {
        libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast())
    })
    .map(drop)
}

/// Whether the file system behind a descriptor takes no writes.
pub(crate) fn is_read_only(fd: RawFd) -> io::Result<bool> {
    // SAFETY: an all-zero statvfs is a valid value for the kernel to overwrite.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    check(unsafe { libc::fstatvfs(fd, &mut stat) })?;
    Ok(stat.f_flag & libc::ST_RDONLY != 0)
}

/// Opens a path relative to a directory, to name it and for nothing else.
pub(crate) fn open_path(dir: RawFd, path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `path` is NUL-terminated; a fresh descriptor is answered.
    let raw = check(unsafe {
        libc::openat(dir, path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW)
    })?;
    // SAFETY: fresh and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
