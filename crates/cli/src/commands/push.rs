use std::path::PathBuf;

use clap::Args;
use pixels_sandbox::{PushOpts, Remote};

use super::transferred;
use super::values;
use crate::context::Context;
use crate::exit::Outcome;

/// Copy files and trees into a pixel
///
/// Names, permission bits, times and symbolic links arrive as they are; each
/// file is there whole or not at all. The pixel may be stopped. A path that is
/// not absolute starts in the home directory.
#[derive(Debug, Args)]
pub struct Push {
    /// Files and directories here
    #[arg(value_name = "SRC", required = true)]
    sources: Vec<PathBuf>,
    /// Where to put them
    #[arg(value_name = "NAME:PATH", required = true, value_parser = values::remote())]
    to: Remote,
}

impl Push {
    pub fn run(self, ctx: &Context) -> Outcome {
        ctx.run(async |job| {
            let pixels = job.pixels.clone();
            let name = &self.to.name;
            let moved = job
                .operate(&format!("copying to {name}"), async |progress| {
                    let opts = PushOpts { progress, ..PushOpts::default() };
                    pixels.push(&self.sources, &self.to, opts).await
                })
                .await?;
            transferred(job.ui, &moved, &format!("to {name}"))
        })
    }
}
