//! Our terminal: raw while a remote one is shown in it, and always put back.

use std::io::{self, IsTerminal};
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use pixels_core::TtySize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};

/// The modes to go back to, while the terminal is raw. It is a static because
/// the panic hook and the last step before leaving need it, whoever else is gone.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// The terminal's raw state; dropping it puts the modes back.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Makes stdin's terminal raw. `None` where stdin is no terminal.
    ///
    /// # Errors
    /// What the terminal says.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let modes = tcgetattr(&stdin)?;
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                before(info);
            }));
        });
        let mut raw = modes.clone();
        raw.make_raw();
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(modes);
        let guard = Self(());
        // Not flushed: what was typed ahead is for the other side.
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(guard))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal's modes back if they are changed. May be called at any time.
pub fn restore() {
    let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(modes) = saved {
        // The terminal may be gone: nothing is left to put back then. Now, not
        // after draining: output that nobody takes must not hold us up.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
    }
}

/// The size of the terminal we are on, wherever it can be asked.
pub fn size() -> Option<TtySize> {
    let ask = |size: rustix::io::Result<rustix::termios::Winsize>| {
        size.ok()
            .filter(|s| s.ws_col > 0 && s.ws_row > 0)
            .map(|s| TtySize { cols: s.ws_col, rows: s.ws_row })
    };
    ask(tcgetwinsize(io::stdout()))
        .or_else(|| ask(tcgetwinsize(io::stdin())))
        .or_else(|| ask(tcgetwinsize(io::stderr())))
}

/// Whether reading stdin would stop us: it is a terminal, and we are a
/// background job of it.
pub fn stdin_is_background() -> bool {
    let stdin = io::stdin();
    stdin.is_terminal()
        && tcgetpgrp(&stdin).is_ok_and(|foreground| foreground != rustix::process::getpgrp())
}
