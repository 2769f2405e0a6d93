//! What is taken back if a call fails, or is dropped before it is done.

use pixels_core::{Name, Result, StopOpts};
use pixels_guest_api::face;
use pixels_guest_api::host::TreeOp;
use std::os::fd::AsFd;

use crate::engine::{Engine, Ready};
use crate::launcher::Running;
use crate::store::Lock;

/// New layers of a pixel. Dropped, they are thrown away, as soon as the process
/// that fills them has seen that nobody wants them.
pub(crate) struct NewLayers {
    engine: Engine,
    referrer: String,
    layers: Vec<String>,
    writer: Option<Running>,
}

impl NewLayers {
    pub(crate) fn new(engine: &Engine, referrer: &str) -> Self {
        let (engine, referrer) = (engine.clone(), referrer.to_owned());
        Self { engine, referrer, layers: Vec::new(), writer: None }
    }

    /// One more, which has been begun.
    pub(crate) fn add(&mut self, layer: &str) {
        self.layers.push(layer.to_owned());
    }

    /// Has one filled. The helper holds the pixel's lock for as long as it lives,
    /// so that whoever comes next finds no other at work.
    ///
    /// # Errors
    /// What the helper says.
    pub(crate) async fn fill(&mut self, ready: &Ready, op: TreeOp, lock: &Lock) -> Result<()> {
        let spec = ready.tree(&self.engine.config, op).encode();
        let writer =
            self.writer.insert(ready.launcher.start(face::TREE, &spec, &[lock.as_fd()])?);
        let answered = writer.answer("work on the store").await;
        self.writer = None;
        if answered.is_err() {
            // It does so itself, unless it was killed.
            ready.cgroups.thaw(&self.referrer);
        }
        answered.map(drop)
    }

    /// They are somebody's from now on.
    pub(crate) fn keep(mut self) {
        self.layers.clear();
    }
}

impl Drop for NewLayers {
    fn drop(&mut self) {
        if self.layers.is_empty() {
            return;
        }
        let (layers, referrer) = (std::mem::take(&mut self.layers), self.referrer.clone());
        let (engine, writer) = (self.engine.clone(), self.writer.take());
        let release = move |engine: &Engine| {
            let Ok(ready) = engine.ready() else { return };
            for layer in &layers {
                ready.store.release(layer, &referrer);
            }
            engine.empty_trash();
        };
        let Some(writer) = writer else { return release(&engine) };
        self.engine.background.spawn(async move {
            writer.abandon().await;
            release(&engine);
        });
    }
}

/// A start. Dropped before the pixel is up, it leaves the pixel stopped.
pub(crate) struct Start {
    engine: Engine,
    name: Name,
    id: String,
    up: bool,
}

impl Start {
    pub(crate) fn new(engine: &Engine, name: &Name, id: &str) -> Self {
        Self { engine: engine.clone(), name: name.clone(), id: id.to_owned(), up: false }
    }

    /// The pixel runs.
    pub(crate) fn succeeded(mut self) {
        self.up = true;
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        if self.up {
            return;
        }
        let (engine, name, id) = (self.engine.clone(), self.name.clone(), self.id.clone());
        self.engine.background.spawn(async move {
            let Ok(ready) = engine.ready() else { return };
            // The helper gives it up when what it made is gone.
            let Ok(_lock) = ready.store.lock(&name).await else { return };
            let Ok(record) = ready.record(&name) else { return };
            if record.id == id && ready.run(&name).is_none() {
                let kill = StopOpts { force: true, ..StopOpts::default() };
                if let Err(e) = engine.halt(ready, &name, &record, &kill).await {
                    tracing::warn!(%name, %e, "what is left of a start is left to gc");
                }
            }
        });
    }
}
