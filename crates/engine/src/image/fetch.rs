//! Getting images: one way a source, all of them ending in the same place.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use pixels_core::{Error, Progress, Result, What};
use pixels_wire::HeaderMap;
use url::Url;

use crate::failpoint;

use super::debootstrap::{self, Tool};
use super::directory::Skip;
use super::http::Expected;
use super::making::{Content, Making, fingerprint_of, format_of};
use super::meter::Meter;
use super::oci::credentials;
use super::oci::reference::Reference;
use super::oci::{Blobs, Layout, Plan, Registry, hash_of, plan};
use super::records::{Image, Lock, Temporary, make_dir};
use super::source::Source;
use super::streams::{self, Offer};
use super::tar::Style;
use super::{Images, blocking, local};

/// How many layers are downloaded at once.
const WIDTH: usize = 3;
/// How long a server that could not be reached is not asked again, where
/// something else can be used meanwhile.
const GRACE: Duration = Duration::from_secs(600);

/// How the layers of an image are got.
enum Recipe<'a> {
    Offer(Offer),
    Content { content: Content, blob: Option<String> },
    Oci { blobs: Box<Blobs<'a>>, plan: Plan },
}

/// What an image will be.
struct New<'a> {
    fingerprint: String,
    description: String,
    name: &'a str,
    alias: Option<String>,
}

impl Images {
    /// Gets what `source` has now. `name` is what messages call it.
    pub(crate) async fn fetch(
        &self,
        source: &Source,
        name: &str,
        alias: Option<String>,
        progress: &Progress,
    ) -> Result<Image> {
        match source {
            Source::Server(wanted) => self.fetch_server(wanted, name, alias, progress).await,
            Source::Path(path) => self.fetch_path(path, name, alias, progress).await,
            Source::Debootstrap(suite) => self.fetch_packages(suite, name, alias, progress).await,
            Source::Layout { dir, tag } => {
                let blobs = Blobs::Layout(Layout::new(dir.clone(), tag.clone()));
                self.fetch_oci(blobs, name, alias, progress).await
            }
            Source::Registry(reference) => {
                progress.phase(format!("asking {} for {name}", reference.registry));
                let blobs = Blobs::Registry(Box::new(self.registry(reference).await?));
                self.fetch_oci(blobs, name, alias, progress).await
            }
        }
    }

