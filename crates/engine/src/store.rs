//! The engine's directory: layers, pixels, slots and what waits to be removed.
//!
//! A layer lives as long as anything refers to it: `refs/<id>` is a file for each
//! pixel or image that does. It dies by the removal of `refs`, which succeeds
//! only while it is empty, and nothing can refer to it from then on. So there is
//! no count that could be wrong and no lock over all pixels.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pixels_core::{Error, Name, Result, What};

use crate::failpoint;
use crate::launcher::failed;

/// How many pixels there can be: as many as ranges of ids, if there are addresses.
pub(crate) const SLOTS: u32 = 32_768;

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// The right to change a pixel, until the last copy of it is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Lock {
    file: Arc<File>,
}

impl AsFd for Lock {
    /// Whoever has a copy of it has the lock.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Store {
    /// The store at `root`, made if it is not there.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let make = |dir: &Path| DirBuilder::new().recursive(true).mode(0o700).create(dir);
        let store = Self { root: root.to_owned() };
        let parts = ["layers", "images", "pixels", "slots", "trash", "tmp"];
        parts
            .iter()
            .try_for_each(|part| make(&root.join(part)))
            .map_err(|e| failed(&format!("make the store {}", root.display()), e))?;
        // Its files carry the ids and setuid bits of many pixels.
        fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(|e| failed(&format!("close the store {}", root.display()), e))?;
        Ok(store)
    }

    /// What tells this store's control groups from those of others.
    pub(crate) fn tag(root: &Path) -> String {
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        // FNV-1a: the same in every build.
        let hash = root.as_os_str().as_bytes().iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        format!("{hash:08x}-")
    }

    /// A path in it.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A pixel's directory.
    pub(crate) fn pixel(&self, name: &Name) -> PathBuf {
        self.root.join("pixels").join(name.as_str())
    }

    /// The names of all pixels.
    pub(crate) fn names(&self) -> Result<Vec<Name>> {
        let dir = self.at("pixels");
        let entries = fs::read_dir(&dir).map_err(|e| failed("list the pixels", e))?;
        let mut names: Vec<Name> = entries
            .flatten()
            .filter_map(|e| e.file_name().to_str().and_then(|n| Name::new(n).ok()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The ids of pixels that nobody sees yet.
    pub(crate) fn staged(&self) -> Vec<String> {
        let all = names_in(&self.at("pixels"));
        all.iter().filter_map(|n| n.strip_prefix(".new-")).map(str::to_owned).collect()
    }

    /// The right to change what is in a pixel's directory, waited for.
    pub(crate) async fn lock(&self, name: &Name) -> Result<Lock> {
        self.lock_at(self.pixel(name), name.as_str()).await
    }

    /// As [`Store::lock`]; `None` if somebody else has it.
    pub(crate) fn try_lock(&self, name: &Name) -> Result<Option<Lock>> {
        let path = self.pixel(name).join("lock");
        let missing = || Error::not_found(What::Pixel, name.as_str());
        let file = File::open(&path).map_err(|_| missing())?;
        match file.try_lock() {
            Ok(()) if same(&file, &path) => Ok(Some(Lock { file: Arc::new(file) })),
            Ok(()) => Err(missing()),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(failed("lock the pixel", e)),
        }
    }

    /// As [`Store::lock`], of a pixel that has no name yet.
    pub(crate) async fn lock_at(&self, dir: PathBuf, name: &str) -> Result<Lock> {
        let missing = || Error::not_found(What::Pixel, name);
        let path = dir.join("lock");
        let file = File::open(&path).map_err(|_| missing())?;
        let file = match file.try_lock() {
            Ok(()) => file,
            Err(_) => tokio::task::spawn_blocking(move || file.lock().map(|()| file))
                .await
                .map_err(|e| Error::backend("lock the pixel", e.to_string()))?
                .map_err(|e| failed("lock the pixel", e))?,
        };
        // Who had it may have removed the pixel, and another may have its name.
        if same(&file, &path) { Ok(Lock { file: Arc::new(file) }) } else { Err(missing()) }
    }

    /// Held by whoever makes something that looks like a dead process's until it
    /// is whole, or takes something apart that does; `sweep` waits for them all.
    /// Not to be held while anything is awaited.
    pub(crate) fn making(&self) -> io::Result<File> {
        let file = self.door()?;
        file.lock_shared()?;
        Ok(file)
    }

    /// Waits until nobody is in the middle of making anything, and keeps it so.
    pub(crate) fn nobody_making(&self) -> Result<File> {
        let locked = self.door().and_then(|file| file.lock().map(|()| file));
        locked.map_err(|e| failed("lock the store", e))
    }

    fn door(&self) -> io::Result<File> {
        File::open(self.root.join("pixels"))
    }

    /// Makes a directory for a pixel that nobody sees yet; locked.
    pub(crate) fn stage(&self, id: &str) -> Result<(PathBuf, Lock)> {
        let dir = self.at("pixels").join(format!(".new-{id}"));
        let made = (|| {
            let _making = self.making()?;
            DirBuilder::new().mode(0o700).create(&dir)?;
            failpoint::at("staged");
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(dir.join("lock"))?;
            file.lock()?;
            Ok(file)
        })();
        if made.is_err() {
            self.throw_away(&dir);
        }
        made.map(|file| (dir, Lock { file: Arc::new(file) }))
            .map_err(|e| failed("make the pixel", e))
    }

    /// Gives a staged directory its name.
    ///
    /// # Errors
    /// `AlreadyExists` for a taken one.
    pub(crate) fn reveal(&self, staged: &Path, name: &Name) -> Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let to = self.pixel(name);
        match renameat_with(CWD, staged, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::EXIST) => Err(Error::exists(What::Pixel, name.as_str())),
            Err(e) => Err(failed("make the pixel", e.into())),
        }
    }

    /// Takes a free slot for the pixel `id`.
    /// `avoid` are those whose interface is still there.
    pub(crate) fn take_slot(&self, id: &str, slots: u32, avoid: &[u32]) -> Result<u32> {
        let what = "find a place for the pixel";
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|e| Error::backend(what, e.to_string()))?;
        let start = u32::from_ne_bytes(random) % slots;
        for n in 0..slots {
            let slot = (start + n) % slots;
            if avoid.contains(&slot) {
                continue;
            }
            // The file's name is the claim; what it holds says whose it is.
            match std::os::unix::fs::symlink(id, self.slot(slot)) {
                Ok(()) => {
                    failpoint::at("slot-taken");
                    return Ok(slot);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(what, e)),
            }
        }
        Err(Error::Exhausted { what: what.into(), reason: format!("there are {slots} pixels") })
    }

    fn slot(&self, slot: u32) -> PathBuf {
        self.root.join("slots").join(slot.to_string())
    }

    /// Gives a slot back, if it is that pixel's; answers whether it was.
    pub(crate) fn free_slot(&self, slot: u32, id: &str) -> bool {
        let path = self.slot(slot);
        let freed = fs::read_link(&path).is_ok_and(|owner| owner.as_os_str() == id)
            && fs::remove_file(path).is_ok();
        if freed {
            failpoint::at("slot-freed");
        }
        freed
    }

    /// All slots that are taken, with their owners.
    pub(crate) fn slots(&self) -> Vec<(u32, String)> {
        fs::read_dir(self.root.join("slots"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| {
                let slot = e.file_name().to_str()?.parse().ok()?;
                let owner = fs::read_link(e.path()).ok()?;
                Some((slot, owner.to_str()?.to_owned()))
            })
            .collect()
    }

    /// A layer's directory.
    pub(crate) fn layer(&self, id: &str) -> PathBuf {
        self.root.join("layers").join(id)
    }

    /// What of a layer is mounted: `tree` and, of a writable one, `work`.
    pub(crate) fn layer_fs(&self, id: &str) -> PathBuf {
        self.layer(id).join("fs")
    }

    /// Makes a layer that `referrer` refers to, without its `fs`.
    pub(crate) fn begin_layer(&self, id: &str, referrer: &str) -> Result<()> {
        self.begin_locked(id, referrer).map(drop)
    }

    /// As [`Store::begin_layer`], with a lock on the reference.
    pub(crate) fn begin_locked(&self, id: &str, referrer: &str) -> Result<File> {
        let dir = self.layer(id);
        let made = (|| {
            let _making = self.making()?;
            DirBuilder::new().mode(0o700).create(&dir)?;
            failpoint::at("layer-begun");
            DirBuilder::new().mode(0o700).create(dir.join("refs"))?;
            let file = File::create(dir.join("refs").join(referrer))?;
            file.lock()?;
            Ok(file)
        })();
        if made.is_err() {
            self.throw_away(&dir);
        }
        made.map_err(|e| failed("make a layer", e))
    }

    /// Says whose ids a layer has on disk: those from `base` on, as the launcher
    /// sees them, where they are not the pixels' common ones.
    pub(crate) fn set_base(&self, id: &str, base: u32) -> Result<()> {
        fs::write(self.layer(id).join("base"), base.to_string())
            .map_err(|e| failed("make a layer", e))
    }

    /// Whose ids a layer has on disk; 0 are the common ones.
    pub(crate) fn base(&self, id: &str) -> u32 {
        let text = fs::read_to_string(self.layer(id).join("base")).unwrap_or_default();
        text.parse().unwrap_or(0)
    }

    /// Lets `referrer` refer to a layer.
    ///
    /// # Errors
    /// `NotFound` if it is gone.
    pub(crate) fn refer(&self, id: &str, referrer: &str) -> Result<()> {
        match File::create(self.layer(id).join("refs").join(referrer)) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::backend("use a layer", format!("the layer {id} is gone")))
            }
            Err(e) => Err(failed("use a layer", e)),
        }
    }

    /// Takes a reference back; the layer is thrown away if that was the last.
    pub(crate) fn release(&self, id: &str, referrer: &str) {
        let dir = self.layer(id);
        let _ = fs::remove_file(dir.join("refs").join(referrer));
        if fs::remove_dir(dir.join("refs")).is_ok() {
            failpoint::at("layer-released");
            self.throw_away(&dir);
        }
    }

    /// The ids of all layers.
    pub(crate) fn layers(&self) -> Vec<String> {
        names_in(&self.root.join("layers"))
    }

    /// Who refers to a layer; `None` if it is dead.
    pub(crate) fn referrers(&self, id: &str) -> Option<Vec<String>> {
        let dir = self.layer(id).join("refs");
        dir.is_dir().then(|| names_in(&dir))
    }

    /// Moves something to where it waits for its removal, out of everybody's way.
    pub(crate) fn throw_away(&self, path: &Path) {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let name = String::from_utf8_lossy(name).into_owned();
        for n in 0..64 {
            let to = self.root.join("trash").join(format!("{n}-{}-{name}", fresh_id()));
            match fs::rename(path, to) {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                _ => return,
            }
        }
    }

    /// What waits to be removed.
    pub(crate) fn trash(&self) -> Vec<PathBuf> {
        let dir = self.root.join("trash");
        names_in(&dir).into_iter().map(|name| dir.join(name)).collect()
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).collect()
}

