//! Stops a pixel's processes for a moment, from inside, where there is no control
//! group to freeze. Unlike a freezer it can be seen: whoever waits for stopped
//! children hears of them, and programs may have a handler for going on.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use pixels_guest_api::host::Answer;

use super::{Step, answer};
use crate::sys::process::{self, Pid};
use crate::sys::{fd, signal};

/// How long they may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one may be in a call that no signal interrupts. The parent of a vfork
/// is in one until its child, which is stopped, goes on: it does nothing either.
const BUSY: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(2);

/// Stops everything but init and this process, says so, and lets it go on when
/// the socket ends, as it does with whoever asked.
pub(crate) fn pause(socket: &OwnedFd) -> i32 {
    signal::set_ignored(libc::SIGPIPE);
    let before = match stopped() {
        Ok(before) => before,
        Err(e) => return fail(socket, e),
    };
    let done = process::kill(-1, libc::SIGSTOP).or_else(|e| match e.raw_os_error() {
        // There is nobody.
        Some(libc::ESRCH) => Ok(()),
        _ => Err(e),
    });
    let code = match done.and_then(|()| settled()) {
        Ok(()) if answer(socket, Answer::Done, &[]).is_ok() => {
            while fd::read(socket.as_raw_fd(), &mut [0]).is_ok_and(|n| n > 0) {}
            0
        }
        Ok(()) => 1,
        Err(e) => fail(socket, e),
    };
    let mut all = pids().unwrap_or_default();
    // Children before their parents, as a rule: a shell is not to find a job stopped.
    all.sort_unstable_by(|a, b| b.cmp(a));
    for pid in all.into_iter().filter(|pid| !before.contains(pid)) {
        let _ = process::kill(pid, libc::SIGCONT);
    }
    code
}

fn fail(socket: &OwnedFd, e: io::Error) -> i32 {
    if let Err(failed) = Err::<(), _>(e).step("stop the pixel's processes") {
        let _ = answer(socket, Answer::Failed, &failed.encode());
    }
    1
}

/// Waits until nothing runs.
fn settled() -> io::Result<()> {
    let began = Instant::now();
    loop {
        let mut moving = false;
        for pid in pids()? {
            moving |= states(pid).iter().any(|state| match state {
                b'T' | b't' | b'Z' | b'X' => false,
                b'D' => began.elapsed() < BUSY,
                _ => true,
            });
        }
        if !moving {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        fd::poll(&mut [], Some(LOOK))?;
    }
}

/// Who is stopped now.
fn stopped() -> io::Result<Vec<Pid>> {
    Ok(pids()?.into_iter().filter(|pid| states(*pid).first() == Some(&b'T')).collect())
}

/// Every process but init and this one.
fn pids() -> io::Result<Vec<Pid>> {
    let own = process::own_pid();
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<Pid>().ok();
    let all = fs::read_dir("/proc")?.flatten().filter_map(number);
    Ok(all.filter(|pid| *pid > 1 && *pid != own).collect())
}

/// The states of a process's threads (proc_pid_stat(5)); none if it has ended.
fn states(pid: Pid) -> Vec<u8> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let state = |task: fs::DirEntry| {
        let stat = fs::read(task.path().join("stat")).ok()?;
        // The name may hold anything.
        let at = stat.iter().rposition(|b| *b == b')')?;
        stat.get(at + 2).copied()
    };
    tasks.filter_map(state).collect()
}
