//! exec and console, with the configuration's session variables.

use pixels_core::{ConsoleOpts, ExecOpts, Name, Process, Result};

use crate::Pixels;

impl Pixels {
    /// Starts a command with the session variables of `[env]` below those of
    /// `opts`: the last of a name wins.
    ///
    /// # Errors
    /// `WrongState` for a pixel that does not run.
    pub async fn exec(&self, name: &Name, mut opts: ExecOpts) -> Result<Process> {
        opts.env.splice(0..0, self.config().session_env());
        self.backend().spawn(name, opts).await
    }

    /// Opens a terminal, with the same variables. A stopped pixel is started first.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub async fn console(&self, name: &Name, mut opts: ConsoleOpts) -> Result<Process> {
        if !self.backend().get(name).await?.status.is_running() {
            self.start_one(name).await?;
        }
        opts.env.splice(0..0, self.config().session_env());
        self.backend().console(name, opts).await
    }
}