/// Whether an open file is still what the path leads to.
fn same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// 128 random bits as a word.
pub(crate) fn fresh_id() -> String {
    let mut bytes = [0; 16];
    // The kernel's generator fails only before it is seeded, when nothing runs yet.
    if getrandom::fill(&mut bytes).is_err() {
        bytes[..4].copy_from_slice(&std::process::id().to_ne_bytes());
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_live_as_long_as_they_are_referred_to() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.begin_layer("l", "a").unwrap();
        store.refer("l", "b").unwrap();
        store.release("l", "a");
        assert!(store.layer("l").exists());
        store.release("l", "b");
        assert!(!store.layer("l").exists());
        assert_eq!(store.trash().len(), 1);
        assert!(store.refer("l", "c").is_err(), "the dead stay dead");
    }

    #[test]
    fn slots_are_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (a, b) = (store.take_slot("a", 9, &[]).unwrap(), store.take_slot("b", 9, &[]).unwrap());
        assert_ne!(a, b);
        store.free_slot(a, "b");
        assert_eq!(store.slots().len(), 2, "only its owner gives it back");
        store.free_slot(a, "a");
        assert_eq!(store.slots(), [(b, "b".into())]);
    }

    #[test]
    fn a_name_belongs_to_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let name = Name::new("x").unwrap();
        let (one, lock) = store.stage("1").unwrap();
        let (two, _other) = store.stage("2").unwrap();
        assert!(store.names().unwrap().is_empty(), "staged ones are nobody's");
        store.reveal(&one, &name).unwrap();
        assert!(matches!(store.reveal(&two, &name), Err(Error::AlreadyExists { .. })));
        assert!(store.try_lock(&name).unwrap().is_none());
        drop(lock);
        assert!(store.try_lock(&name).unwrap().is_some());
    }
}
