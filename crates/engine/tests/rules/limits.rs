//! A pixel that takes all it can get hurts itself alone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pixels_core::{Backend, CreateOpts, Exec, ExecOpts, Progress};

use crate::harness::{Lab, Pixel, anyone, end};

/// How long another pixel and the host may take for what takes milliseconds.
const BOUND: Duration = Duration::from_secs(20);

/// The other pixel and the host work.
async fn others_work(other: &Pixel) {
    let began = Instant::now();
    assert_eq!(other.root(&["sh", "-c", "echo a > /root/x && cat /root/x"]).await.out, "a");
    assert!(Command::new("true").status().unwrap().success(), "the host");
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
}

async fn goes_away(lab: &Lab, pixel: &Pixel) {
    let began = Instant::now();
    lab.engine.delete(&pixel.name).await.unwrap();
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
}

#[test]
fn a_fork_bomb() {
    as_root_with(&[("limit_processes", "150"), ("cpu", "1")], |lab| async move {
        let (pixel, other) = (lab.pixel("bomb").await, lab.pixel("bomb-other").await);
        let bomb = pixel.start("echo; f() { f | f & }; f 2>/dev/null; sleep 60").await;
        others_work(&other).await;
        let count = |pid: u32| {
            let groups = crate::harness::read_proc(pid, "cgroup");
            let path = groups.lines().find_map(|l| {
                let (_, rest) = l.split_once(':')?;
                let (name, path) = rest.split_once(':')?;
                (name == "pids" || name.is_empty()).then(|| match name {
                    "pids" => format!("/sys/fs/cgroup/pids{path}/pids.current"),
                    _ => format!("/sys/fs/cgroup{path}/pids.current"),
                })
            });
            let text = std::fs::read_to_string(path.unwrap()).unwrap();
            text.trim().parse::<u64>().unwrap()
        };
        assert!(count(pixel.pid) <= 150);
        others_work(&other).await;
        goes_away(&lab, &pixel).await;
        drop(bomb);
        others_work(&other).await;
    });
}

#[test]
fn a_memory_hog() {
    as_root_with(&[("memory", "67108864")], |lab| async move {
        let (pixel, other) = (lab.pixel("hog").await, lab.pixel("hog-other").await);
        for hog in [
            "perl -e '$x = \"x\" x 400000000; print length $x'",
            // Memory that is a file's is the pixel's too.
            "head -c 400000000 /dev/zero > /dev/shm/x && ls -l /dev/shm/x; rm -f /dev/shm/x",
        ] {
            let said = pixel.root(&["sh", "-c", hog]).await;
            assert!(!said.out.contains("400000000"), "{hog}: {said:?}");
            others_work(&other).await;
        }
        // The pixel itself has survived its hog.
        pixel.sh("rm -f /dev/shm/x; true").await;
        goes_away(&lab, &pixel).await;
    });
}

/// A btrfs in a file, mounted until this is dropped.
struct Loop(tempfile::TempDir);

impl Loop {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pixels-btrfs").tempdir_in("/var/tmp").unwrap();
        let (file, mount) = (dir.path().join("disk"), dir.path().join("mnt"));
        std::fs::create_dir(&mount).unwrap();
        std::fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
        run(Command::new("mkfs.btrfs").arg("-q").arg(&file));
        run(Command::new("mount").args(["-o", "loop,noatime"]).arg(&file).arg(&mount));
        let made = Self(dir);
        run(Command::new("btrfs").args(["quota", "enable"]).arg(&mount));
        made
    }

    fn mount(&self) -> PathBuf {
        self.0.path().join("mnt")
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let mount = self.mount();
        let mut umount = Command::new("umount");
        if !umount.arg(&mount).status().is_ok_and(|s| s.success()) {
            let _ = Command::new("umount").arg("--lazy").arg(&mount).status();
        }
    }
}

fn run(command: &mut Command) {
    let said = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
}

/// A root file system of one static program.
fn small_image(at: &Path) {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    let busybox = busybox.into_iter().find(|p| p.exists());
    let busybox = busybox.expect("the package busybox-static, of which the image is made");
    for dir in ["bin", "etc", "root", "tmp"] {
        std::fs::create_dir_all(at.join(dir)).unwrap();
    }
    std::fs::copy(busybox, at.join("bin/busybox")).unwrap();
    for name in ["sh", "dd", "cat", "ls", "echo", "rm"] {
        std::os::unix::fs::symlink("busybox", at.join("bin").join(name)).unwrap();
    }
    std::fs::write(at.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    std::fs::write(at.join("etc/group"), "root:x:0:\n").unwrap();
}

#[test]
fn a_disk_filler() {
    let disk = Loop::new();
    let root = disk.mount().join("store").display().to_string();
    let image = disk.0.path().join("image");
    small_image(&image);
    as_root_with(&[("root", &root)], |lab| async move {
        let source = image.to_str().unwrap();
        lab.engine.import_image(source, Some("small"), Progress::default()).await.unwrap();
        let make = async |role: &str| {
            let image = Some("small".to_owned());
            let disk = Some(64 << 20);
            lab.create(CreateOpts { image, disk, ..CreateOpts::new(lab.name(role)) }).await
        };
        let (pixel, other) = (make("filler").await, make("filler-other").await);
        let fill =
            "dd if=/dev/zero of=/root/big bs=1M count=600; cat /root/big >/dev/null; echo end";
        let said = pixel.root(&["sh", "-c", fill]).await;
        assert!(
            said.err.to_lowercase().contains("quota") || said.err.contains("space"),
            "{said:?}"
        );
        let size: u64 =
            pixel.sh("ls -l /root/big").await.split_whitespace().nth(4).unwrap().parse().unwrap();
        assert!(size <= 65 << 20, "{size} bytes were written");
        others_work(&other).await;
        other.sh("dd if=/dev/zero of=/root/some bs=1M count=32 2>/dev/null").await;
        // It can be stopped, started and removed as full as it is.
        let opts = ExecOpts { root: true, ..ExecOpts::new(["sh", "-c", "echo; exec cat"]) };
        end(lab.engine.spawn(&pixel.name, opts).await.unwrap()).await;
        goes_away(&lab, &pixel).await;
        lab.engine.delete(&other.name).await.unwrap();
        lab.engine.remove_image("small").await.unwrap();
    });
}

fn as_root_with<F>(settings: &[(&str, &str)], test: impl FnOnce(Lab) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    assert!(pixels_testkit::engine::is_root(), "limits need root here: run it as root");
    anyone(settings, test);
}
