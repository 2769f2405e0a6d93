//! Checkpoints: Incus snapshots of the instance.

use pixels_core::{Error, Label, Name, Result, Snapshot, What};
use serde_json::json;

use crate::Incus;
use crate::api::{Fault, Path};
use crate::model::{Keys, RawSnapshot, key};

/// What a restore must not take back: the checkpoint's copy of it is as old as
/// the checkpoint is.
const KEPT: [&str; 4] = [key::EXPIRES, key::EGRESS, key::OWNER, key::MAKING];

fn full(name: &Name, label: &Label) -> String {
    format!("{name}:{label}")
}

impl Incus {
    fn snapshot_path(name: &Name, label: &Label) -> Path {
        Self::at(name).seg("snapshots").seg(label.as_str())
    }

    pub(crate) async fn raw_snapshot(&self, name: &Name, label: &Label) -> Result<RawSnapshot> {
        match self.api.get(Self::snapshot_path(name, label)).await {
            Ok(reply) => reply.parse().map_err(|f| f.during("read the checkpoint")),
            Err(fault) if fault.status() == Some(404) => {
                self.raw(name, false).await?;
                Err(Error::not_found(What::Checkpoint, full(name, label)))
            }
            Err(fault) => Err(fault.during("read the checkpoint")),
        }
    }

    pub(crate) async fn snapshot(&self, name: &Name, label: &Label) -> Result<Snapshot> {
        let body = json!({"name": label.as_str(), "stateful": false});
        let fault = match self.api.post(Self::at(name).seg("snapshots"), &body).await {
            Ok(reply) => match self.api.wait(reply).await {
                Ok(_) => {
                    let raw = self.raw_snapshot(name, label).await?;
                    return raw
                        .snapshot()
                        .ok_or_else(|| Error::not_found(What::Checkpoint, full(name, label)));
                }
                Err(fault) => fault,
            },
            Err(fault) => fault,
        };
        if !matches!(fault, Fault::Wire(_)) {
            // The reason is text alone; what is there can be asked.
            match self.raw_snapshot(name, label).await {
                Ok(_) => return Err(Error::exists(What::Checkpoint, full(name, label))),
                Err(e) if matches!(e.kind(), Error::NotFound { what: What::Checkpoint, .. }) => {}
                // The pixel is missing, or its project.
                Err(e) if e.is_not_found() => return Err(e),
                Err(_) => {}
            }
        }
        Err(fault.during(&format!("checkpoint {}", full(name, label))))
    }

    pub(crate) async fn snapshots(&self, name: &Name) -> Result<Vec<Snapshot>> {
        let path = Self::at(name).seg("snapshots").query("recursion", "1");
        let raw: Vec<RawSnapshot> = match self.api.get(path).await {
            Ok(reply) => reply.parse().map_err(|f| f.during("list checkpoints"))?,
            Err(fault) if fault.status() == Some(404) => {
                self.raw(name, false).await?;
                return Err(fault.during("list checkpoints"));
            }
            Err(fault) => return Err(fault.during("list checkpoints")),
        };
        let mut found: Vec<_> = raw.iter().filter_map(RawSnapshot::snapshot).collect();
        found.sort_by(|a, b| (a.created_at, &a.label).cmp(&(b.created_at, &b.label)));
        Ok(found)
    }

    pub(crate) async fn drop_snapshot(&self, name: &Name, label: &Label) -> Result<()> {
        let fault = match self.api.delete(Self::snapshot_path(name, label)).await {
            Ok(reply) => match self.api.wait(reply).await {
                Ok(_) => return Ok(()),
                Err(fault) => fault,
            },
            Err(fault) => fault,
        };
        if fault.status() == Some(404) {
            self.raw(name, false).await?;
        }
        Err(fault.about(What::Checkpoint, &full(name, label), "delete the checkpoint"))
    }

    /// Incus stops a running instance, brings the volume and the configuration
    /// back, and starts it again. What is not the checkpoint's to decide is
    /// put back afterwards.
    pub(crate) async fn restore(&self, name: &Name, label: &Label) -> Result<()> {
        // Another's restore has the pixel stopped for a moment, and one that finds it
        // so would leave it so.
        self.settled(name).await;
        let (before, _) = tokio::try_join!(self.raw(name, false), self.raw_snapshot(name, label))?;
        let op = format!("restore {}", full(name, label));
        let body = json!({"restore": label.as_str()});
        let reply = self.api.put(Self::at(name), &body).await;
        let reply = reply.map_err(|f| f.about(What::Checkpoint, &full(name, label), &op))?;
        if let Err(fault) = self.api.wait(reply).await {
            // The storage's own refusal (zfs) names the snapshots in the way.
            return Err(fault.during(&op).with_hint(
                "where the storage cannot keep newer checkpoints, delete them first: pixels checkpoint delete",
            ));
        }
        let after = self.raw(name, false).await?;
        let mut changed = Keys::new();
        for key in KEPT {
            let (old, new) =
                (before.meta_key(key).unwrap_or(""), after.meta_key(key).unwrap_or(""));
            if old != new {
                changed.insert(key.to_owned(), old.to_owned());
            }
        }
        if !changed.is_empty() {
            let put = self.api.patch(Self::at(name), &json!({"config": changed})).await;
            put.map_err(|f| f.about(What::Pixel, name.as_str(), &op))?;
        }
        Ok(())
    }
}
