//! A pixel's first process, by a descriptor that stays its own.

use std::os::fd::OwnedFd;

use pixels_core::Result;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use crate::launcher::{failed, system};
use crate::record::Run;

/// An open process.
pub(crate) struct Handle(OwnedFd);

impl Handle {
    /// Opens a pixel's first process; `None` if it has ended.
    pub(crate) fn open(run: &Run) -> Result<Option<Self>> {
        let pid = i32::try_from(run.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            // The number may be another process's by now; from here on it cannot change.
            Ok(fd) if run.alive() => Ok(Some(Self(fd))),
            Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(e) => Err(system("find the pixel's process")(e)),
        }
    }

    /// Sends it a signal; one that has ended needs none.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(system("signal the pixel's process")(e)),
        }
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> Result<()> {
        let what = "wait for the pixel's process";
        let copy = self.0.try_clone().map_err(|e| failed(what, e))?;
        let fd = AsyncFd::new(copy).map_err(|e| failed(what, e))?;
        fd.readable().await.map(drop).map_err(|e| failed(what, e))
    }
}
