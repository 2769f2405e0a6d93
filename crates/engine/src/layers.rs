//! Layers as images make them: written by a process of the launcher from a
//! stream, and the store's from the moment they are whole.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use async_trait::async_trait;
use pixels_core::{Error, Result};
use pixels_guest_api::face;
use pixels_guest_api::host::TreeOp;

use crate::background::Background;
use crate::engine::Ready;
use crate::failpoint;
use crate::image::Limits;
use crate::image::layer::{LayerInProgress, LayerStore};
use crate::launcher::{Running, failed, system};
use crate::settings::Config;
use crate::store::fresh_id;

/// Who refers to a layer that is being written: whoever has this file locked.
pub(crate) const MAKING: &str = "making";

/// The store's layers.
pub(crate) struct Layers {
    pub(crate) ready: Arc<Ready>,
    pub(crate) config: Arc<Config>,
    pub(crate) background: Background,
}

/// One that is being written.
struct InProgress {
    ready: Arc<Ready>,
    config: Arc<Config>,
    background: Background,
    id: String,
    input: Option<OwnedFd>,
    writer: Option<Running>,
    _making: File,
    kept: bool,
}

#[async_trait]
impl LayerStore for Layers {
    async fn begin(&self) -> Result<Box<dyn LayerInProgress>> {
        let ready = Arc::clone(&self.ready);
        let id = fresh_id();
        let making = ready.store.begin_locked(&id, MAKING)?;
        failpoint::at("image-layer-begun");
        let mut layer = Box::new(InProgress {
            ready,
            config: Arc::clone(&self.config),
            background: self.background.clone(),
            id,
            input: None,
            writer: None,
            _making: making,
            kept: false,
        });
        let (ready, id) = (&layer.ready, &layer.id);
        let fs = ready.store.layer_fs(id);
        let made = DirBuilder::new().mode(0o755).create(&fs);
        made.map_err(|e| failed("make a layer", e))?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(system("make a layer"))?;
        let limits = Limits::default();
        let op = TreeOp::Write {
            dir: fs.join("tree").as_os_str().as_bytes().to_vec(),
            limits: (limits.entries, limits.bytes),
        };
        let spec = ready.tree(&self.config, op).encode();
        let writer = ready.launcher.start(face::TREE, &spec, &[read.as_fd()])?;
        layer.writer = Some(writer);
        layer.input = Some(write);
        Ok(layer)
    }

    async fn hold(&self, layer: &str, referrer: &str) -> Result<bool> {
        Ok(self.ready.store.refer(layer, referrer).is_ok())
    }

    async fn release(&self, layer: &str, referrer: &str) -> Result<()> {
        self.ready.store.release(layer, referrer);
        Ok(())
    }
}

#[async_trait]
impl LayerInProgress for InProgress {
    fn id(&self) -> &str {
        &self.id
    }

    fn input(&mut self) -> Box<dyn Write + Send> {
        match self.input.take() {
            Some(fd) => Box::new(File::from(fd)),
            None => Box::new(std::io::sink()),
        }
    }

    async fn finish(mut self: Box<Self>, referrer: &str) -> Result<u64> {
        self.input = None;
        let Some(writer) = self.writer.as_mut() else {
            return Err(Error::backend("write a layer", "it was written before"));
        };
        let answered = writer.answer("write a layer").await?;
        self.writer = None;
        failpoint::at("image-layer-written");
        let bytes = answered.payload.get(8..16).and_then(|b| b.try_into().ok());
        self.ready.store.refer(&self.id, referrer)?;
        self.kept = true;
        self.ready.store.release(&self.id, MAKING);
        failpoint::at("image-layer-kept");
        Ok(bytes.map_or(0, u64::from_be_bytes))
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Whoever decodes the archive may have the other end of its input, and goes on
        // until nobody reads what it writes.
        let (input, writer) = (self.input.take(), self.writer.take());
        let (ready, config) = (Arc::clone(&self.ready), Arc::clone(&self.config));
        let id = std::mem::take(&mut self.id);
        self.background.spawn(async move {
            drop(input);
            if let Some(writer) = writer {
                let _ = writer.end().wait().await;
            }
            ready.store.release(&id, MAKING);
            if let Err(e) = ready.take_trash_out(&config).await {
                tracing::warn!(%e, "what was thrown away is still there; gc removes it");
            }
        });
    }
}
