//! Rule 7, seen from the host: what lies in the store is nobody's but root's.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::harness::as_root;

#[test]
fn setuid_files_of_layers_are_unreachable_for_others() {
    as_root(|lab| async move {
        let pixel = lab.pixel("setuid").await;
        pixel.sh("cp /bin/sh /root/own && chmod 4755 /root/own && chmod 755 /root").await;
        let mut seen = 0;
        for layer in std::fs::read_dir(lab.root.join("layers")).unwrap().flatten() {
            assert_eq!(layer.metadata().unwrap().mode() & 0o7777, 0o700, "{:?}", layer.path());
            for file in ["root/own", "usr/bin/su", "usr/bin/sudo"] {
                let path = layer.path().join("fs/tree").join(file);
                // Only those that there are.
                if std::fs::symlink_metadata(&path).is_ok() {
                    seen += 1;
                    let mut other = Command::new("setpriv");
                    other.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
                    let status = other.args(["test", "-e"]).arg(&path).status().unwrap();
                    assert!(!status.success(), "{path:?} can be reached");
                }
            }
        }
        assert!(seen >= 2, "the pixel's own file and one of the image's");
        for dir in ["", "layers", "pixels", "images", "trash"] {
            let meta = std::fs::metadata(lab.root.join(dir)).unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o700, 0), "{dir}");
        }
    });
}

#[test]
fn nothing_of_a_pixel_shows_in_the_hosts_mounts() {
    as_root(|lab| async move {
        let pixel = lab.pixel("mounts").await;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(" - overlay pixels "), "{mounts}");
        assert!(pixel.sh("cat /proc/self/mountinfo").await.contains(" / / "));
    });
}

#[test]
fn what_a_guest_is_root_of_is_not_roots_here() {
    as_root(|lab| async move {
        let pixel = lab.pixel("owner").await;
        let status = pixel.proc("status");
        let uid: u64 = status
            .lines()
            .find_map(|l| l.strip_prefix("Uid:"))
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(uid >= 2_000_000_000, "{uid}");
    });
}
