//! [`Pixels`]: a configuration and the backend it chooses.

use std::future::Future;
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, stream};
use pixels_core::{Error, Name, Registry, Result, Sandbox, Settings};

use crate::config::{Config, Source};
use crate::select::{self, Choice, Reach, ThisHost};

/// What every program does with pixels: the verbs that the command line and
/// the MCP server share.
///
/// Dropping a verb's future interrupts it. What it had half-made is then
/// removed by [`Pixels::close`], which is to be awaited before a program ends,
/// interrupted or not.
pub struct Pixels {
    config: Config,
    choice: Choice,
    backend: Arc<dyn Sandbox>,
    /// Whether the backend was not opened from the configuration.
    foreign: bool,
    /// What interrupted verbs made and did not get to remove.
    leftovers: Mutex<Vec<Leftover>>,
}

/// Something half-made.
#[derive(Clone, Debug)]
pub(crate) enum Leftover {
    /// A pixel.
    Pixel(Name),
    /// A path in a pixel.
    Path {
        /// The pixel.
        pixel: Name,
        /// The path.
        path: Vec<u8>,
    },
}

/// What came of a verb for one of several pixels.
#[derive(Debug)]
pub struct Outcome<T> {
    /// The pixel.
    pub name: Name,
    /// What came of it.
    pub result: Result<T>,
}

/// Which pixels a verb is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// These, in this order; a name given twice counts once.
    Names(Vec<Name>),
    /// All there are.
    All,
}

impl From<Name> for Targets {
    fn from(name: Name) -> Self {
        Self::Names(vec![name])
    }
}

impl From<Vec<Name>> for Targets {
    fn from(names: Vec<Name>) -> Self {
        Self::Names(names)
    }
}

impl Pixels {
    /// The backends that are built into this version.
    pub fn backends() -> Registry {
        let mut registry = Registry::new();
        registry.register(pixels_incus::KIND, pixels_incus::factory());
        #[cfg(target_os = "linux")]
        registry.register(pixels_engine::KIND, pixels_engine::factory());
        registry
    }

    /// Opens the backend that `config` chooses. No connection is made: the
    /// first verb does that.
    ///
    /// # Errors
    /// What [`select::choose`] says, a backend that is not in this version, a
    /// setting that the backend cannot use.
    pub fn open(config: Config) -> Result<Self> {
        Self::open_with(config, &Self::backends())
    }

    /// As [`Pixels::open`], with backends of the caller's own.
    ///
    /// # Errors
    /// As [`Pixels::open`].
    pub fn open_with(config: Config, registry: &Registry) -> Result<Self> {
        let choice = select::choose(&config, &ThisHost)?;
        if !registry.names().any(|name| name == choice.backend) {
            return Err(missing(&choice));
        }
        let backend = registry.open(&choice.backend, &settings(&config, &choice)?)?;
        Ok(Self { config, choice, backend, foreign: false, leftovers: Mutex::default() })
    }

    /// The verbs over a backend that is open already. Its own default image
    /// counts where the configuration does not set one.
    pub fn with_backend(config: Config, backend: Arc<dyn Sandbox>) -> Self {
        let choice = Choice {
            backend: backend.kind().into(),
            why: "the program chose it".into(),
            reach: Reach::Here,
            project: None,
        };
        Self { config, choice, backend, foreign: true, leftovers: Mutex::default() }
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<dyn Sandbox> {
        &self.backend
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Which backend this is, and why.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Removes what interrupted verbs left, waits for what goes on in the
    /// background and closes the connection.
    ///
    /// # Errors
    /// The first failure; everything is tried.
    pub async fn close(&self) -> Result<()> {
        let left = match self.leftovers.lock() {
            Ok(mut left) => std::mem::take(&mut *left),
            Err(poisoned) => std::mem::take(&mut *poisoned.into_inner()),
        };
        let mut removed = Ok(());
        for leftover in left {
            let done = match leftover {
                Leftover::Pixel(name) => self.backend.delete(&name).await,
                Leftover::Path { pixel, path } => self.remove_path(&pixel, &path).await,
            };
            match done {
                Err(e) if !e.is_not_found() => removed = removed.and(Err(e)),
                _ => {}
            }
        }
        let closed = self.backend.close().await;
        removed.and(closed)
    }

    /// The pixels meant, each once, in order.
    pub(crate) async fn resolve(&self, targets: &Targets) -> Result<Vec<Name>> {
        match targets {
            Targets::All => Ok(self.backend.list().await?.into_iter().map(|i| i.name).collect()),
            Targets::Names(names) => {
                let mut once: Vec<Name> = Vec::new();
                for name in names {
                    if !once.contains(name) {
                        once.push(name.clone());
                    }
                }
                Ok(once)
            }
        }
    }

    /// Does `verb` for every name, so many at once that a backend is never short
    /// of work (measured: a daemon makes 20 clones fastest when it has all of them
    /// before the first has booted), and gives the outcomes in the order of the names.
    pub(crate) async fn each<T, F, Fut>(&self, names: Vec<Name>, verb: F) -> Vec<Outcome<T>>
    where
        F: Fn(Name) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        const WIDTH: usize = 32;
        let work = names.into_iter().enumerate().map(|(at, name)| {
            let result = verb(name.clone());
            async move { (at, Outcome { name, result: result.await }) }
        });
        let mut done: Vec<_> = stream::iter(work).buffer_unordered(WIDTH).collect().await;
        done.sort_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// The image of new pixels; `None` leaves it to the backend.
    pub(crate) fn default_image(&self) -> Option<String> {
        let unset = matches!(self.config.source("defaults.image"), Some(Source::Default) | None);
        (!(self.foreign && unset)).then(|| self.config.defaults.image.clone())
    }

    /// Marks something as half-made until the guard is disarmed.
    pub(crate) fn guard(&self, leftover: Leftover) -> Guard<'_> {
        Guard { pixels: self, leftover: Some(leftover) }
    }
}

/// Hands something half-made to [`Pixels::close`], unless told that all is well.
pub(crate) struct Guard<'a> {
    pixels: &'a Pixels,
    leftover: Option<Leftover>,
}

