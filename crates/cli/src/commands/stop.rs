use std::time::Duration;

use clap::Args;
use pixels_core::StopOpts;

use super::names::{self, Names};
use super::values;
use crate::context::Context;
use crate::exit::{self, Outcome};

/// Stop pixels
///
/// One that is stopped is left alone.
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    shutdown: Shutdown,
}

/// How a pixel is stopped.
#[derive(Debug, Args)]
pub struct Shutdown {
    /// How long a clean shutdown may take (seconds, or 5m) [default: 120]
    #[arg(short, long, value_name = "DURATION", value_parser = values::timeout)]
    timeout: Option<Duration>,
    /// Kill it at once
    #[arg(short, long, conflicts_with = "timeout")]
    force: bool,
}

impl Shutdown {
    /// As the backends want it.
    pub fn opts(&self) -> StopOpts {
        let default = StopOpts::default();
        StopOpts { timeout: self.timeout.unwrap_or(default.timeout), force: self.force }
    }
}

impl Stop {
    pub fn run(self, ctx: &Context) -> Outcome {
        let phrase = self.names.phrase("stopping");
        let (targets, opts) = (self.names.targets(), self.shutdown.opts());
        ctx.run(async |job| {
            let pixels = job.pixels.clone();
            let outcomes =
                job.operate(&phrase, async |_| pixels.stop(&targets, opts).await).await?;
            let (stopped, all) = names::settle(job.ui, outcomes);
            if job.ui.json {
                let rows: Vec<_> = stopped
                    .iter()
                    .map(|(name, ())| serde_json::json!({"name": name.as_str()}))
                    .collect();
                job.ui.json_out(&rows)?;
            }
            for (name, ()) in &stopped {
                job.ui.note(format!("stopped {name}"));
            }
            exit::all(all)
        })
    }
}
