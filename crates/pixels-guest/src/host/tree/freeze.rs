//! Freezing a pixel's processes for a moment.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sys::fd;

/// How long the kernel gets to stop everything. A process in an uninterruptible
/// call, of a network file system say, cannot be frozen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Frozen control groups, which thaw when this is dropped. If this process is
/// killed before, whoever next has the pixel's lock thaws them.
pub(crate) struct Frozen<'a>(&'a [PathBuf]);

impl<'a> Frozen<'a> {
    /// Freezes them and waits until they are.
    pub(crate) fn freeze(groups: &'a [PathBuf]) -> io::Result<Self> {
        let frozen = Self(groups);
        for group in groups {
            if group.join("cgroup.freeze").exists() {
                second(group)?;
            } else {
                first(group)?;
            }
        }
        Ok(frozen)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        thaw(self.0.iter().cloned());
    }
}

/// Lets them run on.
pub(super) fn thaw(groups: impl Iterator<Item = PathBuf>) {
    for group in groups {
        let _ = fs::write(group.join("cgroup.freeze"), "0");
        let _ = fs::write(group.join("freezer.state"), "THAWED");
    }
}

/// The second version's freezer says when it is done.
fn second(group: &Path) -> io::Result<()> {
    let events = fs::File::open(group.join("cgroup.events"))?;
    fs::write(group.join("cgroup.freeze"), "1")?;
    loop {
        let now = fs::read_to_string(group.join("cgroup.events"))?;
        if now.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        // Nothing to freeze is never frozen.
        if now.lines().any(|line| line == "populated 0") {
            return Ok(());
        }
        let mut fds = [fd::watch(events.as_raw_fd(), libc::POLLPRI)];
        if fd::poll(&mut fds, Some(PATIENCE))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// The first version's has to be asked again and again.
fn first(group: &Path) -> io::Result<()> {
    let state = group.join("freezer.state");
    let mut pause = Duration::from_micros(50);
    let mut waited = Duration::ZERO;
    fs::write(&state, "FROZEN")?;
    while fs::read_to_string(&state)?.trim() != "FROZEN" {
        if waited > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        fd::poll(&mut [], Some(pause))?;
        waited += pause;
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    Ok(())
}
