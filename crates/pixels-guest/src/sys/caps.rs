//! Capabilities and seccomp.

use std::io;

use super::check;

/// The version of the kernel's capability structures that has 64 bits.
const VERSION_3: u32 = 0x2008_0522;
const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
/// No mitigation of speculation is forced on programs that do not ask for it: it
/// costs them dearly and protects only within one process (seccomp(2)).
const SECCOMP_FILTER_FLAG_SPEC_ALLOW: libc::c_ulong = 4;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The last capability that this kernel knows.
fn last() -> u32 {
    std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(63)
        .min(63)
}

/// Takes every capability but `keep` away from this process and from all that
/// it will ever execute.
pub(crate) fn keep_only(keep: u64) -> io::Result<()> {
    let last = last();
    for capability in 0..=last {
        if keep & 1 << capability == 0 {
            // SAFETY: this prctl takes numbers only.
            let done = unsafe {
                libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0)
            };
            match check(done) {
                // Above the last one that this kernel knows, where that could not be asked.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
                other => other.map(drop)?,
            }
        }
    }
    // SAFETY: this prctl takes numbers only.
    let cleared =
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    check(cleared)?;
    let known = if last >= 63 { u64::MAX } else { (1 << (last + 1)) - 1 };
    let keep = keep & known;
    let part = |shift: u32| Sets {
        effective: (keep >> shift) as u32,
        permitted: (keep >> shift) as u32,
        inheritable: 0,
    };
    let (header, sets) = (Header { version: VERSION_3, pid: 0 }, [part(0), part(32)]);
    // SAFETY: both structures are as the kernel lays them out and outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    check(done as libc::c_int).map(drop)
}

/// Setuid programs gain nothing from now on.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: this prctl takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// Installs a seccomp filter: a classic BPF program, eight bytes an instruction.
/// Without "no new privileges" this takes CAP_SYS_ADMIN in the user namespace.
pub(crate) fn install_filter(program: &[u8]) -> io::Result<()> {
    let count = u16::try_from(program.len() / 8)
        .ok()
        .filter(|n| *n > 0 && program.len().is_multiple_of(8))
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let instructions: Vec<libc::sock_filter> = program
        .chunks_exact(8)
        .map(|i| libc::sock_filter {
            code: u16::from_ne_bytes([i[0], i[1]]),
            jt: i[2],
            jf: i[3],
            k: u32::from_ne_bytes([i[4], i[5], i[6], i[7]]),
        })
        .collect();
    let program = libc::sock_fprog { len: count, filter: instructions.as_ptr().cast_mut() };
    // SAFETY: `program` points at `count` instructions that outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    check(done as libc::c_int).map(drop)
}
