//! The system calls of pixels, as data, compiled to the kernel's filters.
//!
//! Two filters: the first refuses what exists and is not for pixels (and clones
//! into new namespaces) with EPERM, the second answers ENOSYS to all that is in
//! neither list. Calls of another architecture end the process.

use std::sync::OnceLock;

use pixels_core::{Error, Result};
use seccompiler::{BpfProgram, TargetArch};
use serde_json::{Value, json};

const ALLOWED: &str = include_str!("allowed.txt");
const DENIED: &str = include_str!("denied.txt");

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (clone(2)).
const NAMESPACES: [u64; 7] =
    [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

/// The filters in the order of their installation, in the kernel's form.
///
/// # Errors
/// The lists name a call that this architecture does not have.
pub(crate) fn filters() -> Result<Vec<Vec<u8>>> {
    static COMPILED: OnceLock<Result<Vec<Vec<u8>>, String>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| compile().map_err(|e| e.to_string()));
    compiled.clone().map_err(|e| Error::backend("compile the system call filter", e))
}

fn names(list: &'static str) -> Vec<&'static str> {
    list.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| match line.split_once(':') {
            Some((arch, name)) => (arch == std::env::consts::ARCH).then_some(name),
            None => Some(line),
        })
        .collect()
}

fn compile() -> std::result::Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let plain = |name: &&str| json!({"syscall": name});
    let mut refused: Vec<Value> = names(DENIED).iter().map(plain).collect();
    for flag in NAMESPACES {
        refused.push(json!({"syscall": "clone", "args": [
            {"index": 0, "type": "qword", "op": {"masked_eq": flag}, "val": flag},
        ]}));
    }
    let known: Vec<Value> = names(ALLOWED).iter().chain(&names(DENIED)).map(plain).collect();
    let text = json!({
        "refused": {
            "mismatch_action": "allow", "match_action": {"errno": EPERM}, "filter": refused,
        },
        "known": {
            "mismatch_action": {"errno": ENOSYS}, "match_action": "allow", "filter": known,
        },
    })
    .to_string();
    let mut programs = seccompiler::compile_from_json(text.as_bytes(), arch)?;
    let mut take = |name: &str| programs.remove(name).ok_or("a filter is missing");
    Ok(vec![bytes(&take("refused")?), bytes(&take("known")?)])
}

fn bytes(program: &BpfProgram) -> Vec<u8> {
    let mut out = Vec::with_capacity(program.len() * 8);
    for i in program {
        out.extend_from_slice(&i.code.to_ne_bytes());
        out.extend_from_slice(&[i.jt, i.jf]);
        out.extend_from_slice(&i.k.to_ne_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_compile_and_are_apart() {
        let filters = filters().unwrap();
        assert_eq!(filters.len(), 2);
        assert!(filters.iter().all(|f| f.len() % 8 == 0 && f.len() / 8 < 4096));
        let allowed = names(ALLOWED);
        for name in names(DENIED) {
            assert!(!allowed.contains(&name), "{name} is in both lists");
        }
        assert!(!allowed.contains(&"clone3"), "its flags cannot be seen by a filter");
    }
}
