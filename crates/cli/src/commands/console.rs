use std::time::Duration;

use clap::Args;
use pixels_core::{ConsoleOpts, Error, Name};

use super::exec::{pass_term, warn};
use crate::context::{Context, Job};
use crate::exit::Outcome;
use crate::stream;
use crate::tty::{self, Raw};

/// Open a login shell in a pixel
///
/// A stopped pixel is started first. The shell ends with its terminal; exit
/// with its code, or 125 for a failure of pixels itself.
#[derive(Debug, Args)]
pub struct Console {
    /// The pixel
    #[arg(value_name = "NAME")]
    name: Name,
    /// A session that outlives its terminal; not in this version
    #[arg(short, long, value_name = "SESSION", conflicts_with = "no_persist")]
    session: Option<String>,
    /// A shell that ends with its terminal
    #[arg(long)]
    no_persist: bool,
    /// As root
    #[arg(long)]
    root: bool,
}

impl Console {
    pub fn run(self, ctx: &Context) -> Outcome {
        ctx.run(async |job| {
            if self.session.is_some() {
                let hint = format!("pixels console {} --no-persist opens a plain shell", self.name);
                let backend = job.pixels.backend().kind();
                return Err(Error::unsupported(backend, "sessions yet").with_hint(hint).into());
            }
            console(job, &self.name, self.root).await
        })
    }
}

/// Opens the login shell of a pixel on our terminal.
pub async fn console(job: &mut Job<'_>, name: &Name, root: bool) -> Outcome {
    let mut opts = ConsoleOpts { root, size: tty::size(), ..ConsoleOpts::default() };
    pass_term(&mut opts.env);
    let pixels = job.pixels.clone();
    let process =
        job.operate(&format!("opening {name}"), async |_| pixels.console(name, opts).await).await?;
    warn(job.ui, &process);
    let raw = Raw::enter().map_err(super::terminal_failed)?;
    // A shell ignores what asks it to end; its terminal going away ends it.
    let outcome = stream::pump(process, &mut job.watch.signals, Duration::ZERO).await;
    drop(raw);
    outcome
}
