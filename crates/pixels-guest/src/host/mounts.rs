//! What a pixel finds in /proc, /sys, /dev and /run.
//!
//! Everything is made detached while the host's own /proc and /dev can still be
//! seen (the kernel wants to see a whole /proc before it makes another one) and
//! put in place once the pixel's root is the root, so that no link in it leads
//! anywhere else.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;

use super::rootfs::{ensure_dir, ensure_file};
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID, RDONLY};

/// Device files that a pixel shares with its host: they hold nothing.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Files and directories that say or do too much about the host.
pub(crate) const MASKED: [&str; 14] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/acpi",
    "/proc/scsi",
    "/proc/interrupts",
    "/proc/kmsg",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/kernel/security",
];

/// What may be read and not written.
pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"];

/// Mounts that wait for their places.
pub(crate) struct Prepared {
    proc: OwnedFd,
    sys: OwnedFd,
    dev: OwnedFd,
    devices: Vec<(&'static str, OwnedFd)>,
    pts: OwnedFd,
    mask: OwnedFd,
}

/// Makes them.
pub(crate) fn prepare() -> io::Result<Prepared> {
    let quiet = NOSUID | NODEV | NOEXEC;
    let proc = mount::filesystem(c"proc", &[], quiet)?;
    // A host that hides part of its own /sys keeps it from us: an empty one then.
    let sys = mount::filesystem(c"sysfs", &[], quiet | RDONLY)
        .or_else(|_| mount::filesystem(c"tmpfs", &["size=0", "mode=555"], quiet | RDONLY))?;
    let dev = mount::filesystem(c"tmpfs", &["size=1m", "mode=755"], NOSUID | NOEXEC)?;
    let mut devices = Vec::new();
    for name in DEVICES {
        let path = CString::new(format!("/dev/{name}"))?;
        devices.push((name, mount::clone_tree(libc::AT_FDCWD, &path, false)?));
    }
    let pts =
        mount::filesystem(c"devpts", &["gid=5", "mode=620", "ptmxmode=666"], NOSUID | NOEXEC)?;
    let mask = mount::clone_tree(libc::AT_FDCWD, c"/dev/null", false)?;
    Ok(Prepared { proc, sys, dev, devices, pts, mask })
}

fn place(tree: &OwnedFd, path: &str, mode: u32) -> io::Result<()> {
    ensure_dir(path, mode)?;
    mount::attach(tree, &CString::new(path)?)
}

impl Prepared {
    /// Puts everything in its place below the pixel's root.
    ///
    /// File systems in memory hold no more than half of `memory` together: they
    /// cannot be reclaimed, and a full memory lets no command run that would empty
    /// them.
    pub(crate) fn place(&self, memory: Option<u64>) -> io::Result<()> {
        place(&self.proc, "/proc", 0o555)?;
        place(&self.sys, "/sys", 0o555)?;
        place(&self.dev, "/dev", 0o755)?;
        for (name, tree) in &self.devices {
            let path = format!("/dev/{name}");
            ensure_file(&path)?;
            mount::attach(tree, &CString::new(path)?)?;
        }
        place(&self.pts, "/dev/pts", 0o755)?;
        let size = memory.map(|bytes| format!("size={}", bytes / 4));
        let tmpfs = |mode: &str| {
            let options: Vec<&str> = [Some(mode), size.as_deref()].into_iter().flatten().collect();
            mount::filesystem(c"tmpfs", &options, NOSUID | NODEV)
        };
        place(&tmpfs("mode=1777")?, "/dev/shm", 0o1777)?;
        if let Ok(queue) = mount::filesystem(c"mqueue", &[], NOSUID | NODEV | NOEXEC) {
            place(&queue, "/dev/mqueue", 0o755)?;
        }
        for (link, target) in [
            ("/dev/ptmx", "pts/ptmx"),
            ("/dev/fd", "/proc/self/fd"),
            ("/dev/stdin", "/proc/self/fd/0"),
            ("/dev/stdout", "/proc/self/fd/1"),
            ("/dev/stderr", "/proc/self/fd/2"),
        ] {
            symlink(target, link)?;
        }
        place(&tmpfs("mode=755")?, "/run", 0o755)?;
        fs::create_dir("/run/lock")?;
        fs::set_permissions("/run/lock", std::os::unix::fs::PermissionsExt::from_mode(0o1777))
    }

    /// Covers what says or does too much about the host.
    pub(crate) fn hide(&self) -> io::Result<()> {
        for path in READ_ONLY {
            let at = CString::new(path)?;
            let tree = match mount::clone_tree(libc::AT_FDCWD, &at, true) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                tree => tree?,
            };
            mount::restrict(&tree, RDONLY | NOSUID | NODEV | NOEXEC)?;
            mount::attach(&tree, &at)?;
        }
        for path in MASKED {
            let at = CString::new(path)?;
            let Ok(meta) = fs::symlink_metadata(path) else { continue };
            let cover = if meta.is_dir() {
                let quiet = NOSUID | NODEV | NOEXEC | RDONLY;
                mount::filesystem(c"tmpfs", &["size=0", "mode=555"], quiet)?
            } else {
                let null = mount::clone_tree(self.mask.as_raw_fd(), c"", false)?;
                mount::restrict(&null, RDONLY)?;
                null
            };
            mount::attach(&cover, &at)?;
        }
        Ok(())
    }
}

/// The pixel's own control groups, to be read: how much memory there is. Only the
/// second version can be shown; without it there is nothing to see.
pub(crate) fn cgroups() {
    let quiet = NOSUID | NODEV | NOEXEC | RDONLY;
    if let Ok(tree) = mount::filesystem(c"cgroup2", &[], quiet) {
        let _ = mount::attach(&tree, c"/sys/fs/cgroup");
    }
}
