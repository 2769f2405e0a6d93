//! Rule 5: which system calls a pixel has.

use crate::harness::{Pixel, anyone};

/// Runs a system call and answers the errno, 0 if it succeeded.
async fn call(pixel: &Pixel, arguments: &str) -> i32 {
    let script =
        format!("my $p = \"/\\0\"; my $r = syscall({arguments}); print $r == -1 ? $!+0 : 0");
    let said = pixel.root(&["perl", "-e", &script]).await;
    said.out.parse().unwrap_or_else(|_| panic!("{arguments}: {said:?}"))
}

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

#[cfg(target_arch = "x86_64")]
#[test]
fn what_reaches_for_the_host_is_refused() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("calls").await;
        let mut wrong = Vec::new();
        let mut check = async |name: &str, arguments: &str, want: i32| {
            let got = call(&pixel, arguments).await;
            if got != want {
                wrong.push(format!("{name}: {got} and not {want}"));
            }
        };
        for (name, flag) in [
            ("mnt", 0x0002_0000),
            ("cgroup", 0x0200_0000),
            ("uts", 0x0400_0000),
            ("ipc", 0x0800_0000),
            ("user", 0x1000_0000),
            ("pid", 0x2000_0000),
            ("net", 0x4000_0000),
        ] {
            check(&format!("unshare {name}"), &format!("272, {flag}"), EPERM).await;
            // With SIGCHLD, as clone(2) asks for it.
            check(&format!("clone {name}"), &format!("56, {}, 0, 0, 0, 0", flag | 17), EPERM).await;
        }
        for (name, arguments, want) in [
            ("clone3", "435, $p, 64", ENOSYS),
            ("setns", "308, 0, 0", EPERM),
            ("mount", "165, $p, $p, $p, 4096, 0", EPERM),
            ("umount2", "166, $p, 2", EPERM),
            ("pivot_root", "155, $p, $p", EPERM),
            ("open_tree", "428, -100, $p, 1", EPERM),
            ("move_mount", "429, -100, $p, -100, $p, 0", EPERM),
            ("fsopen", "430, $p, 0", EPERM),
            ("mount_setattr", "442, -100, $p, 0, $p, 32", EPERM),
            ("init_module", "175, $p, 1, $p", EPERM),
            ("finit_module", "313, 0, $p, 0", EPERM),
            ("delete_module", "176, $p, 0", EPERM),
            ("kexec_load", "246, 0, 0, $p, 0", EPERM),
            ("reboot", "169, 0, 0, 0, 0", EPERM),
            ("bpf", "321, 0, $p, 1", EPERM),
            ("perf_event_open", "298, $p, 0, -1, -1, 0", EPERM),
            ("userfaultfd", "323, 0", EPERM),
            ("keyctl", "250, 0, 0", EPERM),
            ("add_key", "248, $p, $p, $p, 1, 0", EPERM),
            ("io_uring_setup", "425, 1, $p", EPERM),
            ("open_by_handle_at", "304, -100, $p, 0", EPERM),
            ("syslog", "103, 3, $p, 1", EPERM),
            ("sethostname", "170, $p, 1", EPERM),
            ("settimeofday", "164, 0, 0", EPERM),
            ("swapon", "167, $p, 0", EPERM),
            ("quotactl", "179, 0, $p, 0, 0", EPERM),
            ("a call of the future", "999", ENOSYS),
            // Another ABI by a bit of the number.
            ("getpid of x32", "0x40000000 + 39", ENOSYS),
            ("getpid", "39", 0),
        ] {
            check(name, arguments, want).await;
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

/// A whole program: a call by `int 0x80`, which is another ABI with other
/// numbers, and then the exit code 0 by this one's.
#[cfg(target_arch = "x86_64")]
fn foreign() -> Vec<u8> {
    let code = b"\xb8\x14\0\0\0\xcd\x80\xb8\x3c\0\0\0\x31\xff\x0f\x05";
    elf(code)
}

/// A static program of these instructions.
#[cfg(target_arch = "x86_64")]
fn elf(code: &[u8]) -> Vec<u8> {
    let base = 0x40_0000u64;
    let total = 120 + code.len() as u64;
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for n in [base + 120, 64, 0] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0");
    // One segment, to be read and executed.
    out.extend_from_slice(b"\x01\0\0\0\x05\0\0\0");
    for n in [0, base, base, total, total, 0x1000] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(code);
    out
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_another_architecture_end_the_process() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("abi").await;
        // Such a program runs, if it keeps to its own.
        pixel.program("/root/plain", &elf(b"\xb8\x3c\0\0\0\x31\xff\x0f\x05")).await;
        assert_eq!(pixel.root(&["/root/plain"]).await.code, 0);
        pixel.program("/root/foreign", &foreign()).await;
        assert_eq!(pixel.root(&["/root/foreign"]).await.code, 128 + 31, "SIGSYS");
    });
}

#[test]
fn what_programs_need_is_there() {
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("need").await;
        pixel.sh("mkfifo /root/f && ln /root/f /root/g && chroot / true && ulimit -n 4096").await;
        pixel.sh("chown 7:8 /root/f && chmod 4755 /root/f && touch -d @1 /root/f").await;
        pixel.sh("cp /bin/true /root/t && setcap cap_net_bind_service+ep /root/t").await;
        // Threads and processes, through whatever libc asks for first.
        pixel
            .sh("python3 -c 'import _thread, time; _thread.start_new_thread(time.sleep, (0,))'")
            .await;
    });
}
