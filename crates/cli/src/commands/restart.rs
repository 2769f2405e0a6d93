use clap::Args;

use super::list::Row;
use super::names::{self, Names};
use super::stop::Shutdown;
use crate::context::Context;
use crate::exit::{self, Outcome};

/// Stop pixels and start them again
#[derive(Debug, Args)]
pub struct Restart {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    shutdown: Shutdown,
}

impl Restart {
    pub fn run(self, ctx: &Context) -> Outcome {
        let phrase = self.names.phrase("restarting");
        let (targets, opts) = (self.names.targets(), self.shutdown.opts());
        ctx.run(async |job| {
            let pixels = job.pixels.clone();
            let outcomes =
                job.operate(&phrase, async |_| pixels.restart(&targets, opts).await).await?;
            let (started, all) = names::settle(job.ui, outcomes);
            let backend = pixels.backend().kind();
            if job.ui.json {
                let rows: Vec<_> = started.iter().map(|(_, i)| Row::new(i, backend)).collect();
                job.ui.json_out(&rows)?;
            }
            let unroutable = names::unroutable(&pixels);
            for (name, instance) in &started {
                job.ui.note(format!("restarted {name}{}", names::place(instance, unroutable)));
            }
            exit::all(all)
        })
    }
}
