use clap::Args;
use jiff::Timestamp;
use pixels_core::text;

use super::names;
use crate::context::Context;
use crate::exit::{self, Outcome};

/// Destroy pixels past their --ttl, and what interrupted commands left behind
#[derive(Debug, Args)]
pub struct Gc {}

impl Gc {
    pub fn run(self, ctx: &Context) -> Outcome {
        ctx.run(async |job| {
            let pixels = job.pixels.clone();
            let report =
                job.operate("cleaning up", async |_| pixels.gc(Timestamp::now()).await).await?;
            let (expired, all) = names::settle(job.ui, report.expired);
            let expired: Vec<_> = expired.iter().map(|(name, ())| name.as_str()).collect();
            if job.ui.json {
                job.ui.json_out(&serde_json::json!({
                    "expired": expired,
                    "swept": report.swept,
                }))?;
                return exit::all(all);
            }
            for name in expired {
                job.ui.line(format!("destroyed {name}"))?;
            }
            for what in &report.swept {
                job.ui.line(format!("removed {}", text::clean(what)))?;
            }
            exit::all(all)
        })
    }
}
