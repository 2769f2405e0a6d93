use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use super::names::{self, Names};
use crate::context::Context;
use crate::exit::{self, Failure, Outcome};

/// Destroy pixels with all their checkpoints
///
/// Asks first if there is a terminal to ask on.
#[derive(Debug, Args)]
pub struct Destroy {
    #[command(flatten)]
    names: Names,
    /// Do not ask, and be content with a pixel that does not exist
    #[arg(short, long)]
    force: bool,
}

impl Destroy {
    pub fn run(self, ctx: &Context) -> Outcome {
        // Asked before anything is opened: the answer may take its time.
        if !self.force && io::stdin().is_terminal() && !confirmed(&self.names.phrase("destroy"))? {
            ctx.ui.note("nothing was destroyed");
            return Err(Failure::Reported);
        }
        let phrase = self.names.phrase("destroying");
        let (targets, force) = (self.names.targets(), self.force);
        ctx.run(async |job| {
            let pixels = job.pixels.clone();
            let outcomes =
                job.operate(&phrase, async |_| pixels.destroy(&targets, force).await).await?;
            let (destroyed, all) = names::settle(job.ui, outcomes);
            if job.ui.json {
                let rows: Vec<_> = destroyed
                    .iter()
                    .map(|(name, was)| serde_json::json!({"name": name.as_str(), "existed": was}))
                    .collect();
                job.ui.json_out(&rows)?;
            }
            for (name, was) in &destroyed {
                let what = if *was { "destroyed" } else { "did not exist:" };
                job.ui.note(format!("{what} {name}"));
            }
            exit::all(all)
        })
    }
}

/// Asks on the terminal; anything but yes is no.
fn confirmed(question: &str) -> Result<bool, Failure> {
    let failed = |e: io::Error| super::terminal_failed(e);
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question}, with all checkpoints? [y/N] ").map_err(failed)?;
    stderr.flush().map_err(failed)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
