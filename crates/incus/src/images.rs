//! The images at hand: those of the daemon.

use jiff::Timestamp;
use pixels_core::{ImageInfo, Result};
use serde::Deserialize;

use crate::Incus;
use crate::api::Path;
use crate::model::Keys;

#[derive(Deserialize)]
struct RawImage {
    fingerprint: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    aliases: Vec<Alias>,
    #[serde(default)]
    properties: Keys,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    uploaded_at: Option<Timestamp>,
    #[serde(default)]
    update_source: Option<Alias>,
    #[serde(default)]
    r#type: String,
}

#[derive(Deserialize)]
struct Alias {
    #[serde(default, alias = "alias")]
    name: String,
}

impl Incus {
    /// Containers' images, those with an alias first.
    pub(crate) async fn images(&self) -> Result<Vec<ImageInfo>> {
        let path = Path::new("/1.0/images").query("recursion", "1");
        let raw: Vec<RawImage> = match self.api.get(path).await {
            Ok(reply) => reply.parse().map_err(|f| f.during("list images"))?,
            Err(fault) => return Err(self.list_error(fault, "list images").await),
        };
        if raw.is_empty() {
            // Whoever is not trusted sees the public ones, of which there are none.
            self.ask_for_project().await?;
        }
        let mut images: Vec<_> = raw
            .into_iter()
            .filter(|i| i.r#type.is_empty() || i.r#type == "container")
            .map(|i| {
                let mut aliases: Vec<_> = i.aliases.into_iter().map(|a| a.name).collect();
                // What an image server's image was asked for by is no alias of
                // the daemon's, and still what a person would type.
                if aliases.is_empty() {
                    aliases.extend(i.update_source.map(|a| a.name).filter(|a| !a.is_empty()));
                }
                ImageInfo {
                    aliases,
                    fingerprint: i.fingerprint,
                    description: i.properties.get("description").cloned().unwrap_or_default(),
                    architecture: i.architecture,
                    size: i.size,
                    created_at: i.uploaded_at.filter(|t| *t > Timestamp::UNIX_EPOCH),
                }
            })
            .collect();
        images.sort_by(|a, b| {
            (a.aliases.is_empty(), &a.aliases, &a.fingerprint).cmp(&(
                b.aliases.is_empty(),
                &b.aliases,
                &b.fingerprint,
            ))
        });
        Ok(images)
    }
}
