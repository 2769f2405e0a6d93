use clap::Args;

use super::list::Row;
use super::names::{self, Names};
use crate::context::Context;
use crate::exit::{self, Outcome};

/// Start pixels, and wait until commands can be run in them
///
/// One that runs is left alone.
#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    names: Names,
}

impl Start {
    pub fn run(self, ctx: &Context) -> Outcome {
        let phrase = self.names.phrase("starting");
        let targets = self.names.targets();
        ctx.run(async |job| {
            let pixels = job.pixels.clone();
            let outcomes = job.operate(&phrase, async |_| pixels.start(&targets).await).await?;
            let (started, all) = names::settle(job.ui, outcomes);
            let backend = pixels.backend().kind();
            if job.ui.json {
                let rows: Vec<_> = started.iter().map(|(_, i)| Row::new(i, backend)).collect();
                job.ui.json_out(&rows)?;
            }
            let unroutable = names::unroutable(&pixels);
            for (name, instance) in &started {
                job.ui.note(format!("started {name}{}", names::place(instance, unroutable)));
            }
            exit::all(all)
        })
    }
}
