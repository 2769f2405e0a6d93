//! Rule 4 and the walls around a pixel: what its root cannot see, mount or write.

use std::os::unix::fs::MetadataExt;

use crate::harness::{anyone, as_root, end};

const MASKED: [&str; 11] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/acpi",
    "/proc/scsi",
    "/proc/interrupts",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/kernel/security",
];

#[test]
fn masked_paths_are_empty_and_stay_so() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("masks").await;
        for path in MASKED {
            let script = format!(
                "p={path}; [ -e $p ] || exit 0; if [ -d $p ]; then ls -A $p; else head -c 64 $p; fi"
            );
            assert_eq!(pixel.sh(&script).await, "", "{path}");
            // What is written to one of them goes nowhere.
            pixel.sh(&format!("(echo x > {path}; touch {path}/x) 2>/dev/null; true")).await;
            assert_eq!(pixel.sh(&script).await, "", "{path}");
            assert_ne!(pixel.root(&["umount", path]).await.code, 0, "{path}");
        }
    });
}

#[test]
fn what_steers_the_host_is_read_only() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("readonly").await;
        let host = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
        for path in ["/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"] {
            if !std::path::Path::new(path).exists() {
                continue;
            }
            let options = pixel
                .sh(&format!("findmnt -n -o OPTIONS {path} || grep ' {path} ' /proc/self/mounts"))
                .await;
            assert!(options.contains("ro,"), "{path}: {options}");
        }
        for path in [
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/modprobe",
            "/proc/sys/vm/drop_caches",
            "/proc/sys/kernel/randomize_va_space",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sysrq-trigger",
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "/sys/power/state",
            "/sys/block",
            "/sys/fs/cgroup/cgroup.procs",
        ] {
            let script = format!("echo x > {path}");
            assert_ne!(pixel.root(&["sh", "-c", &script]).await.code, 0, "{path}");
        }
        let script = "find /sys -xdev -type f -perm -u+w 2>/dev/null | head -n 200 | \
            while read f; do (: >> $f) 2>/dev/null && echo $f; done; true";
        assert_eq!(pixel.sh(script).await, "", "files of /sys that can be opened for writing");
        assert_eq!(std::fs::read("/proc/sys/kernel/core_pattern").unwrap(), host);
    });
}

#[test]
fn no_file_of_the_host_is_reached() {
    as_root(|lab| async move {
        let pixel = lab.pixel("reach").await;
        let canary =
            tempfile::Builder::new().prefix("pixels-canary").tempfile_in("/var/tmp").unwrap();
        std::fs::write(&canary, "of the host").unwrap();
        let path = canary.path().to_str().unwrap();
        assert_ne!(pixel.root(&["cat", path]).await.code, 0);
        for way in ["/proc/1/root", "/proc/self/root/../../..", "/proc/1/cwd", "/../../.."] {
            assert_ne!(pixel.root(&["cat", &format!("{way}{path}")]).await.code, 0, "{way}");
        }
        // The old way out of a chroot: keep a directory that is outside of it.
        let script = format!(
            "mkdir '/root/x'; opendir D, '/'; chroot '/root/x'; chdir '..' for 1..64; chroot '.'; \
             print -e '{path}' ? 'out' : -e '/etc/machine-id' ? 'in' : 'lost'"
        );
        assert_eq!(pixel.root(&["perl", "-e", &script]).await.out, "in");
        // Nothing that is mounted has a path of the host's, and no disk can be had.
        let mounts = pixel.sh("cat /proc/self/mountinfo").await;
        for word in ["pixels-rig", "layers/", "/upper", "/dev/vd", "/dev/sd", "lowerdir=/"] {
            assert!(!mounts.contains(word), "{word}: {mounts}");
        }
        let device = std::fs::metadata("/var/tmp").unwrap().dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let script = format!("mknod /root/disk b {major} {minor} && head -c 1 /root/disk");
        assert_ne!(pixel.root(&["sh", "-c", &script]).await.code, 0, "a disk of the host");
        let script = "mknod /root/mem c 1 1 && head -c 1 /root/mem";
        assert_ne!(pixel.root(&["sh", "-c", script]).await.code, 0, "the host's memory");
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "of the host");
    });
}

#[test]
fn nothing_can_be_mounted() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("mount").await;
        pixel.sh("mkdir -p /root/m /root/n").await;
        for cmd in [
            &["mount", "--bind", "/", "/root/m"][..],
            &["mount", "-t", "tmpfs", "none", "/root/m"],
            &["mount", "-t", "proc", "none", "/root/m"],
            &["mount", "-t", "sysfs", "none", "/root/m"],
            &[
                "mount",
                "-t",
                "overlay",
                "-o",
                "lowerdir=/,upperdir=/root/m,workdir=/root/n",
                "none",
                "/mnt",
            ],
            &["mount", "-o", "remount,rw", "/proc/sys"],
            &["mount", "-o", "remount,rw", "/sys"],
            &["umount", "/proc/sys"],
            &["unshare", "-Ur", "true"],
            &["unshare", "-m", "true"],
            &["nsenter", "-t", "1", "-m", "true"],
        ] {
            assert_ne!(pixel.root(cmd).await.code, 0, "{cmd:?}");
        }
    });
}

#[test]
fn only_its_own_processes_are_there() {
    anyone(&[], |lab| async move {
        let (pixel, other) = (lab.pixel("alone-a").await, lab.pixel("alone-b").await);
        let word = format!("86398.{}", other.pid);
        let running = other.start(&format!("echo; exec sleep {word}")).await;
        let seen = pixel.sh("cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'").await;
        assert!(!seen.contains(&word), "another pixel's: {seen}");
        assert!(!seen.contains("rules-"), "the host's: {seen}");
        // By number there is nobody either: not the launcher, not the other's init.
        for pid in [std::process::id(), other.pid, pixel.pid] {
            let script = format!("[ -e /proc/{pid}/status ] || kill -0 {pid}");
            let said = pixel.root(&["sh", "-c", &script]).await;
            // Such a number may be a process of its own, if the host's are small.
            let own = pixel.sh(&format!("cat /proc/{pid}/comm 2>/dev/null; true")).await;
            assert!(said.code != 0 || !own.is_empty(), "{pid}: {said:?}");
        }
        let count: usize = pixel.sh("ls -d /proc/[0-9]* | wc -l").await.parse().unwrap();
        assert!(count < 10, "{count} processes");
        end(running).await;
    });
}
