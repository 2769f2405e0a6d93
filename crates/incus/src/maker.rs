//! Who is making an instance: so that a later run can tell a create that goes
//! on from one whose process is gone.

use std::fs;

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
}
