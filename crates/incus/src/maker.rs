//! Who is making an instance or a file: so that a later run can tell what goes
//! on from what was left by a process that is gone.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pixels_core::{Bytes, DirEntry};
use sha2::{Digest, Sha256};

use crate::lifecycle::random;

/// How the name of a half-made file or tree begins.
const TEMP: &str = ".pixels-";
/// After this long without a change, nobody on another machine is still writing it.
const TEMP_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// `<boot id>/<pid>/<start time>` of this process. Start time is field 22 of
/// `/proc/self/stat` (proc(5)), in clock ticks since boot: a reused pid differs in it.
pub(crate) fn current() -> String {
    let pid = std::process::id();
    format!("{}/{pid}/{}", boot_id(), start_time(pid).unwrap_or_default())
}

/// Whether the process that `maker` names is known to be gone. A maker on
/// another machine is not known to be.
pub(crate) fn is_gone(maker: &str) -> bool {
    let mut parts = maker.split('/');
    let (Some(boot), Some(pid), Some(start)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Ok(pid) = pid.parse::<u32>() else { return false };
    !boot.is_empty()
        && boot == boot_id()
        && start_time(pid).is_none_or(|now| now.to_string() != start)
}

/// A name for something half-made: `.pixels-<machine>-<pid>-<start time>-<random>`.
pub(crate) fn temp_name() -> Bytes {
    let pid = std::process::id();
    let start = start_time(pid).unwrap_or_default();
    let random = hex(&random()[..8]);
    format!("{TEMP}{}-{pid}-{start}-{random}", machine()).into_bytes()
}

/// Whether an entry has such a name and its maker is gone: at once if that was
/// on this machine, after a day if it was on another.
pub(crate) fn is_leftover(entry: &DirEntry) -> bool {
    let Some((machine_of, pid, start)) = parse_temp(&entry.name) else { return false };
    if !machine_of.is_empty() && machine_of == machine() {
        return start_time(pid).is_none_or(|now| now != start);
    }
    let changed = UNIX_EPOCH.checked_add(Duration::from_secs(entry.stat.mtime));
    changed.is_some_and(|t| SystemTime::now().duration_since(t).is_ok_and(|d| d > TEMP_LIMIT))
}

/// Machine, pid and start time; the guest can make any name it likes, and only
/// one of exactly our form counts.
fn parse_temp(name: &[u8]) -> Option<(&str, u32, u64)> {
    let parts: Vec<&str> = std::str::from_utf8(name).ok()?.strip_prefix(TEMP)?.split('-').collect();
    let [machine, pid, start, random] = parts[..] else { return None };
    let word = |w: &str| w.len() == 16 && w.bytes().all(|b| b.is_ascii_hexdigit());
    (word(machine) && word(random)).then_some(())?;
    Some((machine, pid.parse().ok()?, start.parse().ok()?))
}

/// This machine since it was booted, in 16 digits.
fn machine() -> String {
    hex(&Sha256::digest(boot_id())[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // Processes of another pid namespace have other numbers: two containers of
    // one host must not judge each other.
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    if text.is_empty() {
        return String::new();
    }
    format!("{}+{}", text.trim(), namespace.to_string_lossy().replace('/', ""))
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_living_and_the_dead() {
        assert!(!is_gone(&current()));
        let me = current();
        let (rest, start) = me.rsplit_once('/').unwrap();
        let other = start.parse::<u64>().unwrap() + 1;
        assert!(is_gone(&format!("{rest}/{other}")), "another start time is another process");
        assert!(!is_gone("elsewhere/1/1"), "another boot says nothing");
        assert!(!is_gone(""));
        assert!(!is_gone("a/b/c"));
    }

    #[test]
    fn half_made_files() {
        use pixels_core::{FileKind, FileStat, Owner};
        let owner = Owner { uid: 0, gid: 0 };
        let stat = FileStat { kind: FileKind::File, size: 0, mode: 0o600, owner, mtime: 1 };
        let left = |name: &str| is_leftover(&DirEntry { name: name.as_bytes().to_vec(), stat });
        let mine = String::from_utf8(temp_name()).unwrap();
        assert!(!left(&mine), "its maker lives");
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
