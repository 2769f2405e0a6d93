use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use clap::Args;
use pixels_core::{Error, ExecOpts, Name};
use pixels_sandbox::RunRequest;

use super::exec;
use super::shape::Shape;
use super::values::{self, EnvVar};
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::signals::Signals;
use crate::stream::{self, GRACE};
use crate::tty::Raw;

/// Run a command in a new pixel, exit with its code, and destroy the pixel
///
/// Streams, signals and exit codes are as in pixels exec.
#[derive(Debug, Args)]
pub struct Run {
    /// Accepted because docker needs it: the pixel is always destroyed
    #[arg(long)]
    rm: bool,
    /// What to call the pixel while it lives, instead of a name made up
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    #[command(flatten)]
    shape: Shape,
    /// Run as root
    #[arg(long)]
    root: bool,
    /// Run in this directory instead of the user's home
    #[arg(long, value_name = "DIR")]
    cwd: Option<OsString>,
    /// Kill the command after this long (seconds, or 5m), and exit with 124
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

impl Run {
    pub fn run(mut self, ctx: &Context) -> Outcome {
        // The pixel lives as long as the command: its variables are the command's.
        let env = EnvVar::resolve(std::mem::take(&mut self.shape.env));
        let mut opts = ExecOpts {
            cmd: values::bytes(self.cmd),
            env,
            cwd: self.cwd.map(OsStringExt::into_vec),
            root: self.root,
            timeout: self.timeout.filter(|t| !t.is_zero()),
            ..ExecOpts::default()
        };
        exec::prepare(&mut opts, self.tty);
        let (shape, names) = (self.shape, self.name.into_iter().collect());
        ctx.run_with(&shape.keys(), async |job| {
            let (pixels, ui) = (job.pixels.clone(), job.ui);
            let mut signals =
                Signals::new().map_err(|e| Error::backend("signals", e.to_string()))?;
            job.watch
                .supervise("creating a pixel", async |meter| {
                    let create = shape.request(names, meter.sink());
                    let drive = async |_, process| {
                        // While the command runs, signals and the terminal are its own.
                        meter.hold(true);
                        exec::warn(ui, &process);
                        let outcome = match raw(self.tty) {
                            Ok(raw) => {
                                let outcome = stream::pump(process, &mut signals, GRACE).await;
                                drop(raw);
                                outcome
                            }
                            Err(failure) => Err(failure),
                        };
                        meter.hold(false);
                        Ok(outcome)
                    };
                    pixels.run(RunRequest { create, exec: opts }, drive).await
                })
                .await?
        })
    }
}

fn raw(tty: bool) -> Result<Option<Raw>, Failure> {
    if tty { Raw::enter().map_err(super::terminal_failed) } else { Ok(None) }
}
