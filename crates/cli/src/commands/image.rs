use clap::{Args, Subcommand};
use jiff::Timestamp;
use pixels_core::size;

use crate::context::Context;
use crate::exit::Outcome;
use crate::ui::table::Table;
use crate::ui::time;

/// Show the images that pixels can be made from
#[derive(Debug, Args)]
pub struct Image {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the images that the backend has at hand
    #[command(visible_alias = "ls")]
    List,
}

/// How much of a fingerprint tells images apart for a person.
const SHORT: usize = 12;

impl Image {
    pub fn run(self, ctx: &Context) -> Outcome {
        let Verb::List = self.verb;
        ctx.run(async |job| {
            let pixels = job.pixels.clone();
            let images = job.operate("listing images", async |_| pixels.images().await).await?;
            if job.ui.json {
                job.ui.json_out(&images)?;
                return Ok(0);
            }
            let now = Timestamp::now();
            let mut table =
                Table::new(&["ALIAS", "FINGERPRINT", "ARCH", "SIZE", "AGE", "DESCRIPTION"]);
            for image in images {
                table.row([
                    image.aliases.join(","),
                    image.fingerprint.chars().take(SHORT).collect(),
                    image.architecture,
                    size::human(image.size),
                    time::age_or_dash(image.created_at, now),
                    image.description,
                ]);
            }
            job.ui.out(table.render())?;
            Ok(0)
        })
    }
}
