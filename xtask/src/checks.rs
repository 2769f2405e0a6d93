//! Checks that need no test runner, and what the tests need to be installed.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::process::{cargo, root, run_lines};
use crate::report;

/// Cargo.lock stays below this many packages.
const PACKAGES: usize = 220;

/// Debian packages that the tests want besides those of rig/up, each with a
/// file that shows it is there. Of a toolchain, nothing: xtask itself was linked.
const WANTED: [(&str, &str); 9] = [
    ("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
    ("openssh-client", "/usr/bin/ssh-keygen"),
    ("util-linux", "/usr/bin/unshare"),
    ("procps", "/usr/bin/ps"),
    ("nftables", "/usr/sbin/nft"),
    ("uidmap", "/usr/bin/newuidmap"),
    ("passt", "/usr/bin/pasta"),
    ("btrfs-progs", "/usr/bin/mkfs.btrfs"),
    ("squashfs-tools", "/usr/bin/mksquashfs"),
];

/// What pixels on this machine want, of those the ones for ordinary users alone last.
const FOR_PIXELS: [(&str, &str); 5] = [
    ("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("nftables", "/usr/sbin/nft"),
    ("uidmap", "/usr/bin/newuidmap"),
    ("passt", "/usr/bin/pasta"),
];

/// `cargo fmt --check`.
pub fn fmt() -> Result<()> {
    succeed(cargo().args(["fmt", "--all", "--check"]))
}

/// Clippy over everything, with no warning left.
pub fn clippy() -> Result<()> {
    let mut clippy = cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet"]);
    succeed(clippy.args(["--", "-D", "warnings"]))
}

/// Every example builds.
pub fn examples() -> Result<()> {
    succeed(cargo().args(["build", "--workspace", "--locked", "--quiet", "--examples"]))
}

/// The number of packages in Cargo.lock.
pub fn lock_size() -> Result<()> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    let packages = lock.lines().filter(|line| *line == "[[package]]").count();
    report::line(&format!("{packages} packages"));
    ensure!(
        packages < PACKAGES,
        "Cargo.lock has {packages} packages; fewer than {PACKAGES} are allowed"
    );
    Ok(())
}

/// Every test that SECURITY.md names, as `path::function`, exists.
pub fn claims() -> Result<()> {
    let text = std::fs::read_to_string(root().join("SECURITY.md"))?;
    let mut named = 0;
    for word in text.split('`').skip(1).step_by(2) {
        let Some((path, test)) = word.rsplit_once("::").filter(|(path, _)| path.ends_with(".rs"))
        else {
            continue;
        };
        let source = std::fs::read_to_string(root().join("crates").join(path)).unwrap_or_default();
        ensure!(source.contains(&format!("fn {test}(")), "there is no test {word}");
        named += 1;
    }
    ensure!(named > 0, "SECURITY.md names no test");
    report::line(&format!("{named} tests"));
    Ok(())
}

/// A cargo command of rustup's, installed if it is missing and can be.
pub fn component(name: &str) -> bool {
    let verb = if name == "rustfmt" { "fmt" } else { name };
    let there = || cargo().args([verb, "--version"]).output().is_ok_and(|out| out.status.success());
    if there() {
        return true;
    }
    report::line(&format!("installing {name}"));
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", name]);
    run_lines(&mut rustup, report::line).is_ok_and(|status| status.success()) && there()
}

/// Installs the packages that the tests want.
///
/// # Errors
/// As [`install`].
pub fn packages() -> Result<()> {
    install(&WANTED)
}

/// Installs what pixels on this machine want of whoever runs this.
///
/// # Errors
/// As [`install`].
pub fn for_pixels() -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    // Each of them makes an image; one is enough.
    let made = Path::new("/usr/sbin/debootstrap").exists() && root;
    let wanted: Vec<_> = FOR_PIXELS
        .into_iter()
        .filter(|(package, _)| match *package {
            "mmdebstrap" => !made,
            "nftables" => root,
            "uidmap" | "passt" => !root,
            _ => true,
        })
        .collect();
    install(&wanted)
}

/// Installs the packages that are missing: as root, on Debian.
///
/// # Errors
/// What is missing and cannot be installed.
fn install(wanted: &[(&'static str, &str)]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!("missing: {}\nhint: install them, or run this as root on Debian", missing.join(" "));
    }
    report::line(&format!("installing {}", missing.join(" ")));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.args(["-q", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3"]);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    succeed(apt().arg("update"))?;
    succeed(apt().args(["install", "--no-install-recommends"]).args(missing))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = run_lines(command, report::line)?;
    if !status.success() {
        bail!("{} failed ({status})", command.get_program().to_string_lossy());
    }
    Ok(())
}
