//! The embedded engine: the backend `local`. Pixels on a Linux machine as root
//! or as an ordinary user, without a daemon.
//!
//! This crate holds no `unsafe`. What needs a namespace, a mount or the ids of
//! the store is done by freshly spawned processes of the static binary
//! `pixels-guest`, so that a program with many threads can use it.
//!
//! The map of the code: `engine` (what the first call finds out), `lifecycle`,
//! `snapshots`, `exec` and `terminal`, `files`, `image`, `net`; below them
//! `store` and `record` (what is on disk), `launcher` (the processes that do the
//! work), `cgroup`, `ids`, `seccomp`; `sweep` and `doctor` look after it all.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod background;
mod cgroup;
mod doctor;
mod engine;
mod exec;
mod failpoint;
mod files;
mod ids;
mod image;
mod launcher;
mod layers;
mod lifecycle;
mod limits;
#[doc(hidden)]
pub mod net;
mod network;
mod policy;
mod process;
mod record;
mod seccomp;
mod settings;
mod snapshots;
mod still;
mod store;
mod sweep;
mod terminal;
mod unfinished;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use pixels_core::{
    Backend, Capabilities, CloneOpts, CreateOpts, Factory, Finding, ImageInfo, Instance, Label,
    Name, Progress, Result, Settings, Snapshot, StopOpts,
};

use crate::ids::Owner;
use crate::settings::Config;

pub use engine::Engine;

/// The name this backend is registered under.
pub const KIND: &str = "local";

/// How long what dropped writes left may take to go.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(10);

/// Makes the backend from its settings; see [`Engine::new`].
pub fn factory() -> Factory {
    Box::new(|settings| Ok(Arc::new(Engine::new(settings)?)))
}

impl Engine {
    /// What is lost on this machine, for people.
    fn notes(&self) -> BTreeMap<String, String> {
        let Ok(ready) = self.ready() else { return BTreeMap::new() };
        let mut notes = BTreeMap::new();
        let lacks = ready.cgroups.lacks();
        if !lacks.is_empty() {
            notes.insert("limits".into(), format!("not limited here: {}", lacks.join(", ")));
        }
        if let Some(why) = self.no_disk_limit(ready) {
            notes.insert("disk limits".into(), format!("there is no limit on disk here: {why}"));
        }
        if !ready.cgroups.freezes() {
            let text = "a checkpoint of a running pixel stops its processes with signals, \
                which they can notice: there is no control group to freeze";
            notes.insert("freezer".into(), text.into());
        }
        if ready.owner != Owner::Root {
            let text = "an ordinary user's pixels have no address that this machine reaches, \
                and no raw sockets";
            notes.insert("network".into(), text.into());
        }
        notes
    }

    /// Whether pixels have addresses of their own.
    fn routable(&self) -> bool {
        let open = self.config.network == net::Network::Open;
        open && self.ready().is_ok_and(|ready| ready.owner == Owner::Root)
    }

    /// The backend with these settings: `root` (where everything is kept),
    /// `default_image`, `image_server`, `image_server_ca`; `user`; `cpu`, `memory`,
    /// `disk`, `limit_processes`; `dns`, `network` (`none`), `subnet`;
    /// `no_new_privs`; `disable` (what is not to be used although it could be).
    /// Nothing is opened or made.
    ///
    /// # Errors
    /// `Invalid` that names the key.
    pub fn new(settings: &Settings) -> Result<Self> {
        Ok(Self::with(Config::parse(settings)?))
    }
}

#[async_trait]
impl Backend for Engine {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn create(&self, opts: CreateOpts) -> Result<Instance> {
        self.create_pixel(opts).await
    }

    async fn get(&self, name: &Name) -> Result<Instance> {
        self.get_pixel(name)
    }

    async fn list(&self) -> Result<Vec<Instance>> {
        self.list_pixels()
    }

    async fn start(&self, name: &Name) -> Result<()> {
        self.start_pixel(name).await
    }

    async fn stop(&self, name: &Name, opts: StopOpts) -> Result<()> {
        self.stop_pixel(name, opts).await
    }

    async fn delete(&self, name: &Name) -> Result<()> {
        self.delete_pixel(name).await
    }

    async fn create_snapshot(&self, name: &Name, label: &Label) -> Result<Snapshot> {
        self.checkpoint(name, label).await
    }

    async fn list_snapshots(&self, name: &Name) -> Result<Vec<Snapshot>> {
        self.checkpoints(name).await
    }

    async fn delete_snapshot(&self, name: &Name, label: &Label) -> Result<()> {
        self.drop_checkpoint(name, label).await
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
        self.clone_pixel(source, label, name, opts).await
    }

    async fn list_images(&self) -> Result<Vec<ImageInfo>> {
        self.images()?.list()
    }

    async fn import_image(
        &self,
        source: &str,
        alias: Option<&str>,
        progress: Progress,
    ) -> Result<ImageInfo> {
        Ok(self.images()?.import(source, alias, &progress).await?.info())
    }

    async fn remove_image(&self, name: &str) -> Result<ImageInfo> {
        let removed = self.images()?.remove(name).await?;
        self.empty_trash();
        Ok(removed)
    }

    async fn sweep(&self) -> Result<Vec<String>> {
        self.sweep_leftovers().await
    }

    async fn doctor(&self, fix: bool) -> Vec<Finding> {
        self.findings(fix).await
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
            cluster: false,
            routable: self.routable(),
            notes: self.notes(),
        }
    }

    async fn close(&self) -> Result<()> {
        self.unfinished.settle(SETTLE).await;
        self.background.drain().await;
        Ok(())
    }
}
