//! Control groups of pixels: version 2, or the hybrid of both. Without rights to
//! make any (an ordinary user where none are delegated) there are no limits.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pixels_core::{Error, Limits, Result};

use crate::launcher::failed;

const MOUNT: &str = "/sys/fs/cgroup";
/// The group that all pixels' groups are in.
const PARENT: &str = "pixels";

/// How long killed processes may stay in their groups.
const EMPTY: Duration = Duration::from_secs(2);
/// More than any kernel runs on; what is multiplied with it does not overflow.
const MOST_CPUS: u64 = 65_536;

/// The hierarchies that pixels are put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cgroups {
    /// The version 2 hierarchy, and which controllers can be used in it.
    unified: Option<PathBuf>,
    controllers: Vec<String>,
    /// Controllers of version 1 with their mounts.
    first: Vec<(&'static str, PathBuf)>,
    /// What the names of this store's groups begin with: others use the same parent.
    tag: String,
}

impl Cgroups {
    /// What can be used here.
    pub(crate) fn detect(root: bool, tag: String) -> Self {
        let mount = Path::new(MOUNT);
        if mount.join("cgroup.controllers").exists() {
            let base = if root { Some(mount.to_owned()) } else { delegated(mount) };
            let Some(base) = base else { return Self::default() };
            let dir = base.join(PARENT);
            if make(&dir).is_err() {
                return Self::default();
            }
            enable(&base);
            enable(&dir);
            let controllers = words(&dir.join("cgroup.subtree_control"));
            return Self { unified: Some(dir), controllers, first: Vec::new(), tag };
        }
        if !root {
            return Self::default();
        }
        let unified = mount.join("unified").join(PARENT);
        let unified = make(&unified).is_ok().then_some(unified);
        let mut first = Vec::new();
        let freezes = unified.as_ref().is_some_and(|dir| dir.join("cgroup.freeze").exists());
        for name in ["memory", "pids", "cpu", "cpuset", "freezer"] {
            if name == "freezer" && freezes {
                continue;
            }
            let dir = mount.join(name).join(PARENT);
            if mount.join(name).join("tasks").exists() && make(&dir).is_ok() {
                if name == "cpuset" {
                    inherit(&dir);
                }
                first.push((name, dir));
            }
        }
        Self { unified, controllers: Vec::new(), first, tag }
    }

    /// Makes a pixel's groups with its limits. What was left of an earlier run is
    /// taken over.
    ///
    /// # Errors
    /// A limit that the kernel refuses.
    pub(crate) fn make(&self, id: &str, limits: &Limits, processes: u64) -> Result<Vec<PathBuf>> {
        let dirs = self.dirs(id);
        for dir in &dirs {
            make(dir).map_err(|e| failed("make the control group", e))?;
        }
        let set = |dir: &Path, file: &str, value: &str| {
            fs::write(dir.join(file), value)
                .map_err(|e| Error::invalid(&format!("limit {file}"), value, &e.to_string()))
        };
        if let Some(dir) = self.unified.as_ref().map(|d| self.group(d, id)) {
            let has = |name: &str| self.controllers.iter().any(|c| c == name);
            if let (Some(bytes), true) = (limits.memory, has("memory")) {
                set(&dir, "memory.max", &bytes.to_string())?;
                // Swap would only make the limit slower.
                let _ = fs::write(dir.join("memory.swap.max"), "0");
                let _ = fs::write(dir.join("memory.oom.group"), "0");
            }
            if processes > 0 && has("pids") {
                set(&dir, "pids.max", &processes.to_string())?;
            }
            match limits.cpu.as_deref().map(cpu).transpose()? {
                Some(Cpu::Count(n)) if has("cpu") => {
                    set(&dir, "cpu.max", &format!("{} 100000", n * 100_000))?;
                }
                Some(Cpu::Set(list)) if has("cpuset") => set(&dir, "cpuset.cpus", &list)?,
                _ => {}
            }
        }
        for (name, dir) in &self.first {
            let dir = self.group(dir, id);
            match *name {
                "memory" => {
                    if let Some(bytes) = limits.memory {
                        // The one on memory and swap can never be below the other.
                        let both = dir.join("memory.memsw.limit_in_bytes");
                        let _ = fs::write(&both, "-1");
                        set(&dir, "memory.limit_in_bytes", &bytes.to_string())?;
                        let _ = fs::write(&both, bytes.to_string());
                    }
                }
                "pids" if processes > 0 => set(&dir, "pids.max", &processes.to_string())?,
                "cpu" => {
                    if let Some(Cpu::Count(n)) = limits.cpu.as_deref().map(cpu).transpose()? {
                        set(&dir, "cpu.cfs_quota_us", &(n * 100_000).to_string())?;
                    }
                }
                "cpuset" => {
                    inherit(&dir);
                    if let Some(Cpu::Set(list)) = limits.cpu.as_deref().map(cpu).transpose()? {
                        set(&dir, "cpuset.cpus", &list)?;
                    }
                }
                _ => {}
            }
        }
        Ok(dirs)
    }

    fn group(&self, parent: &Path, id: &str) -> PathBuf {
        parent.join(format!("{}{id}", self.tag))
    }

    /// Where a pixel's groups are.
    pub(crate) fn dirs(&self, id: &str) -> Vec<PathBuf> {
        let first = self.first.iter().map(|(_, dir)| dir);
        self.unified.iter().chain(first).map(|dir| self.group(dir, id)).collect()
    }

