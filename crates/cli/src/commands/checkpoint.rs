use clap::{Args, Subcommand};
use jiff::Timestamp;
use pixels_core::{Error, Label, Name, size};

use crate::context::{Context, Job};
use crate::exit::{Failure, Outcome};
use crate::ui::table::Table;
use crate::ui::time;

/// Make, list, restore and delete checkpoints of a pixel
///
/// A checkpoint is a snapshot of the pixel's root filesystem, taken without
/// stopping it. pixels create --from NAME:LABEL makes new pixels from one.
#[derive(Debug, Args)]
pub struct Checkpoint {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a checkpoint and print its label
    Create(Create),
    /// List a pixel's checkpoints, oldest first
    #[command(visible_alias = "ls")]
    List {
        /// The pixel
        #[arg(value_name = "NAME")]
        name: Name,
    },
    /// Take a pixel back to a checkpoint
    ///
    /// A pixel that runs is stopped and started again. Its identity and its
    /// egress policy stay as they are.
    Restore(Which),
    /// Delete a checkpoint
    #[command(visible_alias = "rm")]
    Delete(Which),
}

#[derive(Debug, Args)]
struct Create {
    /// The pixel
    #[arg(value_name = "NAME")]
    name: Name,
    /// What to call it, instead of px-YYYYMMDD-HHMMSS
    #[arg(value_name = "LABEL")]
    positional: Option<Label>,
    /// The same, as an option
    #[arg(long, value_name = "LABEL", conflicts_with = "positional")]
    label: Option<Label>,
}

#[derive(Debug, Args)]
struct Which {
    /// The pixel
    #[arg(value_name = "NAME")]
    name: Name,
    /// The checkpoint
    #[arg(value_name = "LABEL", required_unless_present = "label")]
    positional: Option<Label>,
    /// The same, as an option
    #[arg(long, value_name = "LABEL", conflicts_with = "positional")]
    label: Option<Label>,
}

impl Which {
    /// The pixel and the label, however that was given.
    fn resolve(self) -> Result<(Name, Label), Failure> {
        match self.positional.or(self.label) {
            Some(label) => Ok((self.name, label)),
            None => Err(Failure::Usage(Error::invalid("label", "", "a label is needed"))),
        }
    }
}

impl Checkpoint {
    pub fn run(self, ctx: &Context) -> Outcome {
        ctx.run(async |job| match self.verb {
            Verb::Create(Create { name, positional, label }) => {
                create(job, &name, positional.or(label)).await
            }
            Verb::List { name } => list(job, &name).await,
            Verb::Restore(which) => restore(job, which).await,
            Verb::Delete(which) => delete(job, which).await,
        })
    }
}

async fn create(job: &mut Job<'_>, name: &Name, label: Option<Label>) -> Outcome {
    let pixels = job.pixels.clone();
    let snapshot = job
        .operate(&format!("checkpointing {name}"), async |_| {
            pixels.create_checkpoint(name, label.as_ref()).await
        })
        .await?;
    if job.ui.json {
        job.ui.json_out(&snapshot)?;
    } else {
        job.ui.line(snapshot.label.as_str())?;
    }
    Ok(0)
}

async fn list(job: &mut Job<'_>, name: &Name) -> Outcome {
    let pixels = job.pixels.clone();
    let all = job.operate("listing checkpoints", async |_| pixels.checkpoints(name).await).await?;
    if job.ui.json {
        job.ui.json_out(&all)?;
        return Ok(0);
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["LABEL", "SIZE", "AGE"]);
    for snapshot in all {
        table.row([
            snapshot.label.to_string(),
            snapshot.size.map(size::human).unwrap_or_default(),
            time::age_or_dash(snapshot.created_at, now),
        ]);
    }
    job.ui.out(table.render())?;
    Ok(0)
}

async fn restore(job: &mut Job<'_>, which: Which) -> Outcome {
    let (name, label) = which.resolve()?;
    let pixels = job.pixels.clone();
    let plan = job
        .operate("listing checkpoints", async |_| pixels.restore_plan(&name, &label).await)
        .await?;
    let newer = plan.newer.iter().map(Label::as_str).collect::<Vec<_>>().join(", ");
    if !newer.is_empty() && !plan.newer_kept {
        job.ui.warn(&format!("this storage cannot keep newer checkpoints: {newer} will be gone"));
    }
    job.operate(&format!("restoring {name}"), async |_| {
        pixels.restore_checkpoint(&name, &label).await
    })
    .await?;
    if job.ui.json {
        job.ui.json_out(&serde_json::json!({
            "name": name.as_str(),
            "checkpoint": plan.snapshot,
            "newer": plan.newer,
            "newer_kept": plan.newer_kept,
        }))?;
    }
    let kept = if newer.is_empty() || !plan.newer_kept {
        String::new()
    } else {
        format!("; newer checkpoints are kept: {newer}")
    };
    job.ui.note(format!("restored {name} to {label}{kept}"));
    Ok(0)
}

async fn delete(job: &mut Job<'_>, which: Which) -> Outcome {
    let (name, label) = which.resolve()?;
    let pixels = job.pixels.clone();
    job.operate(&format!("deleting {name}:{label}"), async |_| {
        pixels.delete_checkpoint(&name, &label).await
    })
    .await?;
    job.ui.note(format!("deleted {name}:{label}"));
    Ok(0)
}