    async fn registry(&self, reference: &Reference) -> Result<Registry<'_>> {
        let settings = &self.settings;
        let key = reference.credentials_key();
        let found =
            credentials::find(&settings.docker_configs, key, settings.helper_path.as_deref());
        Registry::new(&self.registries, reference.clone(), found.await?)
    }

    async fn fetch_server(
        &self,
        wanted: &str,
        name: &str,
        alias: Option<String>,
        progress: &Progress,
    ) -> Result<Image> {
        let server = &self.settings.server;
        progress.phase(format!("asking {server} for {wanted}"));
        let url = Url::parse(server)
            .map_err(|e| Error::invalid("image_server", server, &e.to_string()))?;
        let offer = streams::find(self.server()?, &url, wanted, packages_arch()).await?;
        let new = New {
            fingerprint: offer.sha256.clone(),
            description: offer.description.clone(),
            name,
            alias,
        };
        self.adopt(new, Recipe::Offer(offer), progress).await
    }

    async fn fetch_path(
        &self,
        path: &Path,
        name: &str,
        alias: Option<String>,
        progress: &Progress,
    ) -> Result<Image> {
        if path.is_dir() {
            let content = Content::Directory { path: path.into(), skip: Skip::default() };
            return self.fetch_content(content, name, alias, progress).await;
        }
        let kind = File::open(path).and_then(|file| format_of(&file));
        let kind = kind.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::not_found(What::Image, name),
            _ => local(&format!("reading {name}"), &e),
        })?;
        if kind.is_none() {
            let rule = "it is no tar archive (plain, gz, xz, zst), squashfs or directory";
            return Err(Error::invalid("image", name, rule));
        }
        let content = Content::File { path: path.into(), style: Style::default() };
        self.fetch_content(content, name, alias, progress).await
    }

    /// What is told by its content alone.
    async fn fetch_content(
        &self,
        content: Content,
        name: &str,
        alias: Option<String>,
        progress: &Progress,
    ) -> Result<Image> {
        let (fingerprint, blob) = match &content {
            Content::Directory { .. } => {
                let limits = self.settings.limits;
                (fingerprint_of(content.clone(), name, limits, progress).await?, None)
            }
            Content::File { path, .. } => {
                let hash = self.hash(path, name, progress).await?;
                (hash.clone(), Some(hash))
            }
        };
        let new = New { fingerprint, description: name.into(), name, alias };
        self.adopt(new, Recipe::Content { content, blob }, progress).await
    }

    async fn hash(&self, path: &Path, name: &str, progress: &Progress) -> Result<String> {
        let failed = |e: io::Error| local(&format!("reading {name}"), &e);
        let total = std::fs::metadata(path).map_err(failed)?.len();
        let meter = Meter::new(progress, format!("reading {name}"), Some(total));
        let path = path.to_owned();
        blocking(move || hash_of(&path, &meter)).await?.map_err(failed)
    }

    async fn fetch_packages(
        &self,
        suite: &str,
        name: &str,
        alias: Option<String>,
        progress: &Progress,
    ) -> Result<Image> {
        let machine = &self.settings.machine;
        let plan = machine.plan(suite, rustix::process::geteuid().is_root())?;
        let key = format!("debootstrap-{suite}");
        let (_lock, waited) = self.lock(&key, name, progress).await?;
        if waited
            && let Some(alias) = &alias
            && let Some(image) = self.records.find(alias)?
        {
            return Ok(image);
        }
        let temporary = Temporary::new(&self.tmp)?;
        progress.phase(format!("making {suite} of packages"));
        let (target, content) = match plan.tool {
            Tool::Mmdebstrap => {
                let path = temporary.path().join("rootfs.tar");
                (path.clone(), Content::File { path, style: Style::default() })
            }
            Tool::Debootstrap => {
                let path = temporary.path().join("rootfs");
                (path.clone(), Content::Directory { path, skip: debootstrap::SKIP })
            }
        };
        plan.run(machine, suite, &target, progress).await?;
        let made = self.fetch_content(content, name, alias, progress).await;
        // Removing a whole system takes a while.
        blocking(move || drop(temporary)).await?;
        made
    }

    async fn fetch_oci(
        &self,
        blobs: Blobs<'_>,
        name: &str,
        alias: Option<String>,
        progress: &Progress,
    ) -> Result<Image> {
        let plan = plan(&blobs, name, go_arch()).await?;
        let new = New { fingerprint: plan.manifest.clone(), description: name.into(), name, alias };
        self.adopt(new, Recipe::Oci { blobs: Box::new(blobs), plan }, progress).await
    }

    async fn lock(&self, key: &str, name: &str, progress: &Progress) -> Result<(Lock, bool)> {
        let waiting = || progress.phase(format!("waiting for another process that gets {name}"));
        self.records.lock(key, waiting).await
    }

    /// Has the image of a fingerprint at hand: the one that is there, or one made
    /// by the recipe. Of several at once, in whatever process, one makes it.
    async fn adopt(&self, new: New<'_>, recipe: Recipe<'_>, progress: &Progress) -> Result<Image> {
        let (_lock, _) = self.lock(&new.fingerprint, new.name, progress).await?;
        if let Some(mut image) = self.records.get(&new.fingerprint)? {
            if let Some(alias) = new.alias.filter(|a| !image.aliases.contains(a)) {
                image.aliases.push(alias);
                self.records.put(&image)?;
            }
            return Ok(image);
        }
        let limits = self.settings.limits;
        let store = std::sync::Arc::clone(&self.layers);
        let mut making = Making::new(store, &new.fingerprint, new.name, limits);
        let made = self.make(&mut making, &new, recipe, progress).await;
        let image = Image {
            fingerprint: new.fingerprint,
            aliases: new.alias.into_iter().collect(),
            description: new.description,
            architecture: std::env::consts::ARCH.into(),
            size: making.bytes,
            created_at: Timestamp::now(),
            layers: making.layers.clone(),
            blobs: making.blobs.clone(),
            source: new.name.into(),
        };
        if let Err(e) = made.and_then(|()| self.records.put(&image)) {
            making.undo().await;
            return Err(e);
        }
        making.keep();
        failpoint::at("image-recorded");
        Ok(image)
    }

    async fn make(
        &self,
        making: &mut Making,
        new: &New<'_>,
        recipe: Recipe<'_>,
        progress: &Progress,
    ) -> Result<()> {
        match recipe {
            Recipe::Offer(offer) => {
                let temporary = Temporary::new(&self.tmp)?;
                let path = temporary.path().join("image");
                let expected = Expected {
                    sha256: offer.sha256.clone(),
                    size: (offer.size > 0).then_some(offer.size),
                    limit: self.settings.limits.bytes,
                };
                let meter =
                    Meter::new(progress, format!("downloading {}", new.name), expected.size);
                let http = self.server()?;
                http.download(&offer.url, &HeaderMap::new(), &expected, &path, &meter).await?;
                let content = Content::File { path, style: Style::default() };
                making.layer(content, &offer.sha256, progress).await.map(drop)
            }
            Recipe::Content { content, blob } => {
                let directory = matches!(content, Content::Directory { .. });
                let hash = making.layer(content, blob.as_deref().unwrap_or_default(), progress);
                let hash = hash.await?;
                if directory && hash != new.fingerprint {
                    return Err(Error::backend(new.name, "it changed while it was read"));
                }
                Ok(())
            }
            Recipe::Oci { blobs, plan } => {
                self.make_oci(making, new, &blobs, &plan, progress).await
            }
        }
    }

    async fn make_oci(
        &self,
        making: &mut Making,
        new: &New<'_>,
        blobs: &Blobs<'_>,
        plan: &Plan,
        progress: &Progress,
    ) -> Result<()> {
        let at_hand = self.records.list()?;
        let having = |digest: &str| {
            at_hand.iter().find_map(|image| {
                let at = image.blobs.iter().position(|b| b == digest)?;
                image.layers.get(at).map(String::as_str)
            })
        };
        let temporary = Temporary::new(&self.tmp)?;
        let path_of = |n: usize| -> PathBuf { temporary.path().join(format!("layer-{n}")) };
        let wanted: Vec<_> =
            plan.layers.iter().enumerate().filter(|(_, l)| having(&l.digest).is_none()).collect();
        let total = wanted.iter().map(|(_, l)| l.size).sum();
        let meter = Meter::new(progress, format!("downloading {}", new.name), Some(total));
        let limit = self.settings.limits.bytes;
        let mut downloads: Vec<BoxFuture<'_, Result<()>>> = Vec::new();
        for (n, layer) in wanted {
            let (path, meter) = (path_of(n), meter.clone());
            downloads.push(Box::pin(async move { blobs.layer(layer, &path, limit, &meter).await }));
        }
        stream::iter(downloads).buffer_unordered(WIDTH).try_collect::<()>().await?;
        for (n, layer) in plan.layers.iter().enumerate() {
            if let Some(shared) = having(&layer.digest) {
                if making.share(shared, &layer.digest).await? {
                    continue;
                }
                // It was removed just now.
                blobs.layer(layer, &path_of(n), limit, &meter).await?;
            }
            let content = Content::File { path: path_of(n), style: Style { layer: true } };
            making.layer(content, &layer.digest, progress).await?;
        }
        Ok(())
    }

    /// What takes the default image's place where its server cannot be reached:
    /// this machine's own system, made of its mirror's packages.
    pub(crate) async fn stand_in(&self, error: Error, progress: &Progress) -> Result<Image> {
        let Some(suite) = self.settings.machine.suite() else {
            return Err(error.with_hint(
                "an image can also come from elsewhere: --image docker:debian:12, or a tarball's path",
            ));
        };
        self.tell(&suite, &error.to_string(), progress);
        let name = format!("debootstrap:{suite}");
        let marked = self.mark_unreachable();
        if let Err(error) = marked {
            tracing::debug!(%error, "cannot remember that the server was not reached");
        }
        if let Some(image) = self.records.find(&name)? {
            return Ok(image);
        }
        let source = Source::Debootstrap(suite);
        let made = self.fetch(&source, &name, Some(name.clone()), progress).await;
        made.map_err(|second| {
            let hint = second.hint().unwrap_or_else(|| second.to_string());
            error.with_hint(hint)
        })
    }

    /// The stand-in, if the server could not be reached a short while ago.
    pub(crate) fn recent_stand_in(&self, progress: &Progress) -> Result<Option<Image>> {
        let tried = std::fs::metadata(self.unreachable()).and_then(|m| m.modified());
        let recent = tried.is_ok_and(|at| {
            SystemTime::now().duration_since(at).is_ok_and(|passed| passed < GRACE)
        });
        let Some(suite) = self.settings.machine.suite().filter(|_| recent) else { return Ok(None) };
        let found = self.records.find(&format!("debootstrap:{suite}"))?;
        if found.is_some() {
            let server = &self.settings.server;
            self.tell(&suite, &format!("{server} could not be reached a moment ago"), progress);
        }
        Ok(found)
    }

    fn tell(&self, suite: &str, why: &str, progress: &Progress) {
        let wanted = &self.settings.default_image;
        let text = format!(
            "{why}; instead of {wanted} this uses {suite}, made of this machine's own packages"
        );
        tracing::warn!("{text}");
        progress.warn(text);
    }

    fn unreachable(&self) -> PathBuf {
        self.tmp.with_file_name("image-server-unreachable")
    }

    fn mark_unreachable(&self) -> io::Result<()> {
        let mark = self.unreachable();
        if let Some(root) = mark.parent() {
            make_dir(root)?;
        }
        File::create(mark)?.set_modified(SystemTime::now())
    }
}

/// This machine's architecture as Debian and image servers spell it.
pub(crate) fn packages_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "armhf",
        "x86" => "i386",
        "powerpc64" => "ppc64el",
        other => other,
    }
}

/// As Go and OCI spell it.
pub(crate) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
