//! Makes one layer of several, as the overlay shows them stacked on whatever is
//! below the lowest. Files get a second name in it: no content is copied.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::copy::{Content, Copier};
use super::remove;
use super::walk::{self, Dir};
use crate::sys::trees;

const OPAQUE: &std::ffi::CStr = c"user.overlay.opaque";

/// Merges the trees, the lowest first, into a new layer's directory. Answers the
/// entries that were looked at.
pub(crate) fn merge(from: &[PathBuf], to: &Path) -> io::Result<u64> {
    walk::allow_depth();
    let (lowest, others) = from.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().mode(0o755).create(to)?;
    let (tree, work) = (to.join("tree"), to.join("work"));
    DirBuilder::new().mode(0o700).create(&tree)?;
    DirBuilder::new().mode(0o755).create(work)?;
    let mut copier = Copier::new(0, Content::Link);
    copier.tree(lowest, &tree)?;
    for layer in others {
        lay_over(&mut copier, layer, &tree)?;
    }
    Ok(copier.entries)
}

/// Puts one layer over what is there.
fn lay_over(copier: &mut Copier, layer: &Path, onto: &Path) -> io::Result<()> {
    let (from, to) = (Dir::open(layer)?, Dir::open(onto)?);
    let names = from.names()?;
    let mut stack = vec![(from, to, names)];
    while let Some((from, to, names)) = stack.last_mut() {
        let Some(name) = names.pop() else {
            let (from, to) = (from.path(), to.path());
            copier.attributes(&from, &to, &fs::symlink_metadata(&from)?)?;
            stack.pop();
            continue;
        };
        let (source, target) = (from.at(&name), to.at(&name));
        let meta = fs::symlink_metadata(&source)?;
        let there = fs::symlink_metadata(&target).ok();
        if !meta.is_dir() {
            // A whiteout stays one: it also hides what is below the lowest.
            clear(&target, there.as_ref())?;
            copier.file(&source, &target, &meta)?;
            continue;
        }
        copier.entries += 1;
        let opaque = is_opaque(&source);
        // What was no directory hid everything below its name, and so did a
        // whiteout: the directory that came back shows nothing of it.
        let hid = there.as_ref().is_some_and(|t| !t.is_dir());
        if hid || (opaque && there.is_some()) {
            clear(&target, there.as_ref())?;
        }
        if hid || opaque || there.is_none() {
            DirBuilder::new().mode(0o700).create(&target)?;
        }
        if hid && !opaque {
            trees::set_attribute(&target, OPAQUE, b"y")?;
        }
        let (from, to) = (Dir::open(&source)?, Dir::open(&target)?);
        let names = from.names()?;
        stack.push((from, to, names));
    }
    Ok(())
}

fn is_opaque(path: &Path) -> bool {
    trees::attribute(path, OPAQUE).is_ok_and(|v| v == b"y")
}

fn clear(path: &Path, there: Option<&fs::Metadata>) -> io::Result<()> {
    match there {
        None => Ok(()),
        Some(meta) if meta.is_dir() => remove::remove(path),
        Some(_) => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn layers_become_one() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str, files: &[(&str, &str)], gone: &[&str], opaque: &[&str]| {
            let tree = dir.path().join(name);
            fs::create_dir(&tree).unwrap();
            for (path, content) in files {
                let path = tree.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            for path in gone {
                let path = tree.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                trees::make_node(&path, libc::S_IFCHR, 0).unwrap();
            }
            for path in opaque {
                fs::create_dir_all(tree.join(path)).unwrap();
                trees::set_attribute(&tree.join(path), OPAQUE, b"y").unwrap();
            }
            tree
        };
        let layers = [
            layer("1", &[("a", "1"), ("d/x", "1"), ("d/y", "1"), ("e/z", "1")], &["below"], &[]),
            layer("2", &[("a", "2"), ("d/new", "2")], &["d/x", "e"], &[]),
            layer("3", &[("e/again", "3"), ("below/back", "3")], &[], &["d"]),
        ];
        let to = dir.path().join("merged");
        merge(&layers, &to).unwrap();
        let tree = to.join("tree");
        assert_eq!(fs::read(tree.join("a")).unwrap(), b"2");
        assert!(is_opaque(&tree.join("d")) && !tree.join("d/y").exists());
        assert!(!tree.join("d/new").exists(), "it was below the opaque one");
        assert!(is_opaque(&tree.join("e")) && !tree.join("e/z").exists());
        assert_eq!(fs::read(tree.join("e/again")).unwrap(), b"3");
        assert!(is_opaque(&tree.join("below")), "what it hid below stays hidden");
        let meta = fs::symlink_metadata(tree.join("a")).unwrap();
        assert!(meta.is_file() && meta.nlink() > 1, "no content was copied");
    }
}