    /// The groups whose processes can be frozen: one is enough.
    pub(crate) fn freezer(&self, id: &str) -> Option<PathBuf> {
        let unified = self.unified.as_ref().map(|d| self.group(d, id));
        let unified = unified.filter(|d| d.join("cgroup.freeze").exists());
        let first = || self.first.iter().find(|(name, _)| *name == "freezer");
        unified.or_else(|| first().map(|(_, d)| self.group(d, id)))
    }

    /// Whether there is any such group.
    pub(crate) fn freezes(&self) -> bool {
        self.unified.is_some() || self.first.iter().any(|(name, _)| *name == "freezer")
    }

    /// The ids of pixels that have groups.
    pub(crate) fn known(&self) -> Vec<String> {
        let mut ids: Vec<String> = self
            .unified
            .iter()
            .chain(self.first.iter().map(|(_, d)| d))
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|e| Some(e.file_name().to_str()?.strip_prefix(&self.tag)?.to_owned()))
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Kills all that is in a pixel's groups.
    pub(crate) fn kill(&self, id: &str) {
        let unified = self.unified.as_ref().map(|d| self.group(d, id));
        if let Some(dir) = &unified
            && fs::write(dir.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        // Before Linux 5.14.
        for dir in self.dirs(id) {
            for word in words(&dir.join("cgroup.procs")) {
                if let Some(pid) = word.parse().ok().and_then(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
    }

    /// Whether a pixel's processes stand still.
    pub(crate) fn frozen(&self, id: &str) -> bool {
        let Some(dir) = self.freezer(id) else { return false };
        let says = |file: &str, value: &str| {
            fs::read_to_string(dir.join(file)).is_ok_and(|now| now.trim() == value)
        };
        says("cgroup.freeze", "1") || says("freezer.state", "FROZEN")
    }

    /// Lets a pixel run that a killed checkpoint has left frozen.
    pub(crate) fn thaw(&self, id: &str) {
        if let Some(dir) = self.freezer(id) {
            let _ = fs::write(dir.join("cgroup.freeze"), "0");
            let _ = fs::write(dir.join("freezer.state"), "THAWED");
        }
    }

    /// Removes a pixel's groups. The kernel takes a moment for the killed ones in
    /// them; a group that stays in use is left to `sweep`.
    pub(crate) async fn remove(&self, id: &str) {
        let mut left = self.dirs(id);
        // Version 1 has no event for it.
        let mut pause = Duration::from_micros(200);
        let mut waited = Duration::ZERO;
        loop {
            left.retain(|dir| {
                let done = fs::remove_dir(dir);
                done.is_err_and(|e| e.kind() == io::ErrorKind::ResourceBusy)
            });
            if left.is_empty() || waited > EMPTY {
                return;
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Which there are, for people.
    pub(crate) fn version(&self) -> &'static str {
        match (&self.unified, self.first.is_empty()) {
            (Some(_), true) => "version 2",
            (Some(_), false) => "version 1, with the version 2 tree beside it",
            (None, false) => "version 1",
            (None, true) => "none to be used",
        }
    }

    /// What is not limited here, and why; for `doctor` and `capabilities`.
    pub(crate) fn lacks(&self) -> Vec<&'static str> {
        let has = |name: &str| {
            self.controllers.iter().any(|c| c == name) || self.first.iter().any(|(n, _)| *n == name)
        };
        ["memory", "pids", "cpu"].into_iter().filter(|name| !has(name)).collect()
    }
}

/// CPUs as a limit.
pub(crate) enum Cpu {
    /// So many.
    Count(u64),
    /// These.
    Set(String),
}

/// Reads one.
///
/// # Errors
/// `Invalid` with the rule.
pub(crate) fn cpu(text: &str) -> Result<Cpu> {
    let set = |c: char| c.is_ascii_digit() || c == ',' || c == '-';
    match text.parse() {
        Ok(n) if n > 0 && n <= MOST_CPUS => Ok(Cpu::Count(n)),
        Err(_) if text.contains([',', '-']) && text.chars().all(set) => Ok(Cpu::Set(text.into())),
        _ => Err(Error::invalid("cpu", text, "a number of CPUs (2) or a set of them (0-3)")),
    }
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

fn words(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Lets a group's children use the controllers that it has.
fn enable(dir: &Path) {
    for name in ["memory", "pids", "cpu", "cpuset"] {
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{name}"));
    }
}

/// A cpuset of version 1 takes nobody before it has CPUs and memory nodes.
fn inherit(dir: &Path) {
    let Some(parent) = dir.parent() else { return };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fs::read_to_string(dir.join(file)).is_ok_and(|t| t.trim().is_empty())
            && let Ok(value) = fs::read(parent.join(file))
        {
            let _ = fs::write(dir.join(file), value);
        }
    }
}

/// The group of this process, where an ordinary user may make others in it: what
/// `systemd-run --user --scope -p Delegate=yes` gives.
fn delegated(mount: &Path) -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let dir = mount.join(path);
    let writable = rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK).is_ok();
    writable.then_some(dir)
}

/// Paths as a request carries them.
pub(crate) fn bytes(dirs: &[PathBuf]) -> Vec<Vec<u8>> {
    dirs.iter().map(|d| d.as_os_str().as_bytes().to_vec()).collect()
}
