use clap::{Args, Subcommand};
use jiff::Timestamp;
use pixels_core::{ImageInfo, size, text};

use crate::context::{Context, Job};
use crate::exit::{self, Failure, Outcome};
use crate::ui::table::Table;
use crate::ui::time;

/// List, import and remove the images that pixels are made from
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
    /// Bring an image in, or its newest version
    ///
    /// SOURCE is a name of the image server (ubuntu/24.04), docker:IMAGE[:TAG] or
    /// oci://HOST/IMAGE[:TAG] for a registry, oci:DIRECTORY[:TAG] for an OCI layout,
    /// debootstrap:SUITE, or the path of a root file system: a tarball (plain, gz, xz,
    /// zst), a squashfs or a directory. A path begins with /, ./ or ~.
    Import {
        /// Where it comes from
        #[arg(value_name = "SOURCE")]
        source: String,
        /// What to call it, instead of what the source calls it
        #[arg(long, value_name = "NAME")]
        alias: Option<String>,
    },
    /// Remove images; pixels that were made from them stay
    #[command(visible_alias = "rm")]
    Remove {
        /// The images, by name or by the first digits of the fingerprint
        #[arg(value_name = "IMAGE", required = true)]
        images: Vec<String>,
    },
}

/// How much of a fingerprint tells images apart for a person.
const SHORT: usize = 12;

impl Image {
    pub fn run(self, ctx: &Context) -> Outcome {
        ctx.run(async |job| match self.verb {
            Verb::List => list(job).await,
            Verb::Import { source, alias } => import(job, &source, alias.as_deref()).await,
            Verb::Remove { images } => remove(job, &images).await,
        })
    }
}

async fn list(job: &mut Job<'_>) -> Outcome {
    let pixels = job.pixels.clone();
    let images = job.operate("listing images", async |_| pixels.images().await).await?;
    if job.ui.json {
        job.ui.json_out(&images)?;
        return Ok(0);
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["ALIAS", "FINGERPRINT", "ARCH", "SIZE", "AGE", "DESCRIPTION"]);
    for image in images {
        table.row([
            image.aliases.join(","),
            short(&image),
            image.architecture,
            size::human(image.size),
            time::age_or_dash(image.created_at, now),
            image.description,
        ]);
    }
    job.ui.out(table.render())?;
    Ok(0)
}

async fn import(job: &mut Job<'_>, source: &str, alias: Option<&str>) -> Outcome {
    let pixels = job.pixels.clone();
    let image = job
        .operate(&format!("importing {}", text::clean(source)), async |progress| {
            pixels.import_image(source, alias, progress).await
        })
        .await?;
    if job.ui.json {
        job.ui.json_out(&image)?;
    } else {
        job.ui.line(called(&image))?;
    }
    Ok(0)
}

async fn remove(job: &mut Job<'_>, images: &[String]) -> Outcome {
    let (mut removed, mut all) = (Vec::new(), true);
    for name in images {
        let pixels = job.pixels.clone();
        let what = format!("removing {}", text::clean(name));
        match job.operate(&what, async |_| pixels.remove_image(name).await).await {
            Ok(image) => {
                job.ui.note(format!("removed {}", called(&image)));
                removed.push(image);
            }
            Err(Failure::Error(e)) => {
                all = false;
                job.ui.told(e.code(), &e.to_string(), e.hint().as_deref());
            }
            Err(other) => return Err(other),
        }
    }
    if job.ui.json {
        job.ui.json_out(&removed)?;
    }
    exit::all(all)
}

fn short(image: &ImageInfo) -> String {
    image.fingerprint.chars().take(SHORT).collect()
}

/// What to write after `--image`.
fn called(image: &ImageInfo) -> String {
    image.aliases.last().map_or_else(|| short(image), |alias| text::clean(alias))
}
