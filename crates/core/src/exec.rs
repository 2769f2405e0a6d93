//! Running commands: what to run, and the running thing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Result;

/// A byte string of the guest's: arguments, environment, paths. Need not be UTF-8.
pub type Bytes = Vec<u8>;
/// Bytes to read as they come.
pub type Reader = Pin<Box<dyn AsyncRead + Send>>;
/// Where bytes are written. `shutdown` is the end of file.
pub type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// The size of a terminal, in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtySize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct ExecOpts {
    /// The command and its arguments; never empty.
    pub cmd: Vec<Bytes>,
    /// Environment on top of what the user's login gives; the last of a name wins.
    pub env: Vec<(Bytes, Bytes)>,
    /// Where to run it; `None` is the user's home. One that is missing is an error.
    pub cwd: Option<Bytes>,
    /// Run as root instead of the configured user.
    pub root: bool,
    /// Give it a terminal of that size. Its stderr then arrives in stdout.
    pub tty: Option<TtySize>,
    /// No standard input: it reads end of file at once.
    pub no_stdin: bool,
    /// Kill the command's whole tree after this long; [`Process::wait`] is then [`crate::Error::Timeout`].
    pub timeout: Option<Duration>,
}

impl ExecOpts {
    /// `cmd` with nothing else asked.
    pub fn new<I>(cmd: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Bytes>,
    {
        Self { cmd: cmd.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// What to attach an interactive terminal to.
#[derive(Clone, Debug, Default)]
pub struct ConsoleOpts {
    /// Environment on top of what the user's login gives.
    pub env: Vec<(Bytes, Bytes)>,
    /// A command to run instead of the user's login shell.
    pub remote_cmd: Option<Vec<Bytes>>,
    /// The terminal's size; 80 by 24 where it is not known.
    pub size: Option<TtySize>,
    /// As root instead of the configured user.
    pub root: bool,
}

/// The streams of [`crate::SandboxExt::run`].
#[derive(Default)]
pub struct RunIo {
    /// Read to its end and sent; `None` is no standard input.
    pub stdin: Option<Reader>,
    /// Where stdout goes; `None` drops it.
    pub stdout: Option<Writer>,
    /// Where stderr goes; `None` drops it.
    pub stderr: Option<Writer>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this.
    Code(u8),
    /// A signal of this number ended it.
    Signal(u8),
}

impl ExitStatus {
    /// The number a shell gives: the code, or 128 + n.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(n) => 128u8.saturating_add(n),
        }
    }

    /// Whether it returned 0.
    pub fn success(self) -> bool {
        self.code() == 0
    }
}

/// A signal, by its Linux number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub u8);

impl Signal {
    /// Hang-up.
    pub const HUP: Self = Self(1);
    /// Interrupt: Ctrl-C.
    pub const INT: Self = Self(2);
    /// Quit.
    pub const QUIT: Self = Self(3);
    /// Kill.
    pub const KILL: Self = Self(9);
    /// User signal 1.
    pub const USR1: Self = Self(10);
    /// User signal 2.
    pub const USR2: Self = Self(12);
    /// Terminate.
    pub const TERM: Self = Self(15);
}

/// The side channel of a running command.
#[async_trait]
pub trait Control: Send + Sync {
    /// Sends a signal to the command. It may have ended already: that is no error.
    async fn signal(&self, signal: Signal) -> Result<()>;
    /// Tells the command's terminal its new size. Without one nothing happens.
    async fn resize(&self, size: TtySize) -> Result<()>;
    /// Kills the command and everything it started.
    async fn kill(&self) -> Result<()>;
}

/// A running command, in the shape of tokio's `Child`.
///
/// Dropping it kills the command and everything it started, soon but not at
/// once; [`Control::kill`] and then [`Process::wait`] is the way to know that it
/// is gone.
pub struct Process {
    /// Standard input, unless [`ExecOpts::no_stdin`]. Shutting it down is end of file.
    pub stdin: Option<Writer>,
    /// Standard output; with a terminal, all output.
    pub stdout: Option<Reader>,
    /// Standard error; `None` with a terminal.
    pub stderr: Option<Reader>,
    /// What is not as it should be although the command runs, as sentences for a person.
    pub warnings: Vec<String>,
    control: Arc<dyn Control>,
    exit: Pin<Box<dyn Future<Output = Result<ExitStatus>> + Send>>,
}

impl Process {
    /// Puts one together; for backends.
    pub fn new(
        stdin: Option<Writer>,
        stdout: Option<Reader>,
        stderr: Option<Reader>,
        control: Arc<dyn Control>,
        exit: impl Future<Output = Result<ExitStatus>> + Send + 'static,
    ) -> Self {
        Self { stdin, stdout, stderr, warnings: Vec::new(), control, exit: Box::pin(exit) }
    }

    /// The same with a warning.
    #[must_use]
    pub fn with_warning(mut self, warning: String) -> Self {
        self.warnings.push(warning);
        self
    }

    /// The side channel, which may be used while the process is waited for.
    pub fn control(&self) -> Arc<dyn Control> {
        Arc::clone(&self.control)
    }

    /// Waits for the end. The streams are read (or dropped) by the caller
    /// meanwhile: a full pipe stops the command as it would on one machine.
    ///
    /// # Errors
    /// What kept the command from starting (a missing cwd, an unknown user), or
    /// the connection's failure. A command that returned anything at all is `Ok`.
    pub async fn wait(self) -> Result<ExitStatus> {
        drop((self.stdin, self.stdout, self.stderr));
        let status = self.exit.await;
        drop(self.control);
        status
    }

    /// Waits as [`Process::wait`] does, leaving the streams with the caller.
    pub async fn exit(&mut self) -> Result<ExitStatus> {
        (&mut self.exit).await
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}
