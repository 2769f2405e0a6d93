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
        staged(ready, &mut done);
        // What there is first, then whose it is: what came in between belongs to somebody.
        let (slots, groups) = (ready.store.slots(), ready.cgroups.known());
        let layers = referred(ready);
        let known = self.known(ready)?;
        for (slot, id) in slots {
            if !known.contains(&id) {
                ready.store.free_slot(slot, &id);
                done.push(format!("the slot of a pixel that is gone ({slot})"));
            }
        }
        for id in groups {
            if !known.contains(&id) {
                ready.cgroups.kill(&id);
                ready.cgroups.remove(&id);
                done.push("the control group of a pixel that is gone".into());
            }
        }
        self.layers(ready, layers, &known, &mut done)?;
        done.extend(self.images()?.sweep()?);
        // What others have just thrown away they are removing themselves.
        let trash = ready.store.trash();
        let left = trash.iter().filter(|path| lies_there(path)).count();
        self.take_trash_out().await?;
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

    /// The ids of everything that may refer to a layer.
    fn known(&self, ready: &Ready) -> Result<BTreeSet<String>> {
        let mut known = BTreeSet::new();
        // Those that are being made are known by their directory's name.
        for entry in fs::read_dir(ready.store.at("pixels")).into_iter().flatten().flatten() {
            if let Some(id) = entry.file_name().to_str().and_then(|n| n.strip_prefix(".new-")) {
                known.insert(id.to_owned());
            }
        }
        // After those: one gets its name in between, but never gives it back.
        for name in ready.store.names()? {
            if let Ok(Some(record)) = read_record(&ready.store.pixel(&name)) {
                known.insert(record.id);
            }
        }
        Ok(known)
    }

    /// References of the dead, and layers that nobody refers to.
    fn layers(
        &self,
        ready: &Ready,
        layers: Vec<(String, Option<Vec<String>>)>,
        known: &BTreeSet<String>,
        done: &mut Vec<String>,
    ) -> Result<()> {
        let needed = needed(ready)?;
        for (layer, referrers) in layers {
            let Some(referrers) = referrers else {
                // Its first reference comes a moment after it.
                if ready.store.referrers(&layer).is_some() {
                    continue;
                }
                ready.store.throw_away(&ready.store.layer(&layer));
                done.push("a layer that nothing uses".into());
                continue;
            };
            for referrer in referrers {
                let dead = match referrer.as_str() {
                    MAKING => !is_locked(&ready.store.layer(&layer).join("refs").join(MAKING)),
                    image if image.starts_with("image-") => !self.images()?.is_live(image),
                    pixel => !known.contains(pixel),
                };
                let unneeded =
                    needed.iter().any(|(id, needs)| *id == referrer && !needs.contains(&layer));
                if dead || unneeded {
                    ready.store.release(&layer, &referrer);
                    if !ready.store.layer(&layer).exists() {
                        done.push("a layer that nothing uses".into());
                    }
                }
            }
        }
        Ok(())
    }
}

/// All layers with those who refer to them.
fn referred(ready: &Ready) -> Vec<(String, Option<Vec<String>>)> {
    let all = ready.store.layers().into_iter();
    all.map(|id| (id.clone(), ready.store.referrers(&id))).collect()
}

/// What every pixel needs that nobody is changing right now.
fn needed(ready: &Ready) -> Result<Vec<(String, BTreeSet<String>)>> {
    let mut all = Vec::new();
    for name in ready.store.names()? {
        let Ok(Some(_lock)) = ready.store.try_lock(&name) else { continue };
        if let Ok(Some(record)) = read_record(&ready.store.pixel(&name)) {
            let needs = record.needs().into_iter().map(str::to_owned).collect();
            all.push((record.id, needs));
        }
    }
    Ok(all)
}

/// Whether somebody holds the lock of a file.
fn is_locked(path: &std::path::Path) -> bool {
    fs::File::open(path).is_ok_and(|f| f.try_lock().is_err())
}

/// Staged directories whose maker is gone: nobody holds their locks.
fn staged(ready: &Ready, done: &mut Vec<String>) {
    let dir = ready.store.at("pixels");
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|n| n.strip_prefix(".new-")) else { continue };
        let path = dir.join(&name);
        let free = fs::File::open(path.join("lock")).map(|f| f.try_lock().is_ok());
        // Without a lock it is younger than its first file, or was cut off there.
        let gone = match free {
            Ok(free) => free,
            Err(_) => old(&path),
        };
        if gone {
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

/// Whether nobody can still be in the middle of making it.
fn old(path: &std::path::Path) -> bool {
    let age = fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    age.is_some_and(|age| age.as_secs() > 3600)
}
