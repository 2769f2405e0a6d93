//! Checkpoints and clones.
//!
//! A pixel writes to one layer over others that nothing changes any more. A
//! checkpoint of a stopped pixel takes the written layer as it is and gives the
//! pixel an empty one; of a running pixel it is a copy, made while it is frozen.
//! A clone and a restore put an empty layer over a checkpoint's.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;
use pixels_core::{
    CloneOpts, Error, Instance, Label, Limits, Meta, Name, Result, Snapshot, StopOpts, What,
};
use pixels_guest_api::host::{Run, TreeOp};

use crate::engine::{Engine, Ready};
use crate::failpoint;
use crate::launcher::{Running, failed};
use crate::lifecycle::refuse_target;
use crate::record::{self, Checkpoint, Record};
use crate::settings::Feature;
use crate::store::{Lock, fresh_id};
use crate::unfinished::NewLayers;

/// Layers above which a chain is made shorter. The kernel stacks 500.
const DEEP: usize = 32;

fn path(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

impl Engine {
    /// Makes a checkpoint.
    pub(crate) async fn checkpoint(&self, name: &Name, label: &Label) -> Result<Snapshot> {
        let ready = self.ready()?;
        let (lock, mut record) = self.hold(ready, name).await?;
        if record.checkpoint(label.as_str()).is_some() {
            return Err(Error::exists(What::Checkpoint, format!("{name}:{label}")));
        }
        let (layers, new) = self.seal(ready, name, &mut record, &lock).await?;
        let made = Checkpoint { label: label.to_string(), created_at: Timestamp::now(), layers };
        record.checkpoints.push(made.clone());
        ready.keep(name, &record)?;
        new.keep();
        Ok(Snapshot { label: label.clone(), size: None, created_at: Some(made.created_at) })
    }

    /// The pixel's files as they are now, as layers that nothing changes any more,
    /// and which are new. The caller writes the record down before it keeps them.
    async fn seal(
        &self,
        ready: &Ready,
        name: &Name,
        record: &mut Record,
        lock: &Lock,
    ) -> Result<(Vec<String>, NewLayers)> {
        let mut new = NewLayers::new(self, &record.id);
        let mut layers = record.layers.clone();
        let Some(run) = ready.run(name) else {
            // Whether anything was written does not matter: an empty layer costs nothing.
            if ready.store.layer_fs(&record.upper).join("work").is_dir() {
                layers.push(std::mem::replace(&mut record.upper, fresh_id()));
                ready.new_upper(record)?;
                new.add(&record.upper);
                record.layers.clone_from(&layers);
            }
            failpoint::at("sealed");
            return Ok((layers, new));
        };
        self.watch(ready, name, record, &run);
        let copy = fresh_id();
        ready.store.begin_layer(&copy, &record.id)?;
        new.add(&copy);
        let base = ready.store.base(&record.upper);
        if base != 0 {
            ready.store.set_base(&copy, base)?;
        }
        let freeze = ready.cgroups.freezer(&record.id);
        // Ends with this function, however that ends.
        let _paused = match &freeze {
            Some(_) => None,
            None => self.pause(name).await?,
        };
        let op = TreeOp::Copy {
            from: path(&ready.store.layer_fs(&record.upper)),
            to: path(&ready.store.layer_fs(&copy)),
            shift: 0,
            reflink: self.config.may(Feature::Reflink),
            freeze: freeze.iter().map(|dir| path(dir)).collect(),
        };
        new.fill(ready, op, lock).await?;
        failpoint::at("copied");
        layers.push(copy);
        Ok((layers, new))
    }

    /// Stops a pixel's processes until what is answered is dropped. One that ended
    /// meanwhile needs none of it.
    async fn pause(&self, name: &Name) -> Result<Option<Running>> {
        let mut running = match self.enter(name, "to be stopped for a moment", Run::Pause, &[]) {
            Err(Error::WrongState { .. }) => return Ok(None),
            running => running?,
        };
        running.answer("stop the pixel's processes").await?;
        Ok(Some(running))
    }

    /// A pixel's checkpoints, oldest first.
    pub(crate) async fn checkpoints(&self, name: &Name) -> Result<Vec<Snapshot>> {
        let ready = self.ready()?;
        let record = ready.record(name)?;
        let mut all = Vec::new();
        for checkpoint in &record.checkpoints {
            let Ok(label) = Label::new(&checkpoint.label) else { continue };
            let size = self.size(ready, &record, checkpoint).await;
            all.push(Snapshot { label, size, created_at: Some(checkpoint.created_at) });
        }
        Ok(all)
    }

    /// What a checkpoint alone holds: its own last layer, measured once.
    async fn size(&self, ready: &Ready, record: &Record, of: &Checkpoint) -> Option<u64> {
        let top = of.layers.last()?;
        let note = ready.store.layer(top).join("size");
        if let Some(size) = std::fs::read_to_string(&note).ok().and_then(|t| t.parse().ok()) {
            return Some(size);
        }
        let op = TreeOp::Size { dir: path(&ready.store.layer_fs(top).join("tree")) };
        let measured = ready.launcher.tree(&ready.tree(&self.config, op), &[]).await;
        let size = measured.ok()?.first().copied()?;
        // What a layer that the pixel still writes to holds is not noted: it changes.
        if record.upper != *top {
            let _ = std::fs::write(note, size.to_string());
        }
        Some(size)
    }

    /// Removes a checkpoint.
    pub(crate) async fn drop_checkpoint(&self, name: &Name, label: &Label) -> Result<()> {
        let ready = self.ready()?;
        let (_lock, mut record) = self.hold(ready, name).await?;
        let before = record.clone();
        record.checkpoints.retain(|c| c.label != label.as_str());
        if record.checkpoints.len() == before.checkpoints.len() {
            return Err(missing(name, label));
        }
        ready.keep(name, &record)?;
        self.forget(ready, &before, &record);
        Ok(())
    }

    /// Takes back the references to what a pixel does not need any more.
    fn forget(&self, ready: &Ready, before: &Record, now: &Record) {
        let needs = now.needs();
        for layer in before.needs() {
            if !needs.contains(&layer) {
                ready.store.release(layer, &now.id);
            }
        }
        self.empty_trash();
    }

    /// Takes a pixel back to a checkpoint.
    pub(crate) async fn restore(&self, name: &Name, label: &Label) -> Result<()> {
        let ready = self.ready()?;
        let (lock, mut record) = self.hold(ready, name).await?;
        let before = record.clone();
        let checkpoint = before.checkpoint(label.as_str()).ok_or_else(|| missing(name, label))?;
        record.layers.clone_from(&checkpoint.layers);
        record.upper = fresh_id();
        let mut new = NewLayers::new(self, &record.id);
        ready.new_upper(&record)?;
        new.add(&record.upper);
        let path = ready.store.pixel(name).join("pixel.json");
        let prepared = record::prepare(&path, &record, true);
        let prepared = prepared.map_err(|e| failed("write the pixel down", e))?;
        failpoint::at("restore-begun");
        let ran = ready.run(name).is_some();
        let kill = StopOpts { force: true, ..StopOpts::default() };
        self.halt(ready, name, &record, &kill).await?;
        // This is the moment: before it the pixel is what it was, after it what the
        // checkpoint is.
        prepared.commit().map_err(|e| failed("write the pixel down", e))?;
        new.keep();
        self.forget(ready, &before, &record);
        // It can be as long as it is: the next restore comes back to that.
        if let Err(e) = self.shorten(ready, name, &mut record, &lock).await {
            tracing::warn!(%name, %e, "the pixel's layers stay many");
        }
        if ran {
            self.launch(ready, name, &record, &lock).await?;
        }
        Ok(())
    }

    /// Makes a long chain of layers one layer over the image's; nothing of it is
    /// copied. The lock is held and the pixel does not run.
    async fn shorten(
        &self,
        ready: &Ready,
        name: &Name,
        record: &mut Record,
        lock: &Lock,
    ) -> Result<()> {
        if record.layers.len() <= DEEP {
            return Ok(());
        }
        let before = record.clone();
        // The lowest ones are the image's, which other pixels share.
        let keep = record.layers.len() - DEEP;
        let keep = keep.min(ready.shared(record));
        let merged = fresh_id();
        ready.store.begin_layer(&merged, &record.id)?;
        let mut new = NewLayers::new(self, &record.id);
        new.add(&merged);
        let base = record.layers.last().map_or(0, |id| ready.store.base(id));
        if base != 0 {
            ready.store.set_base(&merged, base)?;
        }
        let from = record.layers[keep..]
            .iter()
            .map(|id| path(&ready.store.layer_fs(id).join("tree")))
            .collect();
        let op = TreeOp::Merge { from, to: path(&ready.store.layer_fs(&merged)) };
        new.fill(ready, op, lock).await?;
        failpoint::at("merged");
        // Checkpoints that lie on all of these lie on the new one too.
        let long = before.layers[keep..].to_vec();
        let mut now = before.clone();
        let shorter = |layers: &mut Vec<String>| {
            if layers.len() >= keep + long.len() && layers[keep..keep + long.len()] == long[..] {
                layers.splice(keep..keep + long.len(), [merged.clone()]);
            }
        };
        shorter(&mut now.layers);
        for checkpoint in &mut now.checkpoints {
            shorter(&mut checkpoint.layers);
        }
        ready.keep(name, &now)?;
        new.keep();
        *record = now;
        self.forget(ready, &before, record);
        Ok(())
    }

    /// Makes and starts a new pixel from a checkpoint, or from the source as it is.
    pub(crate) async fn clone_pixel(
        &self,
        source: &Name,
        label: Option<&Label>,
        name: &Name,
        opts: CloneOpts,
    ) -> Result<Instance> {
        refuse_target(opts.target.as_deref())?;
        let ready = self.ready()?;
        let seen = ready.record(source)?;
        if let Some(label) = label
            && seen.checkpoint(label.as_str()).is_none()
        {
            return Err(missing(source, label));
        }
        let asked = &opts.limits;
        self.check_limits(ready, asked)?;
        self.make_way(name).await?;
        let origin = label.map_or_else(|| source.to_string(), |l| format!("{source}:{l}"));
        opts.progress.phase(format!("cloning {origin}"));
        let limits = Limits {
            cpu: asked.cpu.clone().or(seen.cpu),
            memory: asked.memory.or(seen.memory),
            disk: asked.disk.or(seen.disk),
        };
        let meta = Meta {
            expires_at: opts.expires_at,
            egress: seen.egress,
            origin: Some(origin),
            owner: opts.owner.clone(),
        };
        let mut staged = self.stage(limits, &meta)?;
        staged.record.network = seen.network;
        {
            // Until the new pixel refers to them too, the layers are the source's alone.
            let (lock, mut record) = self.hold(ready, source).await?;
            let layers = match label {
                Some(label) => {
                    let of = record.checkpoint(label.as_str());
                    of.ok_or_else(|| missing(source, label))?.layers.clone()
                }
                None => {
                    let before = record.clone();
                    let (layers, new) = self.seal(ready, source, &mut record, &lock).await?;
                    if before.upper == record.upper {
                        // A copy is for the clone alone: the source's reference goes.
                        staged.layers(&layers).await?;
                        drop(new);
                    } else {
                        ready.keep(source, &record)?;
                        new.keep();
                        staged.layers(&layers).await?;
                    }
                    Vec::new()
                }
            };
            staged.layers(&layers).await?;
        }
        self.bring_up(ready, staged, name).await
    }
}

impl Ready {
    /// How many of a pixel's lowest layers others refer to as well.
    fn shared(&self, record: &Record) -> usize {
        let alone = |id: &String| self.store.referrers(id).is_some_and(|r| r.len() < 2);
        record.layers.iter().position(alone).unwrap_or(record.layers.len()).max(1)
    }
}

fn missing(name: &Name, label: &Label) -> Error {
    Error::not_found(What::Checkpoint, format!("{name}:{label}"))
}
