//! Images: where they come from, and the store of what was fetched.
//!
//! An image is a record that names layers; the layers belong to the store
//! ([`LayerStore`]). What is fetched is checked against its digest first, then
//! decoded in this process into a stream (`pixels_guest_api::tree`) that another,
//! confined process writes. No archive is unpacked by path anywhere.

mod apt;
mod compress;
pub(crate) mod debootstrap;
mod directory;
mod fetch;
mod http;
pub(crate) mod layer;
mod making;
mod meter;
mod oci;
mod records;
mod sink;
mod source;
mod squashfs;
mod streams;
mod tar;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use pixels_core::{Error, ImageInfo, Progress, Result};
use pixels_wire::ServerTrust;

use self::debootstrap::Machine;
use self::http::Http;
use self::layer::LayerStore;
pub(crate) use self::records::Image;
use self::records::{Records, Temporary, missing};
pub(crate) use self::sink::Limits;
use self::source::{Source, check_alias};

/// What images depend on besides the store.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The simplestreams server: `https://…`.
    pub(crate) server: String,
    /// Its CA in PEM; unset: the system's.
    pub(crate) server_ca: Option<PathBuf>,
    /// The image that another may stand in for where the server cannot be reached.
    pub(crate) default_image: String,
    /// What `~` means.
    pub(crate) home: Option<PathBuf>,
    /// Docker's configurations, the first to be asked first.
    pub(crate) docker_configs: Vec<PathBuf>,
    /// Where credential helpers are looked for; unset: `PATH`.
    pub(crate) helper_path: Option<OsString>,
    /// What one layer may measure.
    pub(crate) limits: Limits,
    /// What is looked at of this machine for debootstrap.
    pub(crate) machine: Machine,
}

impl Settings {
    /// What this process's environment says, for a server and a default image.
    pub(crate) fn of_process(
        server: &str,
        server_ca: Option<PathBuf>,
        default_image: &str,
    ) -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = var("HOME");
        let docker = var("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker")));
        let podman = var("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
        let configs = docker.map(|dir| dir.join("config.json")).into_iter().chain(podman);
        Self {
            server: server.into(),
            server_ca,
            default_image: default_image.into(),
            docker_configs: configs.collect(),
            home,
            helper_path: None,
            limits: Limits::default(),
            machine: Machine::of_process(),
        }
    }
}

/// The images of a store. Nothing is opened or made before it is needed.
pub(crate) struct Images {
    records: Records,
    tmp: PathBuf,
    layers: Arc<dyn LayerStore>,
    settings: Settings,
    server: OnceLock<Http>,
    registries: Http,
}

impl Images {
    /// The images below the store's root.
    pub(crate) fn new(root: &Path, layers: Arc<dyn LayerStore>, settings: Settings) -> Self {
        Self {
            records: Records::new(root),
            tmp: root.join("tmp"),
            layers,
            settings,
            server: OnceLock::new(),
            registries: Http::new(ServerTrust::System),
        }
    }

    fn server(&self) -> Result<&Http> {
        if let Some(http) = self.server.get() {
            return Ok(http);
        }
        let trust = match &self.settings.server_ca {
            None => ServerTrust::System,
            Some(file) => ServerTrust::Pem(std::fs::read(file).map_err(|e| {
                let what = format!("image_server_ca {}", file.display());
                Error::backend(what, e.to_string())
            })?),
        };
        Ok(self.server.get_or_init(|| Http::new(trust)))
    }

    /// The image that a name means, fetched if it is not at hand. A name at hand
    /// is not looked up again; [`Images::import`] does that.
    ///
    /// # Errors
    /// `Invalid` for what is no name, `NotFound`, `Unreachable`; `Invalid` for an
    /// image that breaks a rule.
    pub(crate) async fn resolve(&self, name: &str, progress: &Progress) -> Result<Image> {
        let source = match self.at_hand(name)? {
            Ok(image) => return Ok(image),
            Err(source) => source,
        };
        let is_default = matches!(&source, Source::Server(n) if *n == self.settings.default_image);
        if is_default && let Some(image) = self.recent_stand_in(progress)? {
            return Ok(image);
        }
        match self.fetch(&source, name, source.alias(name), progress).await {
            Err(e) if is_default && matches!(e.kind(), Error::Unreachable { .. }) => {
                self.stand_in(e, progress).await
            }
            other => other,
        }
    }

    /// The image of this name that was fetched before, or else what it would be
    /// fetched from. An alias may be anything, so it is looked for first.
    fn at_hand(&self, name: &str) -> Result<Result<Image, Source>> {
        let source = Source::parse(name, self.settings.home.as_deref())?;
        if matches!(source, Source::Path(_) | Source::Layout { .. }) {
            return Ok(Err(source));
        }
        let alias = source.alias(name).unwrap_or_else(|| name.into());
        Ok(self.records.find(&alias)?.ok_or(source))
    }

    /// Brings an image in, whether or not one of this name is at hand, and gives
    /// it the name `alias`, or else that of the source if it has one.
    ///
    /// # Errors
    /// As [`Images::resolve`].
    pub(crate) async fn import(
        &self,
        source: &str,
        alias: Option<&str>,
        progress: &Progress,
    ) -> Result<Image> {
        if let Some(alias) = alias {
            check_alias(alias)?;
        }
        let from = Source::parse(source, self.settings.home.as_deref())?;
        let alias = alias.map(Into::into).or_else(|| from.alias(source));
        self.fetch(&from, source, alias, progress).await
    }

    /// The images at hand.
    pub(crate) fn list(&self) -> Result<Vec<ImageInfo>> {
        Ok(self.records.list()?.iter().map(Image::info).collect())
    }

    /// Removes an image by name or fingerprint. Pixels made from it keep what
    /// they need: its layers stay as long as somebody else refers to them.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) async fn remove(&self, name: &str) -> Result<ImageInfo> {
        let bare = name.strip_prefix("images:").unwrap_or(name);
        let image = self.records.find(bare)?.ok_or_else(|| missing(name))?;
        // The record first: without it the references are nobody's, and gc takes them.
        self.records.remove(&image.fingerprint)?;
        crate::failpoint::at("image-unrecorded");
        let referrer = layer::referrer(&image.fingerprint);
        for layer in &image.layers {
            self.layers.release(layer, &referrer).await?;
        }
        Ok(image.info())
    }

    /// Whether a referrer of a layer is an image that is there or being made.
    /// References of any other image are left over.
    pub(crate) fn is_live(&self, referrer: &str) -> bool {
        layer::fingerprint_of(referrer).is_some_and(|fingerprint| {
            // In this order: a record is written before its lock is given up.
            self.records.is_locked(fingerprint)
                || !matches!(self.records.get(fingerprint), Ok(None))
        })
    }

    /// Removes what interrupted fetches left; what that was, in words.
    pub(crate) fn sweep(&self) -> Result<Vec<String>> {
        let failed = |e: io::Error| local("cleaning up after images", &e);
        self.records.sweep().map_err(failed)?;
        let removed = Temporary::sweep(&self.tmp).map_err(failed)?;
        Ok(vec!["an unfinished download of an image".into(); removed])
    }
}

/// A failure of this machine's own files.
pub(crate) fn local(what: &str, e: &io::Error) -> Error {
    let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if full {
        return Error::Exhausted { what: what.into(), reason: e.to_string() };
    }
    Error::backend(what, e.to_string())
}

/// Does something that blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::backend("a thread of its own", e.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
