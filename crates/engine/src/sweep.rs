//! Finding what interrupted processes have left, and removing it.

use std::collections::BTreeSet;
use std::fs;

use pixels_core::Result;

use crate::engine::{Engine, Ready, read_record};
use crate::layers::MAKING;

impl Engine {
    /// Removes what nobody will ever finish; says what it was, in words.
    pub(crate) async fn sweep_leftovers(&self) -> Result<Vec<String>> {
        let ready = self.ready()?;
        let mut done = Vec::new();
        self.half_made(ready, &mut done).await?;
        let making = ready.store.nobody_making()?;
        staged(ready, &mut done);
        // What there is first, and then whose it may be: what is made meanwhile
        // is not looked at.
        let (slots, groups) = (ready.store.slots(), ready.cgroups.known());
        let layers = references(ready, &mut done);
        drop(making);
        if let Some(known) = known(ready)? {
            for (slot, id) in slots.into_iter().filter(|(_, id)| !known.contains(id)) {
                if ready.store.free_slot(slot, &id) {
                    done.push(format!("the slot of a pixel that is gone ({slot})"));
                }
            }
            for id in groups.into_iter().filter(|id| !known.contains(id)) {
                if !ready.cgroups.dirs(&id).iter().any(|dir| dir.exists()) {
                    continue;
                }
                ready.cgroups.kill(&id);
                ready.cgroups.remove(&id).await;
                done.push("the control group of a pixel that is gone".into());
            }
            self.unreferred(ready, &layers, &known, &mut done)?;
        }
        unneeded(ready, &layers, &mut done)?;
        done.extend(self.images()?.sweep()?);
        // What others have just thrown away they are removing themselves.
        let left = ready.store.trash().iter().filter(|path| lies_there(path)).count();
        ready.take_trash_out(&self.config).await?;
        if left > 0 {
            done.push(format!("{left} things that were thrown away"));
        }
        Ok(done)
    }

    /// Pixels whose making was interrupted; thaws those whose checkpoint was.
    async fn half_made(&self, ready: &Ready, done: &mut Vec<String>) -> Result<()> {
        for name in ready.store.names()? {
            let Ok(Some(lock)) = ready.store.try_lock(&name) else { continue };
            match read_record(&ready.store.pixel(&name)) {
                Ok(Some(record)) if !record.making => ready.cgroups.thaw(&record.id),
                Ok(_) => {
                    self.remove_locked(ready, &name, lock).await?;
                    done.push(format!("{name}, which was never finished"));
                }
                // Not ours to judge: another version, a broken disk.
                Err(e) => tracing::warn!(%name, %e, "cannot read this pixel"),
            }
        }
        Ok(())
    }

    /// References of the dead.
    fn unreferred(
        &self,
        ready: &Ready,
        layers: &[(String, String)],
        known: &BTreeSet<String>,
        done: &mut Vec<String>,
    ) -> Result<()> {
        for (layer, referrer) in layers {
            let dead = match referrer.as_str() {
                MAKING => !is_locked(&ready.store.layer(layer).join("refs").join(MAKING)),
                image if image.starts_with("image-") => !self.images()?.is_live(image),
                pixel => !known.contains(pixel),
            };
            if dead {
                release(ready, layer, referrer, done);
            }
        }
        Ok(())
    }
}

/// Who refers to which layer. Layers that nobody does go at once.
fn references(ready: &Ready, done: &mut Vec<String>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for layer in ready.store.layers() {
        match ready.store.referrers(&layer) {
            Some(referrers) if !referrers.is_empty() => {
                all.extend(referrers.into_iter().map(|r| (layer.clone(), r)));
            }
            // The last reference was taken back by somebody who died at once.
            Some(_) => release(ready, &layer, MAKING, done),
            None => {
                ready.store.throw_away(&ready.store.layer(&layer));
                done.push("a layer that nothing uses".into());
            }
        }
    }
    all
}

fn release(ready: &Ready, layer: &str, referrer: &str, done: &mut Vec<String>) {
    let there = ready.store.layer(layer).exists();
    ready.store.release(layer, referrer);
    if there && !ready.store.layer(layer).exists() {
        done.push("a layer that nothing uses".into());
    }
}

/// The ids of all pixels; nothing where one cannot be read, because anything
/// may be its.
fn known(ready: &Ready) -> Result<Option<BTreeSet<String>>> {
    // In this order: those that get their names meanwhile are found once more.
    let mut known: BTreeSet<String> = ready.store.staged().into_iter().collect();
    for name in ready.store.names()? {
        match read_record(&ready.store.pixel(&name)) {
            Ok(Some(record)) => drop(known.insert(record.id)),
            Ok(None) => {}
            Err(e) => {
                tracing::warn!(%name, %e, "cannot read this pixel: what may be its stays");
                return Ok(None);
            }
        }
    }
    Ok(Some(known))
}

/// References of pixels to what they do not need any more.
fn unneeded(ready: &Ready, layers: &[(String, String)], done: &mut Vec<String>) -> Result<()> {
    for name in ready.store.names()? {
        // Nobody is changing it right now.
        let Ok(Some(_lock)) = ready.store.try_lock(&name) else { continue };
        let Ok(Some(record)) = read_record(&ready.store.pixel(&name)) else { continue };
        let needs = record.needs();
        for (layer, referrer) in layers {
            if *referrer == record.id && !needs.contains(&layer.as_str()) {
                release(ready, layer, referrer, done);
            }
        }
        // What was not written to its end.
        for file in ["pixel.new", "run.new"] {
            let _ = fs::remove_file(ready.store.pixel(&name).join(file));
        }
    }
    Ok(())
}

/// Whether somebody holds the lock of a file.
fn is_locked(path: &std::path::Path) -> bool {
    fs::File::open(path).is_ok_and(|f| f.try_lock().is_err())
}

/// Staged directories whose maker is gone: nobody holds their locks. Nobody is
/// in the middle of making one.
fn staged(ready: &Ready, done: &mut Vec<String>) {
    for id in ready.store.staged() {
        let path = ready.store.at("pixels").join(format!(".new-{id}"));
        if !is_locked(&path.join("lock")) {
            tracing::debug!(id, "removing what an interrupted create left");
            ready.store.throw_away(&path);
            done.push("a pixel that never got its name".into());
        }
    }
}

/// Whether it was thrown away a while ago.
fn lies_there(path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let now = jiff::Timestamp::now().as_second();
    fs::symlink_metadata(path).is_ok_and(|meta| now - meta.ctime() > 60)
}
