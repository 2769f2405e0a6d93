//! PID 1 of a pixel: it reaps what nobody waits for and ends the machine when it
//! is told to. It starts nothing: what runs in a pixel is started by `enter`.

use std::io;
use std::time::{Duration, Instant};

use crate::identity;
use crate::sys::process::{self, Waited};
use crate::sys::{fd, signal, socket};

/// The descriptor on which the launcher hears of this process.
pub(crate) const STATUS: i32 = 3;
/// The pixel is up.
pub(crate) const READY: u8 = b'R';
/// It is not: an errno and words follow.
pub(crate) const FAILED: u8 = b'F';

/// How long processes may take to end by themselves.
const GRACE: Duration = Duration::from_secs(10);
/// Between two looks at whether any is left. Those that came in from outside are
/// nobody's children here, so no signal tells of their end.
const LOOK: Duration = Duration::from_millis(5);

/// Runs until the pixel is stopped.
pub(crate) fn run() -> i32 {
    let Ok(status) = socket::inherited(STATUS) else { return 1 };
    if signal::block_all().is_err() {
        return 1;
    }
    // A pixel whose identity cannot be renewed must not run as its source.
    if let Err(e) = process::forbid_tracing().and_then(|()| identity::at_boot()) {
        let number = crate::sys::errno(&e).to_be_bytes();
        let text = format!("renew the identity: {e}");
        let frame = [&[FAILED][..], &number, text.as_bytes()].concat();
        let _ = fd::write_all(STATUS, &frame);
        return 1;
    }
    let told: io::Result<()> = fd::write_all(STATUS, &[READY]);
    drop(status);
    if told.is_err() {
        return 1;
    }
    loop {
        match signal::take_any() {
            libc::SIGTERM | libc::SIGINT | libc::SIGPWR => return shut_down(),
            _ => reap(),
        }
    }
}

fn reap() {
    while let Waited::Ended(..) = process::wait(-1, false) {}
}

/// Asks every process to end, and then makes them.
fn shut_down() -> i32 {
    // Shells do not end at SIGTERM; what is stopped hears nothing.
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGCONT] {
        let _ = process::kill(-1, signal);
    }
    let deadline = Instant::now() + GRACE;
    while others() {
        reap();
        if Instant::now() > deadline {
            let _ = process::kill(-1, libc::SIGKILL);
        }
        let _ = fd::poll(&mut [], Some(LOOK));
    }
    0
}

/// Whether there is any other process.
fn others() -> bool {
    process::kill(-1, 0).is_ok()
}
