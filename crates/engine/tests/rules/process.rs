//! Rules 2 and 3: what runs in a pixel for the host can neither be looked into
//! nor changed, and carries nothing in.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use rustix::fs::SealFlags;

use crate::harness::{anyone, as_root};

#[test]
fn the_first_process_is_sealed_memory() {
    as_root(|lab| async move {
        let pixel = lab.pixel("memfd").await;
        let exe = format!("/proc/{}/exe", pixel.pid);
        let name = std::fs::read_link(&exe).unwrap();
        assert_eq!(name.to_str().unwrap(), "/memfd:pixels-guest (deleted)");
        let file = File::open(&exe).unwrap();
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
        let want = SealFlags::SEAL | SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
        assert!(seals.contains(want), "{seals:?}");
        let own = std::fs::metadata("/proc/self/exe").unwrap();
        let theirs = file.metadata().unwrap();
        assert_ne!((own.dev(), own.ino()), (theirs.dev(), theirs.ino()), "the host's program");
        assert!(File::options().write(true).open(&exe).is_err());
        // Guest root may trace, but not this.
        for script in [
            "echo x >> /proc/1/exe",
            "cat /proc/1/exe",
            "readlink /proc/1/exe",
            "cat /proc/1/environ",
            "cat /proc/1/maps",
            "head -c 1 /proc/1/mem",
            "ls /proc/1/fd/",
            "ls /proc/1/root/",
            // PTRACE_ATTACH and PTRACE_SEIZE
            "exec perl -e 'exit(syscall(101, 16, 1, 0, 0) == -1)'",
            "exec perl -e 'exit(syscall(101, 0x4206, 1, 0, 0) == -1)'",
        ] {
            let said = pixel.root(&["sh", "-c", script]).await;
            assert_ne!(said.code, 0, "{script}: {said:?}");
        }
    });
}

#[test]
fn a_commands_parent_is_out_of_reach() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("parent").await;
        for script in [
            "cat /proc/$PPID/environ",
            "cat /proc/$PPID/maps",
            "readlink /proc/$PPID/exe",
            "ls /proc/$PPID/fd/",
            "ls /proc/$PPID/root/",
            "exec perl -e 'exit(syscall(101, 16, getppid(), 0, 0) == -1)'",
            // pidfd_open, then pidfd_getfd of its socket
            "exec perl -e '$f = syscall(434, getppid(), 0); for (0..9) { exit 0 if syscall(438, $f, $_, 0) != -1 } exit 1'",
        ] {
            let said = pixel.root(&["sh", "-c", script]).await;
            assert_ne!(said.code, 0, "{script}: {said:?}");
        }
    });
}

#[test]
fn no_descriptor_comes_along() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("fds").await;
        // Something that an exec in this process could pass on by mistake.
        let _held = File::open("/").unwrap();
        let script = "for f in /proc/self/fd/*; do readlink $f; done | sort";
        let seen = pixel.sh(&format!("exec 9</dev/null; {script}")).await;
        let rest: Vec<_> = seen
            .lines()
            .filter(|l| !l.starts_with("pipe:") && *l != "/dev/null" && !l.starts_with("/proc/"))
            .collect();
        assert!(rest.is_empty(), "{rest:?}");
        let pipes = seen.lines().filter(|l| l.starts_with("pipe:")).count();
        assert!(pipes <= 3, "{seen}");
        if pixels_testkit::engine::is_root() {
            let dir = format!("/proc/{}/fd", pixel.pid);
            for entry in std::fs::read_dir(dir).unwrap() {
                let target = std::fs::read_link(entry.unwrap().path()).unwrap();
                let target = target.to_str().unwrap();
                assert!(
                    target == "/dev/null" || target.starts_with("anon_inode:"),
                    "init: {target}"
                );
            }
        }
        // No socket of the host's has a name in here.
        let names = pixel.sh("tail -n +2 /proc/net/unix").await;
        assert_eq!(names, "", "sockets");
        let environment = pixel.sh("env").await;
        for word in ["CARGO", "PIXELS", "RUST"] {
            assert!(!environment.contains(word), "{environment}");
        }
    });
}
