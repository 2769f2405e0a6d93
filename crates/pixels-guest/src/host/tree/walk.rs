//! Going through trees that a hostile guest has made: however deep, without a
//! path that could become too long, and without following a link.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::sys::ns;

/// An open directory.
pub(crate) struct Dir(File);

impl Dir {
    /// Opens one, which must not be a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        File::options().read(true).custom_flags(flags).open(path).map(Self)
    }

    /// A short path of something in it, valid while it is open.
    pub(crate) fn at(&self, name: &std::ffi::OsStr) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(name)
    }

    /// Its own path.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/.", self.0.as_raw_fd()))
    }

    /// The names in it.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(self.path())?.map(|entry| Ok(entry?.file_name())).collect()
    }

    /// What it is.
    pub(crate) fn metadata(&self) -> io::Result<fs::Metadata> {
        self.0.metadata()
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Lets this process hold as many directories open as the system allows: depth
/// costs one descriptor a level.
pub(crate) fn allow_depth() {
    for most in [1 << 20, 1 << 18, 1 << 16] {
        if ns::limit(libc::RLIMIT_NOFILE, most, most).is_ok() {
            return;
        }
    }
    if let Ok(text) = fs::read_to_string("/proc/self/limits")
        && let Some(line) = text.lines().find(|l| l.starts_with("Max open files"))
        && let Some(hard) = line.split_ascii_whitespace().nth(4).and_then(|n| n.parse().ok())
    {
        let _ = ns::limit(libc::RLIMIT_NOFILE, hard, hard);
    }
}
