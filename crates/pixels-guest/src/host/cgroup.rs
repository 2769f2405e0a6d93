//! Joining control groups.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::sys::process::Pid;

fn path(dir: &[u8], file: &str) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(dir.to_vec())).join(file)
}

/// Moves a process (0: this one) into a group of every hierarchy.
pub(crate) fn join(groups: &[Vec<u8>], pid: Pid) -> io::Result<()> {
    for group in groups {
        let mut file = OpenOptions::new().write(true).open(path(group, "cgroup.procs"))?;
        file.write_all(pid.to_string().as_bytes())?;
    }
    Ok(())
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
