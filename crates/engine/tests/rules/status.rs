//! Rules 1, 5, 6 and 7: what init has given up, every command has given up.

use crate::harness::{anyone, as_root, end, field, processes, read_proc, until};

/// Docker's default set and SYS_PTRACE.
const CAPABILITIES: u64 = 0xa80c_25fb;
const NET_RAW: u64 = 1 << 13;

#[test]
fn init_and_a_command_agree() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("agree").await;
        let word = format!("86399.{}", pixel.pid);
        let running = pixel.start(&format!("echo; exec sleep {word}")).await;
        until("the command is there", || !processes(&word).is_empty()).await;
        let command = processes(&word)[0];
        let (init, other) = (pixel.proc("status"), read_proc(command, "status"));
        for name in [
            "Uid",
            "Gid",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "Seccomp_filters",
        ] {
            assert_eq!(field(&init, name), field(&other, name), "{name}");
        }
        for file in ["uid_map", "gid_map", "setgroups", "cgroup"] {
            assert!(!pixel.proc(file).is_empty(), "{file}");
            assert_eq!(pixel.proc(file), read_proc(command, file), "{file}");
        }
        let root = pixels_testkit::engine::is_root();
        let want = if root { CAPABILITIES } else { CAPABILITIES & !NET_RAW };
        for name in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(field(&other, name), format!("{want:016x}"), "{name}");
        }
        for (name, want) in [
            ("CapInh", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("Seccomp", "2"),
            ("NoNewPrivs", "0"),
        ] {
            assert_eq!(field(&other, name), want, "{name}");
        }
        // Init has none; a command has its user's, as the pixel numbers them.
        assert_eq!(field(&init, "Groups"), "");
        assert_eq!(field(&pixel.sh("cat /proc/self/status").await, "Groups"), "0");
        if root {
            for space in ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"] {
                let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/{space}")).unwrap();
                assert_eq!(of(pixel.pid), of(command), "{space}");
                assert_ne!(of(command), of(std::process::id()), "{space}");
            }
        }
        end(running).await;
    });
}

#[test]
fn a_user_has_the_bounds_and_none_of_the_rights() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("bounds").await;
        pixel.have_user().await;
        let status = pixel.user(&["cat", "/proc/self/status"]).await.out;
        let init = pixel.proc("status");
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(&status, name), "0000000000000000", "{name}");
        }
        for name in ["CapBnd", "Seccomp", "Seccomp_filters", "NoNewPrivs"] {
            assert_eq!(field(&status, name), field(&init, name), "{name}");
        }
        let said = pixel.user(&["id"]).await.out;
        assert_eq!(said, "uid=1000(pixel) gid=1000(pixel) groups=1000(pixel),60(games)");
        // Capabilities of a file reach no further than the bounds.
        let said = pixel.user(&["sh", "-c", "sudo cat /proc/self/status"]).await.out;
        assert_eq!(field(&said, "CapEff"), field(&init, "CapBnd"));
    });
}

#[test]
fn no_new_privileges_where_they_are_asked_for() {
    anyone(&[("no_new_privs", "true")], |lab| async move {
        let pixel = lab.pixel("nnp").await;
        pixel.have_user().await;
        assert_eq!(field(&pixel.proc("status"), "NoNewPrivs"), "1");
        let said = pixel.user(&["grep", "NoNewPrivs", "/proc/self/status"]).await;
        assert_eq!(said.out, "NoNewPrivs:\t1");
        assert_ne!(pixel.user(&["sudo", "true"]).await.code, 0);
    });
}

#[test]
fn two_pixels_have_ids_of_their_own() {
    as_root(|lab| async move {
        let (a, b) = (lab.pixel("ids-a").await, lab.pixel("ids-b").await);
        let range = |map: String| {
            let numbers: Vec<u64> = map.split_whitespace().map(|n| n.parse().unwrap()).collect();
            assert_eq!((numbers.len(), numbers[0], numbers[2]), (3, 0, 65536), "{map}");
            numbers[1]
        };
        for map in ["uid_map", "gid_map"] {
            let (a, b) = (range(a.proc(map)), range(b.proc(map)));
            assert!(a.abs_diff(b) >= 65536, "{a} and {b} overlap");
            // Not where Incus's guests and logins are.
            assert!(a >= 2_000_000_000 && b >= 2_000_000_000, "{a}, {b}");
        }
    });
}

#[test]
fn groups_can_be_set_and_only_the_pixels_own() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("groups").await;
        let said = pixel.root(&["setpriv", "--groups", "5,60", "--", "id", "-G"]).await;
        assert_eq!(said.out, "0 5 60", "{said:?}");
        let said = pixel.root(&["setpriv", "--groups", "70000", "--", "true"]).await;
        assert_ne!(said.code, 0, "an id that is not the pixel's");
    });
}
