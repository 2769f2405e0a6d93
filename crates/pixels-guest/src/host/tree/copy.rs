//! Copies a writable layer, also of a pixel that runs: it is frozen meanwhile,
//! so that the copy is of one moment.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown,
};
use std::path::{Path, PathBuf};

use super::super::fail;
use super::freeze::Frozen;
use super::walk::{self, Dir};
use super::{empty, remove};
use crate::sys::trees;

/// What to copy.
pub(crate) struct Plan {
    /// The layer's directory, with `tree` in it.
    pub(crate) from: PathBuf,
    /// The directory to make.
    pub(crate) to: PathBuf,
    /// Added to every id.
    pub(crate) shift: i64,
    /// Whether content may be shared.
    pub(crate) reflink: bool,
    /// Whether a snapshot may be made of a subvolume.
    pub(crate) subvolumes: bool,
    /// Control groups to freeze.
    pub(crate) freeze: Vec<PathBuf>,
}

/// Copies; answers the bytes of content.
pub(crate) fn copy(plan: &Plan) -> io::Result<u64> {
    walk::allow_depth();
    if plan.subvolumes && plan.shift == 0 && snapshot(plan)? {
        return Ok(0);
    }
    empty::make(&plan.to, plan.subvolumes)?;
    let (tree, work) = (plan.to.join("tree"), plan.to.join("work"));
    DirBuilder::new().mode(0o700).create(&tree)?;
    DirBuilder::new().mode(0o755).create(work)?;
    let mut copier =
        Copier::new(plan.shift, if plan.reflink { Content::Share } else { Content::Copy });
    let frozen = Frozen::freeze(&plan.freeze)?;
    fail::at("tree-frozen");
    let done = copier.tree(&plan.from.join("tree"), &tree);
    fail::at("tree-copied");
    drop(frozen);
    done?;
    own(&plan.to, &plan.from, plan.shift)?;
    // A layer that nothing ever wrote to has none.
    let work = plan.from.join("work");
    let like = if work.is_dir() { work } else { plan.from.join("tree") };
    own(&plan.to.join("work"), &like, plan.shift)?;
    Ok(copier.bytes)
}

/// Whether the layer is a subvolume and the copy a snapshot of it.
fn snapshot(plan: &Plan) -> io::Result<bool> {
    use std::os::unix::ffi::OsStrExt;
    let (Some(parent), Some(name)) = (plan.to.parent(), plan.to.file_name()) else {
        return Ok(false);
    };
    let from = Dir::open(&plan.from)?;
    let here = from.metadata()?.ino() == trees::SUBVOLUME_ROOT;
    if !here || trees::magic(&plan.from)? != trees::BTRFS {
        return Ok(false);
    }
    let frozen = Frozen::freeze(&plan.freeze)?;
    let made = trees::snapshot(from.fd(), Dir::open(parent)?.fd(), name.as_bytes());
    drop(frozen);
    made?;
    // The overlay's own notes in it are about the source.
    let work = plan.to.join("work");
    let meta = fs::symlink_metadata(&work)?;
    remove::remove(&work)?;
    DirBuilder::new().mode(0o755).create(&work)?;
    lchown(&work, Some(meta.uid()), Some(meta.gid()))?;
    Ok(true)
}

fn own(path: &Path, like: &Path, shift: i64) -> io::Result<()> {
    let meta = fs::symlink_metadata(like)?;
    lchown(path, Some(moved(meta.uid(), shift)?), Some(moved(meta.gid(), shift)?))
}

fn moved(id: u32, shift: i64) -> io::Result<u32> {
    u32::try_from(i64::from(id) + shift).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// How the content of files gets to the other side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Its bytes.
    Copy,
    /// Shared where the file system can, else its bytes.
    Share,
    /// The file itself under another name, where it can have one there.
    Link,
}

/// Copies entries of overlay layers with all that belongs to them.
pub(crate) struct Copier {
    shift: i64,
    content: Content,
    /// Files with several names: the copy of the first one.
    names: HashMap<(u64, u64), File>,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

impl Copier {
    pub(crate) fn new(shift: i64, content: Content) -> Self {
        Self { shift, content, names: HashMap::new(), bytes: 0, entries: 0 }
    }

    /// Copies what is in a directory into one that exists, and its attributes last.
    pub(crate) fn tree(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (Dir::open(from)?, Dir::open(to)?);
        let names = from.names()?;
        let mut stack = vec![(from, to, names)];
        while let Some((from, to, names)) = stack.last_mut() {
            let Some(name) = names.pop() else {
                let (from, to) = (from.path(), to.path());
                // Last, because every name made in it changes its times.
                self.attributes(&from, &to, &fs::symlink_metadata(&from)?)?;
                stack.pop();
                continue;
            };
            let (source, target) = (from.at(&name), to.at(&name));
            let meta = fs::symlink_metadata(&source)?;
            if meta.is_dir() {
                self.entries += 1;
                DirBuilder::new().mode(0o700).create(&target)?;
                let (from, to) = (Dir::open(&source)?, Dir::open(&target)?);
                let names = from.names()?;
                stack.push((from, to, names));
            } else {
                self.file(&source, &target, &meta)?;
            }
        }
        Ok(())
    }

