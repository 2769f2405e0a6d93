//! The Incus backend: pixels as system containers of an [Incus] daemon, over
//! its REST API on a unix socket or HTTPS. One host or a cluster.
//!
//! Everything pixels knows of a pixel is in the instance's `user.pixels.*`
//! keys; there is no other store. The map of the code: `lifecycle` (create,
//! start, stop, delete), `clone`, `snapshots`, `exec` and `streams`, `files`,
//! `images`, `doctor`, `trust`; below them `api`, `operation` and `model`.
//!
//! [Incus]: https://linuxcontainers.org/incus/docs/main/rest-api/

mod address;
mod api;
mod background;
mod clone;
mod doctor;
mod exec;
mod files;
mod guest;
mod half;
mod images;
mod lifecycle;
mod maker;
mod model;
mod operation;
mod plain;
mod policy;
mod settings;
pub mod sftp;
mod snapshots;
mod spec;
mod streams;
mod sweep;
pub mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pixels_core::{
    Backend, Capabilities, CloneOpts, CreateOpts, Error, Factory, Finding, ImageInfo, Instance,
    Label, Name, Result, Settings, Snapshot, StopOpts, What,
};
use pixels_wire::Client;
use tokio::sync::Semaphore;

use crate::api::{Api, Fault, PROJECTS, Path};
use crate::background::Background;
use crate::model::Raw;
use crate::settings::Config;

pub use settings::split_remote;

/// The name this backend is registered under.
pub const KIND: &str = "incus";

/// The backend. Cheap to clone: clones share connections and background work.
#[derive(Clone)]
pub struct Incus {
    api: Api,
    config: Arc<Config>,
    background: Background,
    guest: Arc<guest::Guest>,
    /// Addresses that creates of this process have chosen and the daemon may not know yet.
    claimed: Arc<Mutex<BTreeSet<Ipv4Addr>>>,
    /// What recent looks at networks showed.
    bridges: address::Bridges,
    /// Turns at starting commands.
    launching: Arc<Semaphore>,
}

/// Makes the backend from its settings; see [`Incus::new`].
pub fn factory() -> Factory {
    Box::new(|settings| Ok(Arc::new(Incus::new(settings)?)))
}

impl Incus {
    /// The backend with these settings: `socket`, or `remote` with
    /// `client_cert`, `client_key`, `server_cert`; `project`; `image_server`,
    /// `image_server_ca`, `default_image`; `pool`, `dns`, `network` or `nic_type` and
    /// `parent`; `user`; `cpu`, `memory`, `disk`; `isolate_idmap`,
    /// `disable_guestapi`, `hard_memory_limit`, `limit_processes`;
    /// `guest_binary`. Certificates are read, nothing is connected.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the key.
    pub fn new(settings: &Settings) -> Result<Self> {
        let config = Config::parse(settings)?;
        let http = Client::new(config.endpoint.clone());
        Ok(Self {
            api: Api { http, project: config.project.clone() },
            guest: Arc::new(guest::Guest::new(config.guest_binary.clone())),
            config: Arc::new(config),
            background: Background::default(),
            claimed: Arc::default(),
            bridges: Arc::default(),
            launching: Arc::new(Semaphore::new(exec::STARTING)),
        })
    }

    /// How many HTTP requests were sent, those of WebSockets included.
    pub fn requests(&self) -> u64 {
        self.api.http.requests()
    }

    /// One instance as the daemon has it, with its state if asked for.
    pub(crate) async fn raw(&self, name: &Name, state: bool) -> Result<Raw> {
        let mut path = Path::new("/1.0/instances").seg(&name.instance());
        if state {
            path = path.query("recursion", "1");
        }
        match self.api.get(path).await {
            Ok(reply) => reply.parse().map_err(|f| f.during("get")),
            Err(fault) if fault.status() == Some(404) => {
                self.check_project().await?;
                Err(Error::not_found(What::Pixel, name.as_str()))
            }
            Err(fault) => Err(fault.during("get")),
        }
    }

