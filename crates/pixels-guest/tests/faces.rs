//! The faces `version`, `ready` and `identity`, in namespaces of their own.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr)]

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const GUEST: &str = env!("CARGO_BIN_EXE_pixels-guest");

fn root(test: &str) -> bool {
    // SAFETY: always succeeds, no pointers.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("{test}: cannot run: it needs root");
    }
    root
}

fn bind(source: &CStr, target: &CStr) -> io::Result<()> {
    let none = std::ptr::null();
    // SAFETY: both paths are NUL-terminated; a bind mount takes no data.
    match unsafe { libc::mount(source.as_ptr(), target.as_ptr(), none, libc::MS_BIND, none.cast()) }
    {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The binary on a machine whose /etc and /var/lib are below `machine`.
fn on(machine: &Path, args: &[&str]) -> Output {
    let path = |name: &str| CString::new(machine.join(name).to_str().unwrap()).unwrap();
    let (etc, lib) = (path("etc"), path("lib"));
    let mut command = Command::new(GUEST);
    command.args(args);
    // SAFETY: only system calls on memory that was prepared before the fork.
    unsafe {
        command.pre_exec(move || {
            let none = std::ptr::null();
            let private = libc::MS_REC | libc::MS_PRIVATE;
            if libc::unshare(libc::CLONE_NEWNS) != 0
                || libc::mount(none, c"/".as_ptr(), none, private, none.cast()) != 0
            {
                return Err(io::Error::last_os_error());
            }
            bind(&etc, c"/etc")?;
            bind(&lib, c"/var/lib")
        })
    };
    command.output().unwrap()
}

fn machine() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["etc/ssh", "lib/dbus", "lib/dhcp", "lib/systemd", "other"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    // ssh-keygen wants to know who it is.
    fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    let put = |name: &str| fs::write(dir.path().join(name), "old\n").unwrap();
    for name in [
        "etc/machine-id",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh/ssh_host_odd_key.pub",
        "etc/ssh/sshd_config",
        "lib/dbus/machine-id",
        "lib/dhcp/dhclient.eth0.leases",
        "lib/systemd/random-seed",
        "other/kept",
    ] {
        put(name);
    }
    dir
}

fn read(machine: &Path, name: &str) -> String {
    fs::read_to_string(machine.join(name)).unwrap_or_default()
}

#[test]
fn version() {
    let out = Command::new(GUEST).arg("version").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.starts_with("pixels-guest ") && text.ends_with(" protocol 1\n"), "{text}");
    let out = Command::new(GUEST).arg("nonsense").output().unwrap();
    assert_eq!(out.status.code(), Some(125));
}

#[test]
fn an_identity_is_renewed_once_per_token() {
    if !root("an_identity_is_renewed_once_per_token") {
        return;
    }
    let dir = machine();
    let m = dir.path();
    let out = on(m, &["identity", "token-1"]);
    assert!(out.status.success(), "{out:?}");
    let id = read(m, "etc/machine-id");
    assert_eq!(id.len(), 33);
    assert!(id.trim_end().bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert_eq!(read(m, "lib/dbus/machine-id"), id);
    assert_ne!(read(m, "etc/ssh/ssh_host_ed25519_key"), "old\n");
    for gone in
        ["etc/ssh/ssh_host_odd_key.pub", "lib/dhcp/dhclient.eth0.leases", "lib/systemd/random-seed"]
    {
        assert!(!m.join(gone).exists(), "{gone}");
    }
    assert_eq!(read(m, "etc/ssh/sshd_config"), "old\n");
    assert_eq!(read(m, "lib/pixels/identity"), "token-1\n");

    assert!(on(m, &["identity", "token-1"]).status.success());
    assert_eq!(read(m, "etc/machine-id"), id);
    assert!(on(m, &["identity", "--record", "token-2"]).status.success());
    assert_eq!(read(m, "lib/pixels/identity"), "token-2\n");
    assert!(on(m, &["identity", "token-2"]).status.success());
    assert_eq!(read(m, "etc/machine-id"), id);
    assert!(on(m, &["identity", "token-3"]).status.success());
    assert_ne!(read(m, "etc/machine-id"), id);
}

#[test]
fn links_are_replaced_and_never_followed() {
    if !root("links_are_replaced_and_never_followed") {
        return;
    }
    let dir = machine();
    let m = dir.path();
    let target = m.join("other/kept");
    fs::create_dir(m.join("lib/pixels")).unwrap();
    for name in ["etc/machine-id", "lib/dbus/machine-id"] {
        fs::remove_file(m.join(name)).unwrap();
        symlink(&target, m.join(name)).unwrap();
    }
    symlink(&target, m.join("etc/machine-id.pixels-new")).unwrap();
    symlink(&target, m.join("lib/pixels/identity")).unwrap();
    fs::remove_file(m.join("lib/dhcp/dhclient.eth0.leases")).unwrap();
    fs::remove_dir(m.join("lib/dhcp")).unwrap();
    fs::write(m.join("other/x.leases"), "old\n").unwrap();
    symlink(m.join("other"), m.join("lib/dhcp")).unwrap();
    let out = on(m, &["identity", "t"]);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(read(m, "other/kept"), "old\n");
    assert_eq!(read(m, "other/x.leases"), "old\n");
    assert_eq!(read(m, "etc/machine-id").len(), 33);
    assert!(m.join("lib/dbus/machine-id").is_symlink());

    fs::remove_file(m.join("lib/pixels/identity.lock")).unwrap();
    symlink(&target, m.join("lib/pixels/identity.lock")).unwrap();
    let out = on(m, &["identity", "t2"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(read(m, "lib/pixels/identity"), "t\n");
}

#[test]
fn wrong_usage_changes_nothing() {
    for args in [
        &["identity"][..],
        &["identity", ""],
        &["identity", "a b"],
        &["identity", "--bogus"],
        &["identity", "--record"],
        &["ready"],
        &["ready", "x"],
    ] {
        let out = Command::new(GUEST).args(args).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}");
    }
}

/// The binary in a network namespace that has nothing but loopback.
fn alone(args: &[&str]) -> Command {
    let mut command = Command::new(GUEST);
    command.args(args);
    // SAFETY: one system call after the fork.
    unsafe {
        command.pre_exec(|| match libc::unshare(libc::CLONE_NEWNET) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        })
    };
    command
}

#[test]
fn ready_waits_no_longer_than_told() {
    if !root("ready_waits_no_longer_than_told") {
        return;
    }
    let before = Instant::now();
    let out = alone(&["ready", "300"]).output().unwrap();
    assert_eq!((out.status.code(), out.stdout.len()), (Some(1), 0), "{out:?}");
    assert!(before.elapsed() >= Duration::from_millis(300));
    let out = alone(&["ready", "0"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn ready_hears_of_an_address_that_comes_later() {
    if !root("ready_hears_of_an_address_that_comes_later") {
        return;
    }
    // A veth comes up with its peer; its link-local address is not enough.
    let script = "set -e
        \"$0\" ready 20000 & waiter=$!
        ip link add a0 type veth peer name b0
        ip link set b0 up; ip link set a0 up
        ip addr add 192.0.2.7/24 dev a0
        wait $waiter";
    let out = Command::new("unshare").args(["-n", "sh", "-c", script, GUEST]).output();
    match out {
        Ok(out) if out.status.success() => assert_eq!(out.stdout, b"192.0.2.7\n"),
        other => panic!("it needs unshare, and ip with veth: {other:?}"),
    }
}