    /// Copies anything but a directory.
    pub(crate) fn file(&mut self, from: &Path, to: &Path, meta: &fs::Metadata) -> io::Result<()> {
        self.entries += 1;
        let kind = meta.file_type();
        if self.content == Content::Link && fs::hard_link(from, to).is_ok() {
            return Ok(());
        }
        let several = kind.is_file() && meta.nlink() > 1;
        if several && let Some(first) = self.names.get(&(meta.dev(), meta.ino())) {
            return trees::link_open(first.as_raw_fd(), to);
        }
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
        } else if kind.is_file() {
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let source = File::options().read(true).custom_flags(flags).open(from)?;
            let target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
            self.bytes += content(&source, &target, self.content != Content::Copy)?;
            if several {
                self.names.insert((meta.dev(), meta.ino()), target);
            }
        } else if kind.is_char_device() && meta.rdev() == 0 {
            trees::make_node(to, libc::S_IFCHR, 0)?;
        } else if kind.is_fifo() || kind.is_socket() {
            trees::make_node(to, meta.mode() & libc::S_IFMT | 0o600, 0)?;
        } else {
            // A device: no pixel can have made it, and none can use it.
            return Ok(());
        }
        self.attributes(from, to, meta)
    }

    /// Owner, mode, extended attributes and times. The owner first: changing it
    /// takes setuid bits and capabilities away.
    pub(crate) fn attributes(&self, from: &Path, to: &Path, meta: &fs::Metadata) -> io::Result<()> {
        let (uid, gid) = (moved(meta.uid(), self.shift)?, moved(meta.gid(), self.shift)?);
        lchown(to, Some(uid), Some(gid))?;
        if !meta.is_symlink() {
            fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
        }
        match trees::attributes(from) {
            Ok(names) => {
                for name in names {
                    let value = trees::attribute(from, &name)?;
                    match trees::set_attribute(to, &name, &value) {
                        // What only the host may set (labels of its security
                        // modules) is the host's.
                        Err(e)
                            if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOTSUP))
                                && !name.to_bytes().starts_with(b"user.") => {}
                        other => other?,
                    }
                }
            }
            Err(e) if e.raw_os_error() == Some(libc::ENOTSUP) => {}
            Err(e) => return Err(e),
        }
        let access = (meta.atime(), meta.atime_nsec());
        trees::set_times(to, access, (meta.mtime(), meta.mtime_nsec()))
    }
}

/// Copies a file's content, holes staying holes. Answers its bytes.
fn content(from: &File, to: &File, share: bool) -> io::Result<u64> {
    let len = from.metadata()?.len();
    if share && trees::share_content(from.as_raw_fd(), to.as_raw_fd()).is_ok() {
        return Ok(0);
    }
    to.set_len(len)?;
    let (mut at, mut bytes) = (0, 0);
    while at < len {
        let Some((start, end)) = trees::next_data(from.as_raw_fd(), at)? else { break };
        at = start;
        while at < end {
            match trees::copy_range(from.as_raw_fd(), to.as_raw_fd(), at, end - at)? {
                0 => return Ok(bytes),
                n => {
                    at += n;
                    bytes += n;
                }
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn everything_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let tree = from.join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::create_dir(from.join("work")).unwrap();
        fs::write(tree.join("sub/a"), "content").unwrap();
        fs::hard_link(tree.join("sub/a"), tree.join("b")).unwrap();
        symlink("/nowhere", tree.join("link")).unwrap();
        let sparse = File::create(tree.join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        fs::set_permissions(tree.join("sub/a"), fs::Permissions::from_mode(0o4711)).unwrap();
        trees::make_node(&tree.join("fifo"), libc::S_IFIFO | 0o640, 0).unwrap();
        trees::set_attribute(&tree.join("sub"), c"user.overlay.opaque", b"y").unwrap();
        trees::set_times(&tree.join("link"), (5, 0), (7, 9)).unwrap();
        let plan = Plan {
            from: from.clone(),
            to: to.clone(),
            shift: 0,
            reflink: true,
            subvolumes: false,
            freeze: vec![],
        };
        copy(&plan).unwrap();
        let tree = to.join("tree");
        assert_eq!(fs::read(tree.join("b")).unwrap(), b"content");
        let (a, b) = (tree.join("sub/a"), tree.join("b"));
        let (a, b) = (fs::metadata(a).unwrap(), fs::metadata(b).unwrap());
        assert_eq!((a.ino(), a.mode() & 0o7777), (b.ino(), 0o4711));
        assert_eq!(fs::read_link(tree.join("link")).unwrap(), Path::new("/nowhere"));
        assert_eq!(fs::symlink_metadata(tree.join("link")).unwrap().mtime_nsec(), 9);
        let sparse = fs::metadata(tree.join("sparse")).unwrap();
        assert_eq!((sparse.len(), sparse.blocks()), (1 << 40, 0));
        assert!(fs::symlink_metadata(tree.join("fifo")).unwrap().file_type().is_fifo());
        assert_eq!(trees::attribute(&tree.join("sub"), c"user.overlay.opaque").unwrap(), b"y");
        assert!(to.join("work").is_dir());
    }
}