    /// That the configured project exists: of what is in one that does not,
    /// the API says that it is missing, and lists are empty.
    pub(crate) async fn check_project(&self) -> Result<()> {
        match &self.api.project {
            Some(_) => self.ask_for_project().await,
            None => Ok(()),
        }
    }

    /// That the project exists, and that this client may use it.
    pub(crate) async fn ask_for_project(&self) -> Result<()> {
        let project = self.api.project_name();
        match self.api.get(Path::new("/1.0/projects").seg(project)).await {
            Ok(_) => Ok(()),
            Err(fault) => {
                let error = fault.about(What::Project, project, "project");
                Err(if error.hint().is_some() { error } else { error.with_hint(PROJECTS) })
            }
        }
    }

    /// The error of a failed list. For a project that this client may not use
    /// it is one that says nothing by its code.
    pub(crate) async fn list_error(&self, fault: Fault, op: &str) -> Error {
        match fault {
            Fault::Api { .. } => self.ask_for_project().await.err(),
            _ => None,
        }
        .unwrap_or_else(|| fault.during(op))
    }

    /// Instances with their configuration, in one request; `recursion` 2 adds their state.
    pub(crate) async fn raw_list(&self, recursion: &str, op: &str) -> Result<Vec<Raw>> {
        let path = Path::new("/1.0/instances").query("recursion", recursion);
        let all: Vec<Raw> = match self.api.get(path).await {
            Ok(reply) => reply.parse().map_err(|f| f.during(op))?,
            Err(fault) => return Err(self.list_error(fault, op).await),
        };
        if all.is_empty() {
            self.check_project().await?;
        }
        Ok(all)
    }
}

#[async_trait]
impl Backend for Incus {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn create(&self, opts: CreateOpts) -> Result<Instance> {
        self.create_instance(opts).await
    }

    async fn get(&self, name: &Name) -> Result<Instance> {
        let raw = self.raw(name, true).await?;
        raw.instance().ok_or_else(|| Error::not_found(What::Pixel, name.as_str()))
    }

    async fn list(&self) -> Result<Vec<Instance>> {
        self.list_instances().await
    }

    async fn start(&self, name: &Name) -> Result<()> {
        self.start_instance(name).await
    }

    async fn stop(&self, name: &Name, opts: StopOpts) -> Result<()> {
        self.stop_instance(name, opts).await
    }

    async fn delete(&self, name: &Name) -> Result<()> {
        self.delete_instance(name).await
    }

    async fn create_snapshot(&self, name: &Name, label: &Label) -> Result<Snapshot> {
        self.snapshot(name, label).await
    }

    async fn list_snapshots(&self, name: &Name) -> Result<Vec<Snapshot>> {
        self.snapshots(name).await
    }

    async fn delete_snapshot(&self, name: &Name, label: &Label) -> Result<()> {
        self.drop_snapshot(name, label).await
    }

    async fn restore_snapshot(&self, name: &Name, label: &Label) -> Result<()> {
        self.restore(name, label).await
    }

    async fn clone_from(
        &self,
        source: &Name,
        label: Option<&Label>,
        name: &Name,
        opts: CloneOpts,
    ) -> Result<Instance> {
        self.clone_instance(source, label, name, opts).await
    }

    async fn list_images(&self) -> Result<Vec<ImageInfo>> {
        self.images().await
    }

    async fn sweep(&self) -> Result<Vec<String>> {
        self.sweep_leftovers().await
    }

    async fn doctor(&self, _fix: bool) -> Vec<Finding> {
        self.findings().await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            snapshots: true,
            clone_from: true,
            clone_live: true,
            egress_control: false,
            restore_keeps_newer: true,
            files_when_stopped: true,
            byte_exact_exec: true,
            cluster: true,
            routable: true,
            notes: BTreeMap::from([(
                "restore_keeps_newer".into(),
                "not on zfs pools: zfs rolls back to the newest checkpoint only".into(),
            )]),
        }
    }

    async fn close(&self) -> Result<()> {
        self.background.drain().await;
        Ok(())
    }
}
