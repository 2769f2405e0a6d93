//! What people do inside works: sudo, strace, gdb.

use std::path::{Path, PathBuf};
use std::process::Command;

use pixels_core::SandboxExt;

use crate::harness::{Pixel, anyone, as_root};

#[test]
fn sudo_and_setuid_programs_work() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("sudo").await;
        pixel.have_user().await;
        assert_eq!(pixel.user(&["id", "-u"]).await.out, "1000");
        let said = pixel.user(&["sudo", "-n", "id", "-u"]).await;
        assert_eq!((said.code, &*said.out), (0, "0"), "{said:?}");
        let said = pixel.user(&["sudo", "-n", "-u", "games", "id", "-un"]).await;
        assert_eq!(said.out, "games", "{said:?}");
        // Without sudo it is nobody special.
        assert_ne!(pixel.user(&["cat", "/etc/shadow"]).await.code, 0);
        let out =
            pixel.user(&["sudo", "-n", "sh", "-c", "echo yes > /etc/mine; cat /etc/mine"]).await;
        assert_eq!(out.out, "yes");
    });
}

#[test]
fn a_process_can_be_traced() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("trace").await;
        pixel.have_user().await;
        // PTRACE_ATTACH, wait, PTRACE_PEEKUSER, PTRACE_DETACH: of a child, as anyone.
        let script = "$p = fork // die; if (!$p) { sleep 60; exit } \
            syscall(101, 16, $p, 0, 0) == 0 or die; waitpid $p, 0; \
            syscall(101, 17, $p, 0, 0) == 0 or die; kill 9, $p; print 'traced'";
        assert_eq!(pixel.user(&["perl", "-e", script]).await.out, "traced");
        // Root may also look into a process of somebody else's.
        let script = "$p = fork // die; if (!$p) { $) = 1000; $> = 1000; sleep 60; exit } \
            select undef, undef, undef, 0.1; \
            syscall(101, 16, $p, 0, 0) == 0 or die; waitpid $p, 0; kill 9, $p; print 'traced'";
        assert_eq!(pixel.root(&["perl", "-e", script]).await.out, "traced");
    });
}

/// Packages for the pixel, fetched by the host's apt by what the pixel has.
async fn packages(pixel: &Pixel, engine: &pixels_engine::Engine, names: &[&str]) -> Vec<PathBuf> {
    let dir = Path::new("/var/cache/pixels-test-packages");
    std::fs::create_dir_all(dir.join("partial")).unwrap();
    let work = tempfile::tempdir().unwrap();
    let (status, _) = engine.read_file(&pixel.name, "/var/lib/dpkg/status", 0).await.unwrap();
    std::fs::write(work.path().join("status"), status).unwrap();
    let option = |key: &str, value: &Path| format!("{key}={}", value.display());
    let apt = |verb: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(["-o", &option("Dir::State::status", &work.path().join("status"))]);
        apt.args(["-o", &option("Dir::Cache::archives", dir)]);
        apt.args(["-o", "APT::Sandbox::User=root", "--yes", "--no-install-recommends"]);
        apt.args(verb).args(names).output().unwrap()
    };
    let mut got = apt(&["install", "--download-only"]);
    if !got.status.success() {
        let update = Command::new("apt-get").arg("update").output().unwrap();
        assert!(update.status.success(), "{}", String::from_utf8_lossy(&update.stderr));
        got = apt(&["install", "--download-only"]);
    }
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    let list = apt(&["install", "--print-uris", "--no-download", "--reinstall"]);
    drop(list);
    let files = std::fs::read_dir(dir).unwrap().flatten().map(|e| e.path());
    files.filter(|p| p.extension().is_some_and(|e| e == "deb")).collect()
}

/// The release that a system is.
fn release(text: &str) -> Option<String> {
    text.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME=")).map(str::to_owned)
}

#[test]
fn strace_and_gdb_work() {
    as_root(|lab| async move {
        let pixel = lab.pixel("debug").await;
        let host = release(&std::fs::read_to_string("/etc/os-release").unwrap());
        let guest = release(&pixel.sh("cat /etc/os-release").await);
        if host != guest {
            eprintln!("strace_and_gdb_work: cannot run: the host is {host:?}, the image {guest:?}");
            return;
        }
        pixel.have_user().await;
        pixel.sh("mkdir /root/debs").await;
        for deb in packages(&pixel, &lab.engine, &["strace", "gdb-minimal"]).await {
            let name = deb.file_name().unwrap().to_str().unwrap().to_owned();
            let content = std::fs::read(&deb).unwrap();
            pixel.program(&format!("/root/debs/{name}"), &content).await;
        }
        pixel.sh("dpkg --install --force-unsafe-io /root/debs/*.deb >/dev/null 2>&1").await;
        let said = pixel
            .user(&["strace", "-f", "-e", "trace=execve", "sh", "-c", "/bin/true; exit 3"])
            .await;
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.err.contains("execve(\"/bin/true\", "), "{said:?}");
        let script = "sleep 60 & p=$!; sudo -n gdb -batch -p $p -ex 'info registers rip' -ex 'call (int)getpid()' 2>&1; kill $p";
        let said = pixel.user(&["sh", "-c", script]).await;
        assert!(said.out.contains("rip ") && said.out.contains("$1 = "), "{said:?}");
        let said = pixel
            .user(&["gdb", "-batch", "-ex", "starti", "-ex", "info registers rip", "/bin/true"])
            .await;
        assert!(said.out.contains("rip "), "{said:?}");
    });
}
