//! Rule 9: a pixel's processes are in its control groups, and end with them.

use pixels_core::{Backend, StopOpts};

use crate::harness::{as_root, processes, read_proc, until};

#[test]
fn every_process_is_in_the_groups_and_ends_with_them() {
    as_root(|lab| async move {
        let pixel = lab.pixel("groups").await;
        let word = format!("86397.{}", pixel.pid);
        // It hears nothing, has a session of its own, and its command has ended.
        let script = format!(
            "(trap '' TERM HUP INT; setsid sleep {word} </dev/null >/dev/null 2>&1 &) ; echo"
        );
        pixel.sh(&script).await;
        until("it is there", || !processes(&word).is_empty()).await;
        let pid = *processes(&word).last().unwrap();
        let groups = read_proc(pid, "cgroup");
        assert_eq!(groups, pixel.proc("cgroup"));
        assert!(groups.lines().filter(|l| l.contains("/pixels/")).count() >= 1, "{groups}");
        assert_ne!(groups, read_proc(std::process::id(), "cgroup"));
        let name = groups.lines().find_map(|l| Some(l.split_once("/pixels/")?.1)).unwrap();
        let exists = || {
            ["", "unified", "memory", "pids", "cpu", "freezer"].iter().any(|h| {
                std::path::Path::new("/sys/fs/cgroup").join(h).join("pixels").join(name).exists()
            })
        };
        assert!(exists());
        let force = StopOpts { force: true, ..StopOpts::default() };
        lab.engine.stop(&pixel.name, force).await.unwrap();
        until("it ends with the pixel", || processes(&word).is_empty()).await;
        until("the groups are gone", || !exists()).await;
    });
}

#[test]
fn a_pixel_sees_its_own_groups_and_cannot_change_them() {
    as_root(|lab| async move {
        let pixel = lab.pixel("cgroupfs").await;
        let own = pixel.sh("cat /proc/self/cgroup").await;
        assert!(!own.contains("pixels"), "where it is on the host: {own}");
        for script in [
            "mkdir /sys/fs/cgroup/x",
            "echo 1 > /sys/fs/cgroup/cgroup.procs",
            "echo max > /sys/fs/cgroup/memory.max",
        ] {
            assert_ne!(pixel.root(&["sh", "-c", script]).await.code, 0, "{script}");
        }
    });
}
