//! Rule 8: what a guest puts in the way of file operations, and what an archive
//! puts in an image, stays inside.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use pixels_core::{Backend, Files, Progress, SandboxExt};
use tokio::io::AsyncReadExt;

use crate::harness::{anyone, as_root, end};

/// A directory of the host's with a file in it that nobody may read or change.
struct Canary(tempfile::TempDir);

impl Canary {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pixels-canary").tempdir_in("/var/tmp").unwrap();
        std::fs::write(dir.path().join("file"), "of the host").unwrap();
        Self(dir)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn unharmed(&self) {
        let names: Vec<_> =
            std::fs::read_dir(self.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
        let file = self.0.path().join("file");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "of the host");
        assert_eq!(std::fs::metadata(&file).unwrap().nlink(), 1, "it has another name");
    }
}

#[test]
fn a_guest_that_swaps_directories_for_links_gains_nothing() {
    anyone(&[], |lab| async move {
        let canary = Canary::new();
        let pixel = lab.pixel("swap").await;
        // In the pixel that path is the pixel's own; links point there and up and out.
        let host = canary.path();
        let script = format!(
            "mkdir -p /root/d; echo own > /root/d/file; ln -s {host} /root/l; ln -s ../../../../..{host} /root/m; \
             ln -s /proc/1/root{host} /root/n; echo; \
             exec perl -e 'while (1) {{ for $x (qw(l m n)) {{ \
             rename \"/root/d\", \"/root/k\"; rename \"/root/$x\", \"/root/d\"; \
             rename \"/root/d\", \"/root/$x\"; rename \"/root/k\", \"/root/d\"; }} }}'"
        );
        let racer = pixel.start(&script).await;
        let session = lab.engine.files(&pixel.name).await.unwrap();
        let (mut read, mut written) = (0, 0);
        for n in 0..150 {
            let path = if n % 2 == 0 { "/root/d/file" } else { "/root/d/new" };
            if lab.engine.write_file(&pixel.name, path, b"pushed", 0o644, None).await.is_ok() {
                written += 1;
            }
            if let Ok((_, mut reader)) = session.open_read(b"/root/d/file").await {
                let mut content = String::new();
                if reader.read_to_string(&mut content).await.is_ok() {
                    assert_ne!(content, "of the host");
                    read += 1;
                }
            }
            if let Ok(entries) = session.read_dir(b"/root/d").await {
                assert!(entries.len() < 10);
            }
            let _ = session.remove_file(b"/root/d/new").await;
            let _ = session.rename(b"/root/d/file", b"/root/d/file").await;
        }
        canary.unharmed();
        assert!(read > 0 && written > 0, "the race was never won: {read} {written}");
        end(racer).await;
    });
}

/// One member of an archive.
fn member(name: &str, kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut head = [0u8; 512];
    let mut put =
        |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0004755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(157, link);
    put(257, "ustar\x0000");
    put(329, "0000010\0");
    put(337, "0000000\0");
    head[156] = kind;
    let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = [&head[..], content].concat();
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

#[test]
fn hostile_archives_are_refused_or_confined() {
    anyone(&[], |lab| async move {
        let canary = Canary::new();
        let host = canary.path();
        let up = format!("{}{host}", "../".repeat(12).trim_end_matches('/'));
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| member(name, b'0', "", b"changed");
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("up", file(&format!("{up}/file"))),
            ("absolute", file(&format!("{host}/file"))),
            ("inner up", file(&format!("a/../{up}/file"))),
            ("link then file", [member("d", b'2', host, b""), file("d/file")].concat()),
            ("relative link then file", [member("d", b'2', &up, b""), file("d/new")].concat()),
            ("file by link", [member("f", b'2', &format!("{host}/file"), b""), file("f")].concat()),
            ("hard link out", member("h", b'1', &format!("{host}/file"), b"")),
            ("hard link up", [member("h", b'1', &format!("{up}/file"), b""), file("h")].concat()),
            (
                "hard link by link",
                [member("d", b'2', host, b""), member("h", b'1', "d/file", b""), file("h")]
                    .concat(),
            ),
            (
                "directory by link",
                [member("d", b'2', host, b""), member("d/x/", b'5', "", b"")].concat(),
            ),
            ("block device", member("disk", b'4', "", b"")),
            ("character device", member("mem", b'3', "", b"")),
            ("whiteout", [member("d", b'2', host, b""), file("d/.wh.file")].concat()),
        ];
        for (n, (what, mut archive)) in cases.into_iter().enumerate() {
            archive.extend([0; 1024]);
            let path = dir.path().join(format!("{n}.tar"));
            std::fs::write(&path, archive).unwrap();
            let alias = format!("hostile-{}-{n}", std::process::id());
            let source = path.to_str().unwrap();
            let imported = lab.engine.import_image(source, Some(&alias), Progress::default()).await;
            canary.unharmed();
            if imported.is_ok() {
                no_devices(&lab.root, what);
                lab.engine.remove_image(&alias).await.unwrap();
            }
        }
    });
}

/// No device but whiteouts is in any layer.
fn no_devices(root: &Path, what: &str) {
    if !pixels_testkit::engine::is_root() {
        return;
    }
    let mut find = Command::new("find");
    find.arg(root.join("layers"))
        .args(["-name", "disk", "-type", "b", "-o", "-name", "mem", "-type", "c"]);
    let found = find.output().unwrap();
    assert!(found.stdout.is_empty(), "{what}: {}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn file_operations_have_the_pixels_rights_alone() {
    as_root(|lab| async move {
        let pixel = lab.pixel("rights").await;
        for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/power/state"] {
            let written = lab.engine.write_file(&pixel.name, path, b"x", 0o644, None).await;
            assert!(written.is_err(), "{path}");
        }
        for path in ["/proc/1/environ", "/proc/kcore", "/proc/1/mem"] {
            let read = lab.engine.read_file(&pixel.name, path, 64).await;
            assert!(read.is_err() || read.unwrap().0.is_empty(), "{path}");
        }
        // What it writes belongs to the pixel's root, not the host's.
        lab.engine.write_file(&pixel.name, "/root/mine", b"x", 0o4755, None).await.unwrap();
        assert_eq!(pixel.sh("stat -c %u:%g /root/mine").await, "0:0");
    });
}
