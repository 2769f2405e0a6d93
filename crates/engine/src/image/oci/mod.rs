//! OCI images, from a directory in OCI's layout or from a registry. Whatever is
//! asked for by a digest is compared with it before it is used.

pub(crate) mod credentials;
mod layout;
pub(crate) mod reference;
mod registry;

use std::collections::BTreeMap;
use std::path::Path;

use pixels_core::{Bytes, Error, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub(crate) use self::layout::{Layout, hash_of};
use self::reference::check_digest;
pub(crate) use self::registry::Registry;
use super::meter::Meter;

/// Manifests and configurations are some KiB.
const LONGEST_DOCUMENT: u64 = 4 << 20;
/// As many as Docker allows.
const MOST_LAYERS: usize = 127;

/// A thing that is known by its digest.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Descriptor {
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The digest's digits.
    pub(crate) fn sha256(&self) -> Result<&str> {
        check_digest(&self.digest).map_err(|rule| Error::invalid("digest", &self.digest, &rule))
    }
}

/// What a manifest of several is for.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
}

/// A list of manifests, or one: which fields there are says which.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    config: Option<Descriptor>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// Where an image's parts come from.
pub(crate) enum Blobs<'a> {
    /// A directory.
    Layout(Layout),
    /// A registry.
    Registry(Box<Registry<'a>>),
}

impl Blobs<'_> {
    /// The first document, and the digits of its digest.
    async fn root(&self) -> Result<(Bytes, String)> {
        match self {
            Self::Layout(layout) => {
                let first = layout.index()?;
                let hash = hex_sha256(&first);
                Ok((first, hash))
            }
            Self::Registry(registry) => registry.manifest().await,
        }
    }

    /// A small part, whose digest has been compared.
    async fn document(&self, what: &Descriptor, manifest: bool) -> Result<Bytes> {
        let sha256 = what.sha256()?;
        let bytes = match self {
            Self::Layout(layout) => layout.read(sha256, LONGEST_DOCUMENT)?,
            Self::Registry(registry) => registry.document(&what.digest, manifest).await?,
        };
        if hex_sha256(&bytes) != sha256 {
            let what = format!("{} of the image", what.digest);
            return Err(Error::backend(what, "its content has another digest"));
        }
        Ok(bytes)
    }

    /// A layer as a file at `to`, whose digest has been compared.
    pub(crate) async fn layer(
        &self,
        what: &Descriptor,
        to: &Path,
        limit: u64,
        meter: &Meter,
    ) -> Result<()> {
        match self {
            Self::Layout(layout) => layout.link(what, to, meter).await,
            Self::Registry(registry) => registry.blob(what, to, limit, meter).await,
        }
    }

    fn tag(&self) -> Option<&str> {
        match self {
            Self::Layout(layout) => layout.tag(),
            Self::Registry(_) => None,
        }
    }
}

/// What an image is made of.
pub(crate) struct Plan {
    /// The digits of the digest of its manifest.
    pub(crate) manifest: String,
    /// Its layers, bottom first.
    pub(crate) layers: Vec<Descriptor>,
}

/// Finds the manifest for an architecture, in Go's spelling.
///
/// # Errors
/// `Invalid` for an image that is for other architectures, or too deep; what
/// getting it gives.
pub(crate) async fn plan(blobs: &Blobs<'_>, name: &str, arch: &str) -> Result<Plan> {
    let (mut bytes, mut digest) = blobs.root().await?;
    let mut tag = blobs.tag();
    for _ in 0..4 {
        let document: Document = serde_json::from_slice(&bytes)
            .map_err(|e| Error::backend(name, format!("its manifest cannot be read: {e}")))?;
        let Some(config) = document.config.filter(|_| document.manifests.is_empty()) else {
            let chosen = choose(&document.manifests, name, arch, tag.take())?;
            bytes = blobs.document(chosen, true).await?;
            chosen.sha256()?.clone_into(&mut digest);
            continue;
        };
        if document.layers.is_empty() || document.layers.len() > MOST_LAYERS {
            return Err(Error::invalid("image", name, "an image has 1 to 127 layers"));
        }
        for layer in &document.layers {
            layer.sha256()?;
        }
        let config: Configuration = serde_json::from_slice(&blobs.document(&config, false).await?)
            .map_err(|e| Error::backend(name, format!("its configuration cannot be read: {e}")))?;
        if config.architecture != arch || config.os != "linux" {
            let rule =
                format!("it is for {}/{}, this is linux/{arch}", config.os, config.architecture);
            return Err(Error::invalid("image", name, &rule));
        }
        return Ok(Plan { manifest: digest, layers: document.layers });
    }
    Err(Error::backend(name, "its manifests refer to one another too deeply"))
}

fn choose<'a>(
    manifests: &'a [Descriptor],
    name: &str,
    arch: &str,
    tag: Option<&str>,
) -> Result<&'a Descriptor> {
    const TAG: &str = "org.opencontainers.image.ref.name";
    let tagged = |d: &&Descriptor| {
        tag.is_none_or(|tag| d.annotations.get(TAG).is_some_and(|have| have == tag))
    };
    let fits = |d: &&Descriptor| {
        d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == arch)
    };
    let candidates = || manifests.iter().filter(tagged);
    if let Some(found) = candidates().find(fits) {
        return Ok(found);
    }
    let mut unsaid = candidates().filter(|d| d.platform.is_none());
    match (unsaid.next(), unsaid.next()) {
        (Some(only), None) => return Ok(only),
        (Some(_), Some(_)) => {
            let names: Vec<_> = manifests.iter().filter_map(|d| d.annotations.get(TAG)).collect();
            let rule = "it holds several images: name one with :TAG";
            let e = Error::invalid("image", name, rule);
            return Err(if names.is_empty() {
                e
            } else {
                e.with_hint(format!("there is {names:?}"))
            });
        }
        _ => {}
    }
    if candidates().next().is_none() {
        return Err(Error::not_found(pixels_core::What::Image, name));
    }
    let have: Vec<_> = candidates()
        .filter_map(|d| d.platform.as_ref())
        .map(|p| format!("{}/{}", p.os, p.architecture))
        .collect();
    let rule = format!("it is for {}, this is linux/{arch}", have.join(", "));
    Err(Error::invalid("image", name, &rule))
}

fn hex_sha256(bytes: &[u8]) -> String {
    super::hex(&Sha256::digest(bytes))
}