impl Guard<'_> {
    /// All is well, or it is gone.
    pub(crate) fn disarm(mut self) {
        self.leftover = None;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(leftover) = self.leftover.take() {
            match self.pixels.leftovers.lock() {
                Ok(mut left) => left.push(leftover),
                Err(poisoned) => poisoned.into_inner().push(leftover),
            }
        }
    }
}

fn missing(choice: &Choice) -> Error {
    let error = Error::unsupported(&choice.backend, "anything yet: it is not in this version");
    error.with_hint(format!(
        "{}; backend = \"incus\" (or --backend incus) is built in and needs an Incus daemon",
        choice.why
    ))
}

/// The section of the configuration that the chosen backend reads, as text.
fn settings(config: &Config, choice: &Choice) -> Result<Settings> {
    let mut out = Settings::new();
    let path = |p: &std::path::Path| match p.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Error::invalid("path", &p.to_string_lossy(), "a configured path is UTF-8")),
    };
    let (incus, defaults, hard) = (&config.incus, &config.defaults, &config.incus.hardening);
    match &choice.reach {
        Reach::Socket(socket) => {
            out.insert("socket".into(), path(socket)?);
        }
        Reach::Remote(remote) => {
            out.insert("remote".into(), remote.clone());
        }
        Reach::Here => {}
    }
    for (key, file) in [
        ("client_cert", &incus.client_cert),
        ("client_key", &incus.client_key),
        ("server_cert", &incus.server_cert),
        ("image_server_ca", &incus.image_server_ca),
        ("guest_binary", &incus.guest_binary),
        ("root", &config.local.root),
    ] {
        if let Some(file) = file {
            out.insert(key.into(), path(file)?);
        }
    }
    let project = incus.project.clone().or_else(|| choice.project.clone());
    let dns: Vec<String> = defaults.dns.iter().map(ToString::to_string).collect();
    for (key, value) in [
        ("project", project),
        // For the embedded engine alone; the others do not know it.
        (
            "disable",
            config.environ().get("PIXELS_ENGINE_DISABLE").map(|v| v.to_string_lossy().into_owned()),
        ),
        ("subnet", Some(config.local.subnet.clone())),
        ("no_new_privs", Some(config.local.no_new_privs.to_string())),
        ("image_server", Some(incus.image_server.clone())),
        ("pool", defaults.pool.clone()),
        ("network", defaults.network.clone()),
        ("nic_type", defaults.nic_type.clone()),
        ("parent", defaults.parent.clone()),
        ("user", Some(config.ssh.user.clone())),
        ("default_image", Some(defaults.image.clone())),
        ("cpu", Some(defaults.cpu.clone())),
        ("memory", Some(defaults.memory.to_string())),
        ("disk", defaults.disk.map(|n| n.to_string())),
        ("dns", (!dns.is_empty()).then(|| dns.join(","))),
        ("isolate_idmap", Some(hard.isolate_idmap.to_string())),
        ("disable_guestapi", Some(hard.disable_guestapi.to_string())),
        ("limit_processes", Some(hard.limit_processes.to_string())),
        ("hard_memory_limit", Some(hard.hard_memory_limit.to_string())),
    ] {
        if let Some(value) = value {
            out.insert(key.into(), value);
        }
    }
    Ok(out)
}
