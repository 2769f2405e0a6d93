//! Making, starting, stopping and removing pixels.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use pixels_core::{
    CreateOpts, Error, Instance, Limits, Meta, Name, Result, Status, StopOpts, What,
};
use pixels_guest_api::host::{Answer, GO, LaunchSpec, Net, Purpose, TreeOp};
use pixels_guest_api::{IDENTITY_VARIABLE, face};
use tokio::io::AsyncWriteExt;

use crate::cgroup;
use crate::engine::{Engine, Ready, read_record, read_run};
use crate::failpoint;
use crate::ids::Owner;
use crate::launcher::{Running, failed};
use crate::net::{Network, interface, resolvers};
use crate::network::Plan;
use crate::policy;
use crate::process::Handle;
use crate::record::{self, Record, Run, VERSION};
use crate::settings::{Config, Feature};
use crate::store::{Lock, SLOTS, fresh_id};
use crate::unfinished::{NewLayers, Start};

/// How long the kernel may take to end the processes of a killed pixel.
const KILLED: Duration = Duration::from_secs(30);

/// A pixel that is being made. Dropped, it is removed.
pub(crate) struct Staged {
    engine: Engine,
    dir: PathBuf,
    pub(crate) record: Record,
    lock: Lock,
    kept: bool,
}

impl Engine {
    /// Makes a pixel from an image.
    pub(crate) async fn create_pixel(&self, opts: CreateOpts) -> Result<Instance> {
        if opts.meta.egress.is_restricted() {
            return Err(policy::unsupported());
        }
        refuse_target(opts.target.as_deref())?;
        let ready = self.ready()?;
        let limits = Limits {
            cpu: opts.cpu.clone().or_else(|| self.config.cpu.clone()),
            memory: opts.memory.or(self.config.memory),
            disk: opts.disk.or(self.config.disk),
        };
        self.check_limits(ready, &limits)?;
        self.make_way(&opts.name).await?;
        let image = opts.image.clone().unwrap_or_else(|| self.config.image.clone());
        let (origin, layers) = self.image_layers(&image, &opts.progress).await?;
        let meta = Meta { origin: Some(origin), ..opts.meta.clone() };
        opts.progress.phase("creating");
        let mut staged = self.stage(limits, &meta)?;
        staged.layers(&layers).await?;
        self.bring_up(ready, staged, &opts.name).await
    }

