//! What pixels are limited to: checked before anything is made, so that a limit
//! which cannot be kept is refused and never believed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pixels_core::{Error, Limits, Result, size};

use crate::cgroup::{self, Cpu};
use crate::engine::{Engine, Ready};
use crate::ids::Owner;
use crate::settings::Feature;

/// With less nothing starts.
const LEAST_MEMORY: u64 = 16 * size::MIB;
/// With less the first package that is installed fills it.
const LEAST_DISK: u64 = 16 * size::MIB;

impl Engine {
    /// Whether a pixel can have these limits.
    ///
    /// # Errors
    /// `Invalid` with the rule, `Unsupported` for a disk that cannot be bounded here.
    pub(crate) fn check_limits(&self, ready: &Ready, limits: &Limits) -> Result<()> {
        if let Some(text) = &limits.cpu
            && let Cpu::Set(set) = cgroup::cpu(text)?
        {
            let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
            check_set(text, &set, online.trim())?;
        }
        let least = |what: &str, bytes: Option<u64>, least: u64| match bytes {
            Some(bytes) if bytes < least => {
                let rule = format!("a pixel has at least {}", size::human(least));
                Err(Error::invalid(what, &size::human(bytes), &rule))
            }
            _ => Ok(()),
        };
        least("memory", limits.memory, LEAST_MEMORY)?;
        least("disk", limits.disk, LEAST_DISK)?;
        match (limits.disk, self.no_disk_limit(ready)) {
            (Some(_), Some(why)) => {
                Err(Error::unsupported(crate::KIND, format!("a limit on disk here: {why}"))
                    .with_hint(format!(
                        "leave --disk out, or put the store ({}) on btrfs: PIXELS_LOCAL_ROOT",
                        self.config.root.display()
                    )))
            }
            _ => Ok(()),
        }
    }

    /// Why what a pixel writes cannot be bounded here; `None` if it can.
    pub(crate) fn no_disk_limit(&self, ready: &Ready) -> Option<String> {
        let kind = file_system(&self.config.root);
        if !self.config.may(Feature::Subvolumes) {
            return Some("subvolumes are disabled".into());
        }
        if kind.as_deref() != Some("btrfs") {
            let kind = kind.unwrap_or_else(|| "an unknown file system".into());
            return Some(format!("it takes btrfs, and the store is on {kind}"));
        }
        (ready.owner != Owner::Root).then(|| "btrfs lets root alone set one".into())
    }
}

/// A set of CPUs has to be of those that are there.
fn check_set(text: &str, set: &str, online: &str) -> Result<()> {
    let refuse = |rule: &str| Err(Error::invalid("cpu", text, rule));
    let (Some(asked), Some(there)) = (ranges(set), ranges(online)) else {
        // What the kernel says of itself is not ours to judge.
        return match ranges(set) {
            None => refuse("a set of CPUs is numbers and ranges: 0,2-3"),
            Some(_) => Ok(()),
        };
    };
    let has = |(a, b): &(u32, u32)| there.iter().any(|(c, d)| c <= a && b <= d);
    if asked.iter().all(has) { Ok(()) } else { refuse(&format!("this machine has CPUs {online}")) }
}

/// `0,2-3` as ranges.
fn ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    text.split(',')
        .map(|part| {
            let (a, b) = part.split_once('-').unwrap_or((part, part));
            let (a, b) = (a.parse().ok()?, b.parse().ok()?);
            (a <= b).then_some((a, b))
        })
        .collect()
}

/// The type of the file system that a path is on, or would be.
pub(crate) fn file_system(path: &Path) -> Option<String> {
    let there = path.ancestors().find(|p| p.exists())?;
    let device = fs::metadata(there).ok()?.dev();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    if let Some(kind) = kind_of(&table, |device, _| device == number) {
        return Some(kind);
    }
    // Subvolumes have numbers that no mount has: then the mount that it lies below.
    let there = fs::canonicalize(there).ok()?;
    there.ancestors().find_map(|dir| {
        let point = dir.to_str()?;
        kind_of(&table, |_, mounted| mounted == point)
    })
}

/// The type in the last line of mountinfo (proc_pid_mountinfo(5)) that `fits`
/// by its device and mount point.
fn kind_of(table: &str, fits: impl Fn(&str, &str) -> bool) -> Option<String> {
    table.lines().rev().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut fields = head.split(' ');
        let device = fields.nth(2)?;
        let point = fields.nth(1)?;
        fits(device, point).then(|| tail.split(' ').next().map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_cpus_are_of_those_that_are_there() {
        assert!(check_set("0", "0", "0-1").is_ok());
        assert!(check_set("0-1,1", "0-1,1", "0-1").is_ok());
        assert!(check_set("0-7", "0-7", "").is_ok(), "an unknown machine has them all");
        for bad in ["2-3", "0,2", "1-0", "-", "0-", ",", "1,,2"] {
            assert_eq!(check_set(bad, bad, "0-1").unwrap_err().code(), "invalid", "{bad}");
        }
    }

    #[test]
    fn file_systems_by_device_and_by_mount_point() {
        let table = "21 1 254:1 / / rw shared:1 - ext4 /dev/vda1 rw\n\
                     30 21 0:31 /sub /srv rw - btrfs /dev/loop0 rw\n";
        assert_eq!(kind_of(table, |d, _| d == "254:1").as_deref(), Some("ext4"));
        assert_eq!(kind_of(table, |_, p| p == "/srv").as_deref(), Some("btrfs"));
        assert_eq!(kind_of("nonsense\n", |_, _| true), None);
        assert!(file_system(Path::new("/proc/self")).is_some_and(|k| k == "proc"));
    }
}
