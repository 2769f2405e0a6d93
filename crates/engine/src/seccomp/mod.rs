//! The system calls of pixels, as data, compiled to the kernel's filter.
//!
//! One classic BPF program (seccomp(2)): calls of another architecture end the
//! process; the number is then searched for in ranges that have one answer each,
//! by halves, because the kernel translates the program again for every process
//! that installs it, and runs it for each call that it cannot remember.

mod table;

use std::collections::BTreeMap;

use table::{ALLOWED, ALLOWED_HERE, DENIED, DENIED_HERE};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;

/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The low half of the first argument.
const FIRST: u32 = 16;

/// `AUDIT_ARCH_*` of this architecture.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(not(target_arch = "x86_64"))]
const NATIVE: u32 = 0xc000_00b7;

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (clone(2)).
const NAMESPACES: u32 = 0x7e02_0000;

/// Operations of classic BPF.
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const JUMP_ALWAYS: u16 = 0x05;

/// One instruction: operation, jumps if true and if false, operand.
type Instruction = (u16, u8, u8, u32);

/// The filter in the kernel's form.
pub(crate) fn filter() -> Vec<u8> {
    let mut program: Vec<Instruction> = vec![
        (LOAD, 0, 0, ARCH),
        (JUMP_EQUAL, 1, 0, NATIVE),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
        // A clone into new namespaces is refused; any other is like a fork.
        (JUMP_EQUAL, 0, 4, libc::SYS_clone as u32),
        (LOAD, 0, 0, FIRST),
        (JUMP_ANY_BIT, 0, 1, NAMESPACES),
        (RETURN, 0, 0, ERRNO | EPERM),
        (RETURN, 0, 0, ALLOW),
    ];
    search(&ranges(), &mut program);
    let mut out = Vec::with_capacity(program.len() * 8);
    for (operation, yes, no, operand) in program {
        out.extend_from_slice(&operation.to_ne_bytes());
        out.extend_from_slice(&[yes, no]);
        out.extend_from_slice(&operand.to_ne_bytes());
    }
    out
}

/// Where each range of numbers with one answer begins, and the answer. Numbers
/// of the x32 ABI are beyond the last one.
fn ranges() -> Vec<(u32, u32)> {
    let mut answers = BTreeMap::new();
    for number in [ALLOWED, ALLOWED_HERE].concat() {
        answers.insert(number as u32, ALLOW);
    }
    for number in [DENIED, DENIED_HERE].concat() {
        answers.insert(number as u32, ERRNO | EPERM);
    }
    let unknown = ERRNO | ENOSYS;
    let mut ranges = vec![(0, unknown)];
    let mut put = |from: u32, answer: u32| match ranges.last_mut() {
        Some((begin, last)) if *begin == from => *last = answer,
        Some((_, last)) if *last == answer => {}
        _ => ranges.push((from, answer)),
    };
    let mut next = 0;
    for (number, answer) in answers {
        if number > next {
            put(next, unknown);
        }
        put(number, answer);
        next = number + 1;
    }
    put(next, unknown);
    ranges
}

/// Appends the search in these ranges: the lower half follows the comparison,
/// the upper half that.
fn search(ranges: &[(u32, u32)], out: &mut Vec<Instruction>) {
    let middle = ranges.len() / 2;
    if middle == 0 {
        out.extend(ranges.first().map(|(_, answer)| (RETURN, 0, 0, *answer)));
        return;
    }
    let mut lower = Vec::new();
    search(&ranges[..middle], &mut lower);
    let begin = ranges[middle].0;
    match u8::try_from(lower.len()) {
        Ok(over) => out.push((JUMP_AT_LEAST, over, 0, begin)),
        // Too far for a conditional jump: over an unconditional one.
        Err(_) => {
            out.push((JUMP_AT_LEAST, 0, 1, begin));
            out.push((JUMP_ALWAYS, 0, 0, lower.len() as u32));
        }
    }
    out.append(&mut lower);
    search(&ranges[middle..], out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a call.
    fn judge(program: &[u8], arch: u32, number: u32, first: u32) -> u32 {
        let code: Vec<Instruction> = program
            .chunks_exact(8)
            .map(|i| {
                let operation = u16::from_ne_bytes([i[0], i[1]]);
                (operation, i[2], i[3], u32::from_ne_bytes([i[4], i[5], i[6], i[7]]))
            })
            .collect();
        let (mut at, mut a) = (0, 0);
        loop {
            let (operation, yes, no, k) = code[at];
            at += 1;
            let jump = |yes_: bool| usize::from(if yes_ { yes } else { no });
            match operation {
                LOAD => {
                    a = if k == NUMBER {
                        number
                    } else if k == ARCH {
                        arch
                    } else {
                        first
                    }
                }
                JUMP_EQUAL => at += jump(a == k),
                JUMP_AT_LEAST => at += jump(a >= k),
                JUMP_ANY_BIT => at += jump(a & k != 0),
                JUMP_ALWAYS => at += k as usize,
                RETURN => return k,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn every_number_has_its_answer() {
        let filter = filter();
        assert!(filter.len() / 8 < 400, "{} instructions", filter.len() / 8);
        let allowed = [ALLOWED, ALLOWED_HERE].concat();
        let denied = [DENIED, DENIED_HERE].concat();
        for number in 0..1024u32 {
            let want = if allowed.contains(&i64::from(number)) {
                ALLOW
            } else if denied.contains(&i64::from(number)) {
                ERRNO | EPERM
            } else {
                ERRNO | ENOSYS
            };
            assert_eq!(judge(&filter, NATIVE, number, 0), want, "{number}");
            // The same number in the x32 ABI is nothing.
            let x32 = number | 0x4000_0000;
            assert_eq!(judge(&filter, NATIVE, x32, 0), ERRNO | ENOSYS, "{number} of x32");
            assert_eq!(judge(&filter, 0x4000_0003, number, 0), KILL_PROCESS, "{number} of i386");
        }
    }

    #[test]
    fn clones_into_namespaces_are_refused() {
        let (filter, clone) = (filter(), libc::SYS_clone as u32);
        let namespaces = [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWCGROUP,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
        ];
        for flag in namespaces {
            let flags = (flag | libc::SIGCHLD).cast_unsigned();
            assert_eq!(judge(&filter, NATIVE, clone, flags), ERRNO | EPERM, "{flag:#x}");
        }
        assert_eq!(NAMESPACES, namespaces.iter().fold(0, |all, f| all | f).cast_unsigned());
        let thread = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SETTLS).cast_unsigned();
        assert_eq!(judge(&filter, NATIVE, clone, thread), ALLOW);
        let clone3 = libc::SYS_clone3 as u32;
        assert_eq!(judge(&filter, NATIVE, clone3, 0), ERRNO | ENOSYS, "its flags are out of sight");
    }

    #[test]
    fn the_lists_are_apart() {
        let allowed = [ALLOWED, ALLOWED_HERE].concat();
        assert!([DENIED, DENIED_HERE].concat().iter().all(|n| !allowed.contains(n)));
    }
}