    /// Removes what an interrupted create of that name has left.
    ///
    /// # Errors
    /// `AlreadyExists` if the name belongs to a pixel, or to one that is being made.
    pub(crate) async fn make_way(&self, name: &Name) -> Result<()> {
        let ready = self.ready()?;
        let taken = || Error::exists(What::Pixel, name.as_str());
        let half_made = || match read_record(&ready.store.pixel(name))? {
            None => Ok(ready.store.pixel(name).exists()),
            Some(record) if record.making => Ok(true),
            Some(_) => Err(taken()),
        };
        while half_made()? {
            // Whoever makes it is done in a moment, or has died.
            match ready.store.lock(name).await {
                Ok(lock) if half_made()? => self.remove_locked(ready, name, lock).await?,
                Err(e) if !e.is_not_found() => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// The start of a new pixel that nobody sees yet.
    pub(crate) fn stage(&self, limits: Limits, meta: &Meta) -> Result<Staged> {
        let ready = self.ready()?;
        let id = fresh_id();
        let (dir, lock) = ready.store.stage(&id)?;
        let record = Record {
            version: VERSION,
            id: id.clone(),
            slot: u32::MAX,
            making: true,
            created_at: Timestamp::now(),
            cpu: limits.cpu,
            memory: limits.memory,
            disk: limits.disk,
            expires_at: meta.expires_at,
            egress: meta.egress,
            origin: meta.origin.clone(),
            owner: meta.owner.clone(),
            network: self.config.network == Network::Open,
            idmap: ready.idmap,
            layers: Vec::new(),
            upper: fresh_id(),
            checkpoints: Vec::new(),
        };
        let mut staged = Staged { engine: self.clone(), dir, record, lock, kept: false };
        let slots = SLOTS.min(self.config.subnet.slots());
        staged.record.slot = ready.store.take_slot(&id, slots, &interface::slots())?;
        ready.new_upper(&staged.record)?;
        Ok(staged)
    }

    /// Gives a staged pixel its name and starts it.
    pub(crate) async fn bring_up(
        &self,
        ready: &Ready,
        mut staged: Staged,
        name: &Name,
    ) -> Result<Instance> {
        let path = staged.dir.join("pixel.json");
        record::write(&path, &staged.record, true)
            .map_err(|e| failed("write the pixel down", e))?;
        ready.store.reveal(&staged.dir, name)?;
        staged.dir = ready.store.pixel(name);
        failpoint::at("revealed");
        let run = self.launch(ready, name, &staged.record, &staged.lock).await?;
        staged.record.making = false;
        // Not on disk yet when this returns: what is lost with the power is that
        // it was whole, and nobody has used it by then.
        record::write(&staged.dir.join("pixel.json"), &staged.record, false)
            .map_err(|e| failed("write the pixel down", e))?;
        staged.kept = true;
        failpoint::at("made");
        Ok(self.instance(name, &staged.record, Some(&run)))
    }

    /// Starts a pixel's processes. The helper shares the lock until the pixel is
    /// up or gone, whatever becomes of this process.
    pub(crate) async fn launch(
        &self,
        ready: &Ready,
        name: &Name,
        record: &Record,
        lock: &Lock,
    ) -> Result<Run> {
        let start = Start::new(self, name, &record.id);
        let watched = self.supervision(ready, name).await?;
        let groups = ready.cgroups.make(&record.id, &record.limits(), self.config.processes)?;
        failpoint::at("groups-made");
        let plan = self.plan_network(ready, record).await?;
        // The kernel takes its time to remove the interface of the run before.
        if matches!(plan.net, Net::Veth { .. }) && interface::slots().contains(&record.slot) {
            interface::remove(record.slot)?;
        }
        let spec = self.launch_spec(ready, name, record, Some(&plan), &groups, Purpose::Boot)?;
        let fds = [lock.as_fd(), watched.as_fd()];
        let mut running = ready.launcher.start(face::LAUNCH, &spec.encode(), &fds)?;
        drop(watched);
        failpoint::at("launch-asked");
        let mut run = Self::birth(&mut running).await?;
        failpoint::at("born");
        let path = ready.store.pixel(name).join("run.json");
        // From now on whoever comes finds it, also if this program dies.
        let note = |run: &Run| {
            record::write(&path, run, false).map_err(|e| failed("write the process down", e))
        };
        note(&run)?;
        failpoint::at("run-written");
        if plan.pasta {
            run.pasta = Some(self.connect(ready, name, record, &run).await?);
            note(&run)?;
        }
        let begun = running.socket.write_all(&[GO]).await;
        begun.map_err(|e| failed("start the pixel", e))?;
        failpoint::at("going");
        running.answer("start the pixel").await?;
        run.up = true;
        note(&run)?;
        start.succeeded();
        failpoint::at("up");
        Ok(run)
    }

    /// Waits until the first process exists; answers which it is.
    pub(crate) async fn birth(running: &mut Running) -> Result<Run> {
        let answered = running.answer("start the pixel").await?;
        let payload = answered.payload.split_first_chunk::<4>();
        let parsed = payload.and_then(|(pid, rest)| Some((*pid, rest.try_into().ok()?)));
        let Some((pid, start)) = parsed.filter(|_| answered.kind == Answer::Born) else {
            return Err(Error::backend("start the pixel", "the launcher makes no sense"));
        };
        Ok(Run {
            boot: record::boot_id().into(),
            pid: u32::from_be_bytes(pid),
            start_time: u64::from_be_bytes(start),
            pasta: None,
            up: false,
        })
    }

    /// What the launcher is asked for.
    pub(crate) fn launch_spec(
        &self,
        ready: &Ready,
        name: &Name,
        record: &Record,
        network: Option<&Plan>,
        groups: &[PathBuf],
        purpose: Purpose,
    ) -> Result<LaunchSpec> {
        let bytes = |path: PathBuf| path.as_os_str().as_bytes().to_vec();
        let ids = ready.owner.range(record.slot);
        let disk_root = if record.idmap { 0 } else { ids.base };
        let hostname = name.as_str().as_bytes().to_vec();
        let hosts = resolvers::hosts(name, self.address(ready, record));
        Ok(LaunchSpec {
            store: ready.owner.store(),
            uids: ids,
            gids: ids,
            disk_root,
            idmap: record.idmap,
            fd_layers: ready.fd_layers,
            layers: record
                .layers
                .iter()
                .map(|id| bytes(ready.store.layer_fs(id).join("tree")))
                .collect(),
            upper: bytes(ready.store.layer_fs(&record.upper)),
            quota: record.disk,
            memory: record.memory,
            subvolumes: self.config.may(Feature::Subvolumes),
            hostname,
            hosts: hosts.into_bytes(),
            resolv: network.map_or_else(String::new, |n| n.resolvers.resolv_conf()).into_bytes(),
            env: vec![format!("{IDENTITY_VARIABLE}={}", record.id).into_bytes()],
            cgroups: cgroup::bytes(groups),
            lockdown: self.lockdown(&ready.owner),
            net: network.map_or(Net::None, |n| n.net.clone()),
            purpose,
            fail: failpoint::for_helpers(),
        })
    }

    /// The right to change a pixel that is in some state: what an interrupted
    /// start or checkpoint has left of it is undone.
    pub(crate) async fn hold(&self, ready: &Ready, name: &Name) -> Result<(Lock, Record)> {
        self.unmount(name).await?;
        self.lock_settled(ready, name).await
    }

    /// As [`Engine::hold`], where this program may have the files mounted.
    pub(crate) async fn lock_settled(&self, ready: &Ready, name: &Name) -> Result<(Lock, Record)> {
        let lock = ready.store.lock(name).await?;
        let record = ready.record(name)?;
        ready.cgroups.thaw(&record.id);
        if read_run(&ready.store.pixel(name)).is_some_and(|run| !run.up) {
            let kill = StopOpts { force: true, ..StopOpts::default() };
            self.halt(ready, name, &record, &kill).await?;
        }
        Ok((lock, record))
    }

    /// Starts a stopped pixel.
    pub(crate) async fn start_pixel(&self, name: &Name) -> Result<()> {
        let ready = self.ready()?;
        let (lock, record) = self.hold(ready, name).await?;
        match ready.run(name) {
            Some(run) => self.watch(ready, name, &record, &run),
            None => drop(self.launch(ready, name, &record, &lock).await?),
        }
        Ok(())
    }

    /// Stops a pixel.
    pub(crate) async fn stop_pixel(&self, name: &Name, opts: StopOpts) -> Result<()> {
        let ready = self.ready()?;
        let (_lock, record) = self.hold(ready, name).await?;
        self.halt(ready, name, &record, &opts).await
    }

    /// Ends a pixel's processes; its lock is held.
    pub(crate) async fn halt(
        &self,
        ready: &Ready,
        name: &Name,
        record: &Record,
        opts: &StopOpts,
    ) -> Result<()> {
        let dir = ready.store.pixel(name);
        if let Some(run) = read_run(&dir) {
            ready.cgroups.thaw(&record.id);
            let handle = Handle::open(&run)?;
            if let Some(handle) = handle {
                let mut ended = false;
                if !opts.force {
                    handle.signal(rustix::process::Signal::TERM)?;
                    ended = tokio::time::timeout(opts.timeout, handle.ended()).await.is_ok();
                }
                failpoint::at("signalled");
                if !ended {
                    handle.signal(rustix::process::Signal::KILL)?;
                    ready.cgroups.kill(&record.id);
                    tokio::time::timeout(KILLED, handle.ended()).await.map_err(|_| {
                        Error::Timeout { what: format!("killing {name}"), after: KILLED }
                    })??;
                }
            }
        }
        failpoint::at("ended");
        // It outlives what it connects.
        if let Ok(Some(Run { pasta: Some(pasta), .. })) = record::read(&dir.join("run.json")) {
            pasta.stop().await?;
        }
        let _ = std::fs::remove_file(dir.join("run.json"));
        failpoint::at("run-removed");
        ready.cgroups.kill(&record.id);
        ready.cgroups.remove(&record.id).await;
        failpoint::at("groups-removed");
        Ok(())
    }

    /// Stops and removes a pixel.
    pub(crate) async fn delete_pixel(&self, name: &Name) -> Result<()> {
        let ready = self.ready()?;
        self.unmount(name).await?;
        let lock = ready.store.lock(name).await?;
        self.remove_locked(ready, name, lock).await
    }

    /// As [`Engine::delete_pixel`], with the lock. What is in it goes in the background.
    pub(crate) async fn remove_locked(&self, ready: &Ready, name: &Name, lock: Lock) -> Result<()> {
        let dir = ready.store.pixel(name);
        let record = read_record(&dir).ok().flatten();
        if let Some(record) = &record {
            let kill = StopOpts { force: true, ..StopOpts::default() };
            self.halt(ready, name, record, &kill).await?;
        }
        // From here on the name is free. Its references and its slot are found by
        // `sweep` if this process dies now, and not before.
        let apart = ready.store.making().ok();
        ready.store.throw_away(&dir);
        failpoint::at("pixel-thrown-away");
        drop(lock);
        if let Some(record) = &record {
            ready.discard(record);
        }
        drop(apart);
        self.empty_trash();
        Ok(())
    }

    /// Removes what was thrown away, in the background.
    pub(crate) fn empty_trash(&self) {
        let engine = self.clone();
        self.background.spawn(async move {
            let Ok(ready) = engine.ready() else { return };
            if let Err(e) = ready.take_trash_out(&engine.config).await {
                tracing::warn!(%e, "what was thrown away is still there; gc removes it");
            }
        });
    }

    /// A pixel as callers see it.
    pub(crate) fn instance(&self, name: &Name, record: &Record, run: Option<&Run>) -> Instance {
        Instance {
            name: name.clone(),
            status: match run {
                _ if record.making => Status::Starting,
                Some(_) => Status::Running,
                None => Status::Stopped,
            },
            addresses: self.reachable(record).into_iter().filter(|_| run.is_some()).collect(),
            created_at: Some(record.created_at),
            location: None,
            limits: record.limits(),
            meta: record.meta(),
        }
    }

    /// Where the host reaches a pixel; a user's pixels are behind pasta.
    fn reachable(&self, record: &Record) -> Option<IpAddr> {
        let ready = self.ready().ok()?;
        self.address(ready, record).map(IpAddr::V4)
    }

    /// One pixel.
    pub(crate) fn get_pixel(&self, name: &Name) -> Result<Instance> {
        let ready = self.ready()?;
        let record = ready.record(name)?;
        Ok(self.instance(name, &record, ready.run(name).as_ref()))
    }

    /// All pixels. One whose record cannot be read is shown as broken: hiding it
    /// would hide what it occupies.
    pub(crate) fn list_pixels(&self) -> Result<Vec<Instance>> {
        let ready = self.ready()?;
        let mut all = Vec::new();
        for name in ready.store.names()? {
            match self.get_pixel(&name) {
                Ok(instance) => all.push(instance),
                Err(e) if e.is_not_found() => {}
                Err(e) => {
                    tracing::warn!(%name, %e, "cannot read this pixel");
                    all.push(Instance {
                        name,
                        status: Status::Error,
                        addresses: Vec::new(),
                        created_at: None,
                        location: None,
                        limits: Limits::default(),
                        meta: Meta::default(),
                    });
                }
            }
        }
        Ok(all)
    }
}

/// There is one machine, and it has no name.
pub(crate) fn refuse_target(target: Option<&str>) -> Result<()> {
    match target {
        None => Ok(()),
        Some(_) => Err(Error::unsupported(crate::KIND, "cluster members (--target)")),
    }
}

impl Ready {
    /// Makes the place of a pixel's writable layer; the launcher fills it.
    pub(crate) fn new_upper(&self, record: &Record) -> Result<()> {
        self.store.begin_layer(&record.upper, &record.id)?;
        match (record.idmap, &self.owner) {
            (false, Owner::Root) => {
                self.store.set_base(&record.upper, self.owner.range(record.slot).base)
            }
            _ => Ok(()),
        }
    }

    /// Removes what was thrown away; answers how many things.
    pub(crate) async fn take_trash_out(&self, config: &Config) -> Result<usize> {
        let trash = self.store.trash();
        if trash.is_empty() {
            return Ok(0);
        }
        let dirs: Vec<Vec<u8>> =
            trash.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
        let count = dirs.len();
        failpoint::at("trash-asked");
        self.launcher.tree(&self.tree(config, TreeOp::Remove { dirs }), &[]).await?;
        Ok(count)
    }

    /// Gives back what a removed pixel had.
    pub(crate) fn discard(&self, record: &Record) {
        for layer in record.needs() {
            self.store.release(layer, &record.id);
        }
        self.store.free_slot(record.slot, &record.id);
    }
}

impl Staged {
    /// Puts layers under the pixel: as they are, or as copies with its own ids
    /// where they cannot be mapped.
    pub(crate) async fn layers(&mut self, ids: &[String]) -> Result<()> {
        let engine = self.engine.clone();
        let ready = engine.ready()?;
        for id in ids {
            let shared = self.record.idmap || ready.owner.store().is_some();
            let own = if shared { id.clone() } else { fresh_id() };
            if shared {
                ready.store.refer(id, &self.record.id)?;
                self.record.layers.push(own);
                failpoint::at("layers-referred");
                continue;
            }
            ready.store.begin_layer(&own, &self.record.id)?;
            self.record.layers.push(own.clone());
            let base = ready.owner.range(self.record.slot).base;
            ready.store.set_base(&own, base)?;
            let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
            let op = TreeOp::Copy {
                from: bytes(&ready.store.layer_fs(id)),
                to: bytes(&ready.store.layer_fs(&own)),
                shift: i64::from(base) - i64::from(ready.store.base(id)),
                reflink: engine.config.may(Feature::Reflink),
                freeze: Vec::new(),
            };
            // Whoever removes this pixel waits for its lock, which the helper shares.
            let mut copy = NewLayers::new(&engine, &self.record.id);
            copy.fill(ready, op, &self.lock).await?;
            failpoint::at("layers-referred");
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (engine, dir) = (self.engine.clone(), self.dir.clone());
        let record = self.record.clone();
        self.engine.background.spawn(async move {
            let Ok(ready) = engine.ready() else { return };
            // A helper may still have it; it gives it up when what it made is gone.
            let lock = ready.store.lock_at(dir.clone(), &record.id).await;
            if lock.is_ok() {
                if let Some(run) = read_run(&dir)
                    && let Ok(Some(handle)) = Handle::open(&run)
                {
                    let _ = handle.signal(rustix::process::Signal::KILL);
                    let _ = tokio::time::timeout(KILLED, handle.ended()).await;
                }
                ready.cgroups.kill(&record.id);
                ready.cgroups.remove(&record.id).await;
            }
            let apart = ready.store.making().ok();
            if lock.is_ok() {
                ready.store.throw_away(&dir);
            }
            drop(lock);
            ready.discard(&record);
            drop(apart);
            engine.empty_trash();
        });
    }
}
