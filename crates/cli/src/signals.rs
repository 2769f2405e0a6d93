//! The signals that reach us.

use std::io;

use pixels_core::Signal;
use tokio::signal::unix::{self, SignalKind};

/// One that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caught {
    /// Someone wants us to end.
    End(Signal),
    /// A signal that means what the command makes of it.
    User(Signal),
    /// The terminal has a new size.
    Resize,
}

/// Where signals come from: the system, or a test.
pub trait Catch {
    /// The next one. Dropping the future loses none.
    async fn next(&mut self) -> Caught;
}

/// Everything that is caught, from the moment this is made until we leave.
#[derive(Debug)]
pub struct Signals {
    int: unix::Signal,
    term: unix::Signal,
    quit: unix::Signal,
    hup: Option<unix::Signal>,
    usr1: unix::Signal,
    usr2: unix::Signal,
    winch: unix::Signal,
}

impl Signals {
    /// Starts catching. It needs a runtime.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn new() -> io::Result<Self> {
        let hup =
            if hangup_is_ignored() { None } else { Some(unix::signal(SignalKind::hangup())?) };
        Ok(Self {
            int: unix::signal(SignalKind::interrupt())?,
            term: unix::signal(SignalKind::terminate())?,
            quit: unix::signal(SignalKind::quit())?,
            hup,
            usr1: unix::signal(SignalKind::user_defined1())?,
            usr2: unix::signal(SignalKind::user_defined2())?,
            winch: unix::signal(SignalKind::window_change())?,
        })
    }

    /// The next one that wants us to end.
    pub async fn end(&mut self) -> Signal {
        loop {
            if let Caught::End(signal) = self.next().await {
                return signal;
            }
        }
    }
}

impl Catch for Signals {
    async fn next(&mut self) -> Caught {
        let hup = self.hup.as_mut();
        let hup = async move {
            match hup {
                Some(hup) => hup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.int.recv() => Caught::End(Signal::INT),
            _ = self.term.recv() => Caught::End(Signal::TERM),
            _ = self.quit.recv() => Caught::End(Signal::QUIT),
            _ = hup => Caught::End(Signal::HUP),
            _ = self.usr1.recv() => Caught::User(Signal::USR1),
            _ = self.usr2.recv() => Caught::User(Signal::USR2),
            _ = self.winch.recv() => Caught::Resize,
        }
    }
}

/// Whether we were started with SIGHUP ignored, as nohup(1) does: then it stays so.
fn hangup_is_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (Signal::HUP.0 - 1)) != 0)
}
