//! The engine once it has been used: its store, who it works for and what this
//! machine can do.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use pixels_core::{Error, Name, Progress, Result, Status, What};
use pixels_guest_api::host::{Lockdown, TreeOp, TreeSpec};

use crate::background::Background;
use crate::cgroup::Cgroups;
use crate::failpoint;
use crate::files::Unfinished;
use crate::ids::Owner;
use crate::image::{self, Images};
use crate::launcher::{Launcher, failed};
use crate::layers::Layers;
use crate::record::{self, Record, Run};
use crate::seccomp;
use crate::settings::{Config, Feature};
use crate::still::Stills;
use crate::store::Store;

/// Capabilities that pixels keep, by number (capability(7)): what Docker leaves a
/// container, and SYS_PTRACE, which reaches no further than the pixel and lets its
/// root debug everything in it.
const CAPABILITIES: u64 = 1 // CHOWN
    | 1 << 1 // DAC_OVERRIDE
    | 1 << 3 // FOWNER
    | 1 << 4 // FSETID
    | 1 << 5 // KILL
    | 1 << 6 // SETGID
    | 1 << 7 // SETUID
    | 1 << 8 // SETPCAP
    | 1 << 10 // NET_BIND_SERVICE
    | 1 << 13 // NET_RAW
    | 1 << 18 // SYS_CHROOT
    | 1 << 19 // SYS_PTRACE
    | 1 << 27 // MKNOD
    | 1 << 29 // AUDIT_WRITE
    | 1 << 31; // SETFCAP

/// Not for an ordinary user's pixels: what pasta makes of packets made by hand
/// reaches the host's own loopback.
const NET_RAW: u64 = 1 << 13;

/// Open files of a process: what a login on a current system gives.
const FILES: (u64, u64) = (1024, 524_288);

/// The backend. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) config: Arc<Config>,
    pub(crate) background: Background,
    /// What dropped writes to files left.
    pub(crate) unfinished: Arc<Unfinished>,
    /// Stopped pixels whose files are in use.
    pub(crate) still: Arc<Stills>,
    ready: Arc<OnceLock<Arc<Ready>>>,
    images: Arc<OnceLock<Images>>,
}

/// What the first call finds out.
pub(crate) struct Ready {
    pub(crate) store: Store,
    pub(crate) owner: Owner,
    pub(crate) launcher: Launcher,
    pub(crate) cgroups: Cgroups,
    pub(crate) idmap: bool,
    pub(crate) fd_layers: bool,
}

impl Engine {
    pub(crate) fn with(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            background: Background::default(),
            unfinished: Arc::default(),
            still: Arc::default(),
            ready: Arc::default(),
            images: Arc::default(),
        }
    }

    /// The engine's parts, found at the first call.
    ///
    /// # Errors
    /// A store that cannot be made, an ordinary user without subordinate ids.
    pub(crate) fn ready(&self) -> Result<&Arc<Ready>> {
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        let owner = Owner::current()?;
        let root = owner == Owner::Root;
        let store = Store::open(&self.config.root)?;
        let made = Ready {
            store,
            launcher: Launcher::new()?,
            cgroups: match self.config.may(Feature::Cgroups) {
                true => Cgroups::detect(root, Store::tag(&self.config.root)),
                false => Cgroups::default(),
            },
            // Only the root of the file system's own namespace may map mounts.
            idmap: root && kernel() >= (5, 19) && self.config.may(Feature::Idmap),
            fd_layers: kernel() >= (6, 13) && self.config.may(Feature::FdLayers),
            owner,
        };
        // Another thread may have been first.
        Ok(self.ready.get_or_init(|| Arc::new(made)))
    }

    /// The images of the store.
    pub(crate) fn images(&self) -> Result<&Images> {
        if let Some(images) = self.images.get() {
            return Ok(images);
        }
        let ready = self.ready()?;
        let layers = Layers {
            ready: Arc::clone(ready),
            config: Arc::clone(&self.config),
            background: self.background.clone(),
        };
        let config = &self.config;
        let settings = image::Settings::of_process(
            &config.image_server,
            config.image_server_ca.clone(),
            &config.image,
        );
        let made = Images::new(&config.root, Arc::new(layers), settings);
        Ok(self.images.get_or_init(|| made))
    }

    /// The layers of an image, the lowest first; fetched where it is not at hand.
    /// And what it is, which is not `name` where another stands in for it.
    pub(crate) async fn image_layers(
        &self,
        name: &str,
        progress: &Progress,
    ) -> Result<(String, Vec<String>)> {
        let image = self.images()?.resolve(name, progress).await?;
        let own = image.source == name || image.answers_to(name);
        Ok((if own { name.to_owned() } else { image.source }, image.layers))
    }

    /// What processes of pixels may do.
    pub(crate) fn lockdown(&self, owner: &Owner) -> Lockdown {
        Lockdown {
            filter: seccomp::filter(),
            capabilities: match owner {
                Owner::Root => CAPABILITIES,
                Owner::User(_) => CAPABILITIES & !NET_RAW,
            },
            no_new_privs: self.config.no_new_privs,
            files: FILES,
        }
    }
}

impl Ready {
    /// What is written down of a pixel.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn record(&self, name: &Name) -> Result<Record> {
        read_record(&self.store.pixel(name))?
            .ok_or_else(|| Error::not_found(What::Pixel, name.as_str()))
    }

    /// Writes it.
    pub(crate) fn keep(&self, name: &Name, record: &Record) -> Result<()> {
        let path = self.store.pixel(name).join("pixel.json");
        record::write(&path, record, true).map_err(|e| failed("write the pixel down", e))
    }

    /// The pixel's process, if it runs and its start has succeeded.
    pub(crate) fn run(&self, name: &Name) -> Option<Run> {
        read_run(&self.store.pixel(name)).filter(|run| run.up)
    }

    /// The pixel's process.
    ///
    /// # Errors
    /// `NotFound`, or `WrongState` if it does not run.
    pub(crate) fn running(&self, name: &Name, needs: &str) -> Result<(Record, Run)> {
        let record = self.record(name)?;
        match self.run(name) {
            Some(run) => Ok((record, run)),
            None => Err(Error::WrongState {
                name: name.to_string(),
                state: Status::Stopped,
                needs: needs.into(),
            }),
        }
    }

    /// A request to the face `tree`.
    pub(crate) fn tree(&self, config: &Config, op: TreeOp) -> TreeSpec {
        TreeSpec {
            store: self.owner.store(),
            shift: self.owner.shift(),
            subvolumes: config.may(Feature::Subvolumes),
            op,
            fail: failpoint::for_helpers(),
        }
    }
}

/// What is written down in a pixel's directory.
pub(crate) fn read_record(dir: &Path) -> Result<Option<Record>> {
    let record: Option<Record> = record::read(&dir.join("pixel.json"))
        .map_err(|e| failed(&format!("read {}", dir.join("pixel.json").display()), e))?;
    match record {
        Some(record) if record.version != record::VERSION => Err(Error::backend(
            "read the pixel",
            format!("it was written by another version of pixels ({})", record.version),
        )),
        record => Ok(record),
    }
}

/// The process of the pixel in a directory, if it is there.
pub(crate) fn read_run(dir: &Path) -> Option<Run> {
    let run: Run = record::read(&dir.join("run.json")).ok()??;
    run.alive().then_some(run)
}

/// The kernel's version: its first two numbers.
pub(crate) fn kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
