use std::path::PathBuf;

use clap::Args;
use pixels_sandbox::{PullOpts, Remote};

use super::transferred;
use super::values;
use crate::context::Context;
use crate::exit::Outcome;

/// Copy a file or tree out of a pixel
///
/// Names, permission bits, times and symbolic links arrive as they are. The
/// pixel may be stopped. A path that is not absolute starts in the home
/// directory.
#[derive(Debug, Args)]
pub struct Pull {
    /// What to copy
    #[arg(value_name = "NAME:PATH", value_parser = values::remote())]
    from: Remote,
    /// Where to put it here
    #[arg(value_name = "DST")]
    to: PathBuf,
}

impl Pull {
    pub fn run(self, ctx: &Context) -> Outcome {
        ctx.run(async |job| {
            let pixels = job.pixels.clone();
            let name = &self.from.name;
            let moved = job
                .operate(&format!("copying from {name}"), async |progress| {
                    pixels.pull(&self.from, &self.to, PullOpts { progress }).await
                })
                .await?;
            transferred(job.ui, &moved, &format!("from {name}"))
        })
    }
}
