//! Signal masks and dispositions.

use std::io;
use std::mem::MaybeUninit;

use super::check;

/// The set of these signals.
pub(crate) fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set; adding a number that is no
    // signal fails without effect.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the whole set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn set_mask(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised; the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) }).map(drop)
}

/// Blocks every signal that can be blocked.
pub(crate) fn block_all() -> io::Result<()> {
    set_mask(&full_set())
}

/// Blocks nothing.
pub(crate) fn unblock_all() -> io::Result<()> {
    set_mask(&set_of(&[]))
}

fn dispose(signal: i32, handler: libc::sighandler_t) {
    // SAFETY: an all-zero sigaction is valid: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    // SAFETY: `action` is initialised and holds no function pointer. Failure is
    // for signals nobody may change, which have their default already.
    unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
}

/// Gives one signal its default effect.
pub(crate) fn set_default(signal: i32) {
    dispose(signal, libc::SIG_DFL);
}

/// Gives one signal no effect.
pub(crate) fn set_ignored(signal: i32) {
    dispose(signal, libc::SIG_IGN);
}

/// Gives every signal its default effect, as a login would. Straight to the
/// kernel, because C libraries keep two signals to themselves and would leave
/// those as they were inherited.
pub(crate) fn reset_all() {
    // The kernel's sigaction: handler, flags, restorer, mask, 8 bytes each. All
    // zero is the default effect.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: `default` is a valid action for a mask of 8 bytes and holds no
        // function pointer; the old action is not asked for. Failure is for
        // signals nobody may change, which have their default already.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal as libc::c_long,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8 as libc::c_ulong,
            )
        };
    }
}

/// Waits for any blocked signal and takes it.
pub(crate) fn take_any() -> i32 {
    let set = full_set();
    loop {
        // SAFETY: `set` is initialised; details of the signal are not asked for.
        let signal = unsafe { libc::sigwaitinfo(&set, std::ptr::null_mut()) };
        if signal > 0 {
            return signal;
        }
    }
}
