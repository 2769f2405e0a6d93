//! Names of what is half-made in a pixel: they say who makes it, so that a later
//! run can tell what goes on from what a dead process left.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pixels_core::{Bytes, DirEntry};
use sha2::{Digest, Sha256};

/// How such a name begins.
const TEMP: &str = ".pixels-";
/// After this long without a change, nobody on another machine (a pixel's disk
/// may have come from one) is still writing it.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// A new name: `.pixels-<machine>-<pid>-<start time>-<random>`.
pub(super) fn temp_name() -> Bytes {
    let pid = std::process::id();
    let start = start_time(pid).unwrap_or_default();
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the system has a random generator");
    format!("{TEMP}{}-{pid}-{start}-{}", machine(), hex(&random)).into_bytes()
}

/// Whether an entry has such a name and its maker is gone: at once if that was
/// on this machine since it was booted, after a day otherwise.
pub(super) fn is_leftover(entry: &DirEntry) -> bool {
    let Some((maker, pid, start)) = parse(&entry.name) else { return false };
    if maker == machine() {
        return start_time(pid).is_none_or(|now| now != start);
    }
    let changed = UNIX_EPOCH.checked_add(Duration::from_secs(entry.stat.mtime));
    changed.is_some_and(|t| SystemTime::now().duration_since(t).is_ok_and(|d| d > LIMIT))
}

/// Machine, pid and start time. The guest can make any name it likes, and only
/// one of exactly our form counts.
fn parse(name: &[u8]) -> Option<(&str, u32, u64)> {
    let parts: Vec<&str> = std::str::from_utf8(name).ok()?.strip_prefix(TEMP)?.split('-').collect();
    let [machine, pid, start, random] = parts[..] else { return None };
    let word = |w: &str| w.len() == 16 && w.bytes().all(|b| b.is_ascii_hexdigit());
    (word(machine) && word(random)).then_some(())?;
    Some((machine, pid.parse().ok()?, start.parse().ok()?))
}

/// This machine since it was booted, as this process numbers processes (another
/// pid namespace has other numbers), in 16 digits.
fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = format!("{}+{}", boot.trim(), namespace.to_string_lossy());
    hex(&Sha256::digest(text)[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Field 22 of `/proc/<pid>/stat` (proc(5)), in clock ticks since boot: a pid
/// that is used again differs in it.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use pixels_core::{FileKind, FileStat, Owner};

    use super::*;

    #[test]
    fn the_dead_and_the_living() {
        let owner = Owner { uid: 0, gid: 0 };
        let stat = FileStat { kind: FileKind::File, size: 0, mode: 0o600, owner, mtime: 1 };
        let left = |name: &str| is_leftover(&DirEntry { name: name.as_bytes().to_vec(), stat });
        let mine = String::from_utf8(temp_name()).unwrap();
        assert!(!left(&mine), "its maker lives");
        assert_ne!(mine.as_bytes(), temp_name(), "no name comes twice");
        let (rest, random) = mine.rsplit_once('-').unwrap();
        let (rest, start) = rest.rsplit_once('-').unwrap();
        let other = start.parse::<u64>().unwrap() + 1;
        assert!(left(&format!("{rest}-{other}-{random}")), "its maker is gone");
        let elsewhere = format!(".pixels-0123456789abcdef-1-1-{random}");
        assert!(left(&elsewhere), "a day old, from another machine");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let fresh = FileStat { mtime: now, ..stat };
        assert!(!is_leftover(&DirEntry { name: elsewhere.into_bytes(), stat: fresh }));
        for theirs in [".pixels-", ".pixels-1-2-3", "x", ".pixels-cafe", ".pixels-a-1-1-b"] {
            assert!(!left(theirs), "{theirs} is none of ours");
        }
    }
}
