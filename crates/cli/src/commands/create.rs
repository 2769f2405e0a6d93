use std::time::Instant;

use clap::Args;
use pixels_core::{Error, Name};

use super::console::console;
use super::list::Row;
use super::names;
use super::shape::Shape;
use crate::context::Context;
use crate::exit::{self, Failure, Outcome};
use crate::ui::time;

/// Make new pixels, and wait until commands can be run in them
///
/// Prints the name of each. Several names make several pixels, in parallel. One
/// that fails leaves nothing behind.
#[derive(Debug, Args)]
pub struct Create {
    /// What to call them
    #[arg(value_name = "NAME", required = true)]
    names: Vec<Name>,
    #[command(flatten)]
    shape: Shape,
    /// Open a console in it when it is ready
    #[arg(long)]
    console: bool,
}

impl Create {
    pub fn run(self, ctx: &Context) -> Outcome {
        let Self { mut names, shape, console: with_console } = self;
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        if with_console && names.len() > 1 {
            let error = Error::invalid("option", "--console", "a console needs a single pixel");
            return Err(Failure::Usage(error));
        }
        ctx.run_with(&shape.keys(), async |job| {
            let pixels = job.pixels.clone();
            let begun = Instant::now();
            let outcomes = job
                .operate(&names::phrase("creating", &names), async |progress| {
                    pixels.create(shape.request(names.clone(), progress)).await
                })
                .await?;
            let took = time::elapsed(begun.elapsed());
            let (created, all) = names::settle(job.ui, outcomes);
            let unroutable = names::unroutable(&pixels);
            for (name, instance) in &created {
                job.ui.note(format!(
                    "created {name}{} in {took}",
                    names::place(instance, unroutable)
                ));
            }
            if job.ui.json {
                let backend = pixels.backend().kind();
                let rows: Vec<_> = created.iter().map(|(_, i)| Row::new(i, backend)).collect();
                job.ui.json_out(&rows)?;
            } else if !with_console {
                for (name, _) in &created {
                    job.ui.line(name.as_str())?;
                }
            }
            match created.first() {
                Some((name, _)) if with_console => console(job, name, false).await,
                _ => exit::all(all),
            }
        })
    }
}
