//! Kills every descendant of this process, which must be their subreaper.
//!
//! All are stopped first, so that none can start another or see its sibling die
//! and replace it; then all are killed. One that slipped through (a fork in
//! flight while its parent was stopped) becomes a child of this process when its
//! parent dies, and the next round finds it. The end is the kernel's word that
//! no children are left.

use std::collections::HashSet;
use std::fs;

use crate::sys::process::{self, Pid, Waited};

/// Rounds of stopping before killing starts anyway. Each finds fewer newcomers,
/// as only those not yet stopped can make any.
const STOP_ROUNDS: usize = 64;

/// Kills and reaps the tree; returns when nothing of it is left. `group` is the
/// command's process group, for guests without /proc.
pub(crate) fn kill(group: Option<Pid>) {
    process::hurry();
    loop {
        let mut stopped = HashSet::new();
        for _ in 0..STOP_ROUNDS {
            if !stop_newcomers(&mut stopped) {
                break;
            }
        }
        for pid in &stopped {
            let _ = process::kill(*pid, libc::SIGKILL);
        }
        if stopped.is_empty()
            && let Some(group) = group
        {
            let _ = process::kill(-group, libc::SIGKILL);
        }
        // Whatever was killed, or descends from it, ends up a child of this
        // process: waiting for one, then taking all, always makes progress.
        let mut waited = process::wait(-1, true);
        loop {
            match waited {
                Waited::NoChildren => return,
                Waited::Nothing => break,
                Waited::Ended(..) => waited = process::wait(-1, false),
            }
        }
    }
}

/// One pass over /proc that stops each descendant on sight; says whether there
/// were any new ones.
fn stop_newcomers(stopped: &mut HashSet<Pid>) -> bool {
    let own = process::own_pid();
    let mut family = HashSet::from([own]);
    let mut strangers = Vec::new();
    let mut found = false;
    let mut meet = |pid: Pid| {
        if stopped.insert(pid) {
            let _ = process::kill(pid, libc::SIGSTOP);
            found = true;
        }
    };
    // In order of pid, so most children come after their parents.
    for pid in pids() {
        let Some((parent, zombie)) = parent_of(pid) else {
            continue;
        };
        if zombie {
            continue;
        }
        if family.contains(&parent) {
            family.insert(pid);
            meet(pid);
        } else {
            strangers.push((pid, parent));
        }
    }
    // Those whose pid wrapped around to below their parent's.
    loop {
        let before = strangers.len();
        strangers.retain(|(pid, parent)| {
            let related = family.contains(parent);
            if related {
                family.insert(*pid);
                meet(*pid);
            }
            !related
        });
        if strangers.len() == before {
            return found;
        }
    }
}

fn pids() -> Vec<Pid> {
    let mut pids: Vec<Pid> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str().and_then(|n| n.parse().ok()))
        .collect();
    pids.sort_unstable();
    pids
}

/// The parent of a process and whether it is only a zombie, from its `stat`.
fn parent_of(pid: Pid) -> Option<(Pid, bool)> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state ppid …`: the name may hold anything, also `) S 1`, so what
/// counts is behind the last parenthesis.
fn parse_stat(stat: &[u8]) -> Option<(Pid, bool)> {
    let at = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(&stat[at + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some((parent, matches!(state, "Z" | "X")))
}

#[cfg(test)]
mod tests {
    use super::parse_stat;

    #[test]
    fn a_process_name_cannot_forge_its_parent() {
        assert_eq!(parse_stat(b"7 (sh) S 5 7 7 0"), Some((5, false)));
        assert_eq!(parse_stat(b"7 (a) S 1 (b\n) Z 5 7"), Some((5, true)));
        assert_eq!(parse_stat(b"7 (\xff) R 12 7"), Some((12, false)));
        assert_eq!(parse_stat(b"7 sh S 5"), None);
        assert_eq!(parse_stat(b""), None);
    }
}
