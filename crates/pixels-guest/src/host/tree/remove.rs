//! Removes a tree. Directories are moved up to the top as they are found, so
//! depth costs nothing.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::walk::Dir;
use crate::sys::trees;

/// How often a directory may turn out to have been filled by somebody else who
/// removes the same tree.
const TRIES: usize = 100;

/// Removes a directory and all that is in it; one that is missing is removed
/// already, and so is what goes meanwhile: two programs may be at it at once.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        match once(path) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            done => return gone(done).map(drop),
        }
    }
    once(path)
}

/// What is not there any more is no error.
fn gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn once(path: &Path) -> io::Result<()> {
    let top = match Dir::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::ENOTDIR) => return fs::remove_file(path),
        top => top?,
    };
    let mut number = 0u64;
    let mut waiting = vec![std::ffi::OsString::from(".")];
    while let Some(name) = waiting.pop() {
        let Some(dir) = gone(Dir::open(&top.at(&name)))? else { continue };
        for entry in dir.names()? {
            let at = dir.at(&entry);
            let Some(meta) = gone(fs::symlink_metadata(&at))? else { continue };
            if !meta.is_dir() {
                gone(fs::remove_file(&at))?;
                continue;
            }
            if meta.ino() == trees::SUBVOLUME_ROOT
                && trees::magic(&dir.path())? == trees::BTRFS
                && trees::remove_subvolume(dir.fd(), entry.as_bytes()).is_ok()
            {
                continue;
            }
            if name == "." {
                waiting.push(entry);
                continue;
            }
            // An empty one need not move.
            if fs::remove_dir(&at).is_ok() {
                continue;
            }
            let up = loop {
                number += 1;
                let up = std::ffi::OsString::from(format!(".up-{number}"));
                if fs::symlink_metadata(top.at(&up)).is_err() {
                    break up;
                }
            };
            match fs::rename(&at, top.at(&up)) {
                Ok(()) => waiting.push(up),
                // The root of another subvolume cannot be crossed: it goes as it is.
                Err(_) => remove(&at)?,
            }
        }
        if name != "." {
            gone(fs::remove_dir(top.at(&name)))?;
        }
    }
    drop(top);
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_links_are_no_matter() {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        fs::create_dir(&canary).unwrap();
        fs::write(canary.join("file"), "here").unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        std::os::unix::fs::symlink(&canary, top.join("link")).unwrap();
        fs::create_dir(top.join(".up-1")).unwrap();
        fs::write(top.join(".up-1/x"), "").unwrap();
        // Deeper than a path can be.
        let mut here = Dir::open(&top).unwrap();
        for _ in 0..3000 {
            let next = here.at("directory".as_ref());
            fs::create_dir(&next).unwrap();
            here = Dir::open(&next).unwrap();
        }
        fs::write(here.at("file".as_ref()), "deep").unwrap();
        drop(here);
        remove(&top).unwrap();
        assert!(!top.exists());
        assert_eq!(fs::read(canary.join("file")).unwrap(), b"here");
        remove(&top).unwrap();
    }
}
