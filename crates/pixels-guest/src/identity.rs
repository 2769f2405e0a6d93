//! The face `identity`: makes a clone a machine of its own, once per token.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use pixels_guest_api::{GUEST_DIR, IDENTITY_VARIABLE};

use crate::sys::{fd, process};
use crate::{boot, hostkey};

const MAX_TOKEN: usize = 256;
const MACHINE_ID: &str = "/etc/machine-id";
const DBUS_MACHINE_ID: &str = "/var/lib/dbus/machine-id";

/// `identity <token>`, `identity --record <token>`. Answers 0
/// when the token is in force, 1 for a failure, 2 for wrong usage.
pub(crate) fn run(args: &[&[u8]]) -> i32 {
    let result = match args {
        [b"--record", token] if valid(token) => apply(token, false),
        [token] if valid(token) => apply(token, true),
        _ => {
            fd::complain("error: identity takes [--record] <token>");
            return 2;
        }
    };
    match result {
        Ok(()) => 0,
        Err(e) => {
            fd::complain(&format!("error: cannot renew this machine's identity: {e}"));
            1
        }
    }
}

/// Printable, without spaces: it is one line of a file.
fn valid(token: &[u8]) -> bool {
    (1..=MAX_TOKEN).contains(&token.len())
        && token.iter().all(u8::is_ascii_graphic)
        && !token.starts_with(b"-")
}

/// Brings the token in force that the backend set for the instance. When it is
/// in force already, as it is but once in a clone's life, this reads two files.
pub(crate) fn at_boot() -> io::Result<()> {
    match boot::variable(IDENTITY_VARIABLE)? {
        Some(token) if valid(&token) => apply(&token, true),
        Some(_) => Err(io::Error::other("the token is not a printable word")),
        None => Ok(()),
    }
}

/// Brings the token in force under the lock, renewing everything first where
/// asked: the token is written last, so what was interrupted is done again.
fn apply(token: &[u8], renew_first: bool) -> io::Result<()> {
    let dir = Path::new(GUEST_DIR);
    let path = dir.join("identity");
    let in_force = || read_nofollow(&path).is_some_and(|t| t.trim_ascii_end() == token);
    if in_force() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(dir.join("identity.lock"))?;
    process::lock(lock.as_raw_fd())?;
    // Somebody else may have done it while we waited.
    if in_force() {
        return Ok(());
    }
    if renew_first {
        renew()?;
    }
    replace(&path, &[token, b"\n"].concat(), 0o644)
}

fn renew() -> io::Result<()> {
    let id = machine_id()?;
    if exists("/etc") {
        replace(Path::new(MACHINE_ID), &id, 0o444)?;
    }
    // Usually a link to the other; a file of its own must follow it.
    if fs::symlink_metadata(DBUS_MACHINE_ID).is_ok_and(|m| m.is_file()) {
        replace(Path::new(DBUS_MACHINE_ID), &id, 0o444)?;
    }
    remove("/var/lib/systemd/random-seed")?;
    remove_in("/var/lib/dhcp", |name| name.ends_with(b".leases"))?;
    remove_in("/run/systemd/netif/leases", |_| true)?;
    renew_host_keys()
}

/// A new Ed25519 key where the source had any, which every client takes: made
/// here, because each ssh-keygen costs a clone's first second dearly. A source
/// without one was copied while its first keys were being made, or its server is
/// set to others: those are made anew too.
fn renew_host_keys() -> io::Result<()> {
    const ED25519: &str = "ed25519";
    let file = |kind: &str, end: &str| format!("/etc/ssh/ssh_host_{kind}_key{end}");
    let mut kinds: Vec<&str> = ["ecdsa", "rsa"]
        .into_iter()
        .filter(|kind| exists(&file(kind, "")) && !exists(&file(ED25519, "")))
        .collect();
    if !kinds.is_empty() || exists(&file(ED25519, "")) {
        // Made beside the old one and renamed over it: there is no moment without a
        // key, and what is interrupted is done again.
        let mut key = hostkey::generate()?;
        replace(Path::new(&file(ED25519, ".pub")), key.public.as_bytes(), 0o644)?;
        let kept = replace(Path::new(&file(ED25519, "")), &key.private, 0o600);
        process::wipe(&mut key.private);
        kept?;
    }
    // One that cannot be made anew must not be the source's: it goes.
    kinds.retain(|kind| keygen(kind, &file(kind, "")).unwrap_or(false));
    kinds.push(ED25519);
    let made: Vec<String> = kinds
        .iter()
        .flat_map(|kind| ["", ".pub"].map(|end| format!("ssh_host_{kind}_key{end}")))
        .collect();
    remove_in("/etc/ssh", |name| is_host_key(name) && !made.iter().any(|m| m.as_bytes() == name))
}

/// A key of another kind over the one at `path`; `false` if nothing can make one.
fn keygen(kind: &str, path: &str) -> io::Result<bool> {
    let new = format!("{path}{NEW}");
    remove(&new)?;
    remove(format!("{new}.pub"))?;
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", "", "-C", "", "-f", &new])
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(io::Error::other(format!("ssh-keygen failed ({status})"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    }
    fs::rename(format!("{new}.pub"), format!("{path}.pub"))?;
    fs::rename(&new, path)?;
    Ok(true)
}

/// What the name of a key ends with while it is made.
const NEW: &str = ".pixels-new";

/// `ssh_host_<kind>_key`, also with a suffix: the public half, and what
/// ssh-keygen was writing when the source was copied.
fn is_host_key(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"ssh_host_") else { return false };
    let stem = rest.split(|b| *b == b'.').next().unwrap_or_default();
    stem.ends_with(b"_key")
}

/// A random machine id as systemd has it: a version 4 UUID in plain hexadecimal
/// and a newline.
fn machine_id() -> io::Result<Vec<u8>> {
    let mut bytes = [0; 16];
    process::random(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("{hex}\n").into_bytes())
}

fn exists(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The start of a regular file; `None` for a link, or anything else.
fn read_nofollow(path: &Path) -> Option<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut out = Vec::new();
    file.take(MAX_TOKEN as u64 + 2).read_to_end(&mut out).ok()?;
    Some(out)
}

/// Replaces a file whole. A link in its place is replaced, not followed, and so
/// is one in the place of the temporary file.
///
/// Not synced, which would cost a clone more than all the rest: file systems
/// write the content of what is renamed over a file before the rename, and
/// renames in their order, so the token never outlives what it stands for.
fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".pixels-new");
    let temporary = path.with_file_name(name);
    remove(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    fs::rename(&temporary, path)
}

/// Unlinking follows no link; what is not there is removed already.
fn remove(path: impl AsRef<Path>) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes the chosen files of a directory that is no link. Subdirectories stay.
fn remove_in(dir: &str, chosen: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    if !fs::symlink_metadata(dir).is_ok_and(|m| m.is_dir()) {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name: &OsStr = &entry.file_name();
        if chosen(name.as_bytes()) && !entry.file_type()?.is_dir() {
            remove(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_host_key;

    #[test]
    fn host_keys_by_name() {
        for key in ["rsa_key", "ed25519_key.pub", "rsa_key.vRm9qIaTu0"] {
            assert!(is_host_key(format!("ssh_host_{key}").as_bytes()), "{key}");
        }
        for other in ["sshd_config", "moduli", "ssh_host_rsa_key-cert.pub", "rsa_key", "ssh_host_"]
        {
            assert!(!is_host_key(other.as_bytes()), "{other}");
        }
    }
}
