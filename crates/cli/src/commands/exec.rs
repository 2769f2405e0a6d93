use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use clap::Args;
use pixels_core::{ExecOpts, Name, Process, TtySize};

use super::values::{self, EnvVar};
use crate::context::{Context, Job};
use crate::exit::Outcome;
use crate::stream::{self, GRACE};
use crate::tty::{self, Raw};
use crate::ui::Ui;

/// Run a command in a pixel and exit with its code
///
/// Arguments, environment and directory arrive byte for byte, and stdin, stdout
/// and stderr are streamed as bytes. The command runs as the configured user
/// (`pixel` by default) where the pixel has that user, else as root.
///
/// SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the
/// command. A second one that asks it to end, or 10 seconds after the first,
/// kills it with everything it started. If whoever reads its output goes away,
/// it is killed too, and the exit code is 141.
///
/// Exit codes: the command's own; 124 if --timeout ran out; 125 for a failure
/// of pixels itself; 126 if the command cannot be executed, 127 if there is no
/// such command; 128 + n if signal n ended it.
#[derive(Debug, Args)]
pub struct Exec {
    /// The pixel
    #[arg(value_name = "NAME")]
    name: Name,
    /// Run as root
    #[arg(long)]
    root: bool,
    /// Run in this directory instead of the user's home
    #[arg(long, value_name = "DIR")]
    cwd: Option<OsString>,
    /// Set a variable; K alone passes the value that it has here
    #[arg(long, short, value_name = "K=V", value_parser = EnvVar::parser())]
    env: Vec<EnvVar>,
    /// Kill the command with everything it started after this long (seconds, or 5m), and exit with 124
    #[arg(long, value_name = "DURATION", value_parser = values::timeout)]
    timeout: Option<Duration>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Accepted because docker needs it: stdin is always connected
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    cmd: Vec<OsString>,
}

impl Exec {
    pub fn run(self, ctx: &Context) -> Outcome {
        let opts = ExecOpts {
            cmd: values::bytes(self.cmd),
            env: EnvVar::resolve(self.env),
            cwd: self.cwd.map(OsStringExt::into_vec),
            root: self.root,
            timeout: self.timeout.filter(|t| !t.is_zero()),
            ..ExecOpts::default()
        };
        ctx.run(async |job| exec(job, &self.name, opts, self.tty).await)
    }
}

/// Runs a command connected to our streams; with a terminal if `tty`.
pub async fn exec(job: &mut Job<'_>, name: &Name, mut opts: ExecOpts, tty: bool) -> Outcome {
    prepare(&mut opts, tty);
    let pixels = job.pixels.clone();
    let process =
        job.operate(&format!("reaching {name}"), async |_| pixels.exec(name, opts).await).await?;
    warn(job.ui, &process);
    let raw = if tty { Raw::enter().map_err(super::terminal_failed)? } else { None };
    let outcome = stream::pump(process, &mut job.watch.signals, GRACE).await;
    drop(raw);
    outcome
}

/// Says what is lost where the backend could not run the command as it should.
pub fn warn(ui: Ui, process: &Process) {
    for warning in &process.warnings {
        ui.warn(warning);
    }
}

/// Works our own terminal and streams into what is to be run.
pub fn prepare(opts: &mut ExecOpts, tty: bool) {
    if tty {
        opts.tty = Some(tty::size().unwrap_or(TtySize { cols: 80, rows: 24 }));
        pass_term(&mut opts.env);
    }
    opts.no_stdin = tty::stdin_is_background();
}

/// Tells the other side what our terminal understands, unless it has been told.
pub fn pass_term(env: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    if let Some(term) = std::env::var_os("TERM")
        && !env.iter().any(|(name, _)| name == b"TERM")
    {
        env.push((b"TERM".to_vec(), term.into_vec()));
    }
}
