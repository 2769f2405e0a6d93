//! Joining control groups.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

fn path(dir: &[u8], file: &str) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(dir.to_vec())).join(file)
}

/// Whether a group is of the second version's hierarchy.
fn is_unified(group: &[u8]) -> bool {
    path(group, "cgroup.controllers").exists()
}

/// Moves this process, which has no second thread, into the groups of the first
/// version's hierarchies. By `tasks` and as "itself": for any other move the
/// kernel stops all forks of the machine first, which takes it ten milliseconds
/// (`cgroup_procs_write_start` in kernel/cgroup/cgroup.c).
pub(crate) fn join_first(groups: &[Vec<u8>]) -> io::Result<()> {
    for group in groups.iter().filter(|group| !is_unified(group)) {
        OpenOptions::new().write(true).open(path(group, "tasks"))?.write_all(b"0")?;
    }
    Ok(())
}

/// The group of the second version's hierarchy, for a child to be born into.
pub(crate) fn unified(groups: &[Vec<u8>]) -> io::Result<Option<OwnedFd>> {
    let Some(group) = groups.iter().find(|group| is_unified(group)) else { return Ok(None) };
    Ok(Some(File::open(path(group, ""))?.into()))
}

/// Removes groups that nothing is in any more.
pub(crate) fn remove(groups: &[Vec<u8>]) {
    for group in groups {
        // One that is still in use, or gone, is left to the next who cleans up.
        let _ = std::fs::remove_dir(path(group, ""));
    }
}

/// Kills every process of the groups that can do it at once.
pub(crate) fn kill(groups: &[Vec<u8>]) {
    for group in groups {
        let file = OpenOptions::new().write(true).open(path(group, "cgroup.kill"));
        if let Ok(mut file) = file {
            let _ = file.write_all(b"1");
        }
    }
}
