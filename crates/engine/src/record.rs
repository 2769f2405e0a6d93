//! What is written down of a pixel: `pixel.json` beside its layers, and `run.json`
//! while it runs. Each is replaced whole; the second says nothing after a reboot.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::Timestamp;
use pixels_core::{EgressMode, Limits, Meta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failpoint;
use crate::net::pasta::Pasta;

/// The form of these files.
pub(crate) const VERSION: u32 = 1;

/// A pixel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    /// Random; names its control groups and its references to layers.
    pub(crate) id: String,
    /// From it follow its user ids, its address and its interface.
    pub(crate) slot: u32,
    /// Set until it has been handed over for the first time.
    #[serde(default)]
    pub(crate) making: bool,
    pub(crate) created_at: Timestamp,
    #[serde(default)]
    pub(crate) cpu: Option<String>,
    #[serde(default)]
    pub(crate) memory: Option<u64>,
    #[serde(default)]
    pub(crate) disk: Option<u64>,
    #[serde(default)]
    pub(crate) expires_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) egress: EgressMode,
    #[serde(default)]
    pub(crate) origin: Option<String>,
    #[serde(default)]
    pub(crate) owner: Option<String>,
    /// Whether it has an interface besides loopback.
    pub(crate) network: bool,
    /// Whether its layers are mapped when they are mounted; else they are its own,
    /// with its ids on disk.
    pub(crate) idmap: bool,
    /// Its layers, the lowest first.
    pub(crate) layers: Vec<String>,
    /// The layer that it writes to.
    pub(crate) upper: String,
    #[serde(default)]
    pub(crate) checkpoints: Vec<Checkpoint>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) label: String,
    pub(crate) created_at: Timestamp,
    /// The lowest first.
    pub(crate) layers: Vec<String>,
}

/// A running pixel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) boot: String,
    pub(crate) pid: u32,
    /// In clock ticks since boot; another one is another process.
    pub(crate) start_time: u64,
    /// What connects it, of an ordinary user.
    #[serde(default)]
    pub(crate) pasta: Option<Pasta>,
    /// Whether its start was seen to succeed. Who starts it may be killed before:
    /// then it may end by itself, and whoever has the pixel's lock ends it.
    #[serde(default)]
    pub(crate) up: bool,
}

impl Record {
    /// Its limits.
    pub(crate) fn limits(&self) -> Limits {
        Limits { cpu: self.cpu.clone(), memory: self.memory, disk: self.disk }
    }

    /// What pixels remembers of it.
    pub(crate) fn meta(&self) -> Meta {
        Meta {
            expires_at: self.expires_at,
            egress: self.egress,
            origin: self.origin.clone(),
            owner: self.owner.clone(),
        }
    }

    /// Every layer that it or one of its checkpoints needs.
    pub(crate) fn needs(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self
            .layers
            .iter()
            .chain([&self.upper])
            .chain(self.checkpoints.iter().flat_map(|c| &c.layers))
            .map(String::as_str)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The checkpoint with this label.
    pub(crate) fn checkpoint(&self, label: &str) -> Option<&Checkpoint> {
        self.checkpoints.iter().find(|c| c.label == label)
    }
}

impl Run {
    /// Whether that process is still there.
    pub(crate) fn alive(&self) -> bool {
        self.boot == boot_id() && start_time(self.pid) == Some(self.start_time)
    }
}

/// Reads a file of this kind; `None` if it is not there.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Replaces a file whole. With `keep` it is on disk when this returns.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T, keep: bool) -> io::Result<()> {
    prepare(path, value, keep)?.commit()
}

/// A file's new content beside it. Dropped, it goes.
pub(crate) struct Prepared {
    path: PathBuf,
    keep: bool,
}

/// Writes all but the name of a file that is to be replaced: what can fail for
/// want of room.
pub(crate) fn prepare<T: Serialize>(path: &Path, value: &T, keep: bool) -> io::Result<Prepared> {
    let bytes = serde_json::to_vec(value)?;
    let prepared = Prepared { path: path.to_owned(), keep };
    let mut file = File::create(prepared.unfinished())?;
    file.write_all(&bytes)?;
    if keep {
        file.sync_data()?;
    }
    failpoint::at("record-begun");
    Ok(prepared)
}

impl Prepared {
    fn unfinished(&self) -> PathBuf {
        self.path.with_extension("new")
    }

    /// Replaces the file.
    pub(crate) fn commit(self) -> io::Result<()> {
        fs::rename(self.unfinished(), &self.path)?;
        failpoint::at("record-written");
        match (self.keep, self.path.parent()) {
            (true, Some(dir)) => File::open(dir)?.sync_data(),
            _ => Ok(()),
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.unfinished());
    }
}

/// The kernel's name for this boot.
pub(crate) fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        // Tests have other boots.
        let other = std::env::var("PIXELS_ENGINE_BOOT_ID").unwrap_or_default();
        format!("{}{other}", text.trim())
    })
}

/// When a process started (field 22 of proc_pid_stat(5)); `None` if there is none.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so what counts is behind the last parenthesis.
    let at = stat.iter().rposition(|b| *b == b')')?;
    let text = String::from_utf8_lossy(&stat[at + 1..]);
    let mut fields = text.split_ascii_whitespace();
    // A process that has ended and waits to be reaped is none.
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_and_the_dead() {
        let pid = std::process::id();
        let start_time = start_time(pid).unwrap();
        let run = Run { boot: boot_id().into(), pid, start_time, pasta: None, up: true };
        assert!(run.alive());
        assert!(!Run { start_time: start_time + 1, ..run.clone() }.alive());
        assert!(!Run { boot: "before".into(), ..run }.alive());
    }

    #[test]
    fn files_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        assert_eq!(read::<Run>(&path).unwrap(), None);
        let run = Run { boot: "b".into(), pid: 1, start_time: 2, pasta: None, up: true };
        write(&path, &run, true).unwrap();
        assert_eq!(read(&path).unwrap(), Some(run));
        fs::write(&path, "{").unwrap();
        assert!(read::<Run>(&path).is_err());
    }
}
