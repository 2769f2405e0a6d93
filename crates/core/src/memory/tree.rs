//! Files as byte strings in a tree. Paths are bytes; links are followed in here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::ROOT;
use crate::{Bytes, DirEntry, Error, FileKind, FileStat, Owner, Result, What, WriteOpts, text};

/// How many links a path may lead through, as Linux has it.
const MAX_LINKS: usize = 40;

/// A file tree. Copies share file contents.
#[derive(Clone)]
pub(super) struct Tree(Node);

#[derive(Clone)]
struct Node {
    body: Body,
    mode: u32,
    owner: Owner,
    mtime: u64,
}

#[derive(Clone)]
enum Body {
    File(Arc<Vec<u8>>),
    Dir(BTreeMap<Bytes, Node>),
    Link(Bytes),
    Special,
}

/// A path after links and dots: each component a name.
type Place = Vec<Bytes>;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn missing(path: &[u8]) -> Error {
    Error::not_found(What::Path, String::from_utf8_lossy(path))
}

fn taken(path: &[u8]) -> Error {
    Error::exists(What::Path, String::from_utf8_lossy(path))
}

fn wrong(path: &[u8], rule: &str) -> Error {
    Error::invalid("path", &text::clean_bytes(path), rule)
}

impl Node {
    fn new(body: Body, mode: u32) -> Self {
        Self { body, mode, owner: ROOT, mtime: now() }
    }

    fn stat(&self) -> FileStat {
        let (kind, size) = match &self.body {
            Body::File(content) => (FileKind::File, content.len() as u64),
            Body::Dir(_) => (FileKind::Dir, 0),
            Body::Link(target) => (FileKind::Symlink, target.len() as u64),
            Body::Special => (FileKind::Special, 0),
        };
        FileStat { kind, size, mode: self.mode, owner: self.owner, mtime: self.mtime }
    }

    /// Bytes of the files below whose content nothing else shares.
    fn own_bytes(&self) -> u64 {
        match &self.body {
            Body::File(content) if Arc::strong_count(content) == 1 => content.len() as u64,
            Body::Dir(names) => names.values().map(Self::own_bytes).sum(),
            _ => 0,
        }
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        Self(Node::new(Body::Dir(BTreeMap::new()), 0o755))
    }

    /// Bytes that this tree alone holds.
    pub(super) fn own_bytes(&self) -> u64 {
        self.0.own_bytes()
    }

    /// Where `path` leads: its parent exists and is a directory, it itself need not.
    fn resolve(&self, path: &[u8], follow: bool) -> Result<Place> {
        if path.first() != Some(&b'/') || path.contains(&0) {
            return Err(wrong(path, "a path inside a pixel is absolute and has no NUL"));
        }
        let mut links = 0;
        let mut place = Place::new();
        // The components still to walk, the next one last.
        let mut todo: Vec<Bytes> = components(path).rev().collect();
        while let Some(part) = todo.pop() {
            if part == b".." {
                place.pop();
                continue;
            }
            let Some(dir) = self.at(&place) else { return Err(missing(path)) };
            let Body::Dir(names) = &dir.body else {
                return Err(wrong(path, "a part of it is not a directory"));
            };
            if let Some(Body::Link(target)) = names.get(&part).map(|n| &n.body)
                && (follow || !todo.is_empty())
            {
                links += 1;
                if links > MAX_LINKS {
                    return Err(wrong(path, "it leads through too many links"));
                }
                if target.first() == Some(&b'/') {
                    place.clear();
                }
                todo.extend(components(target).rev());
                continue;
            }
            place.push(part);
        }
        Ok(place)
    }

    fn at(&self, place: &[Bytes]) -> Option<&Node> {
        place.iter().try_fold(&self.0, |node, part| match &node.body {
            Body::Dir(names) => names.get(part),
            _ => None,
        })
    }

    fn at_mut(&mut self, place: &[Bytes]) -> Option<&mut Node> {
        place.iter().try_fold(&mut self.0, |node, part| match &mut node.body {
            Body::Dir(names) => names.get_mut(part),
            _ => None,
        })
    }

    fn node(&self, path: &[u8], follow: bool) -> Result<&Node> {
        self.at(&self.resolve(path, follow)?).ok_or_else(|| missing(path))
    }

    /// The names beside `place`, and its own.
    fn siblings<'a>(
        &mut self,
        place: &'a [Bytes],
        path: &[u8],
    ) -> Result<(&mut BTreeMap<Bytes, Node>, &'a Bytes)> {
        let Some((name, dir)) = place.split_last() else {
            return Err(wrong(path, "it is the root directory"));
        };
        match self.at_mut(dir).map(|n| &mut n.body) {
            Some(Body::Dir(names)) => Ok((names, name)),
            _ => Err(missing(path)),
        }
    }

    pub(super) fn stat(&self, path: &[u8], follow: bool) -> Result<FileStat> {
        self.node(path, follow).map(Node::stat)
    }

    pub(super) fn read(&self, path: &[u8]) -> Result<(FileStat, Arc<Vec<u8>>)> {
        let node = self.node(path, true)?;
        match &node.body {
            Body::File(content) => Ok((node.stat(), Arc::clone(content))),
            _ => Err(wrong(path, "it is not a regular file")),
        }
    }

    pub(super) fn read_dir(&self, path: &[u8]) -> Result<Vec<DirEntry>> {
        match &self.node(path, true)?.body {
            Body::Dir(names) => Ok(names
                .iter()
                .map(|(name, node)| DirEntry { name: name.clone(), stat: node.stat() })
                .collect()),
            _ => Err(wrong(path, "it is not a directory")),
        }
    }

    pub(super) fn read_link(&self, path: &[u8]) -> Result<Bytes> {
        match &self.node(path, false)?.body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(wrong(path, "it is not a symbolic link")),
        }
    }

    /// Replaces a file, or the one that a link at `path` points to.
    pub(super) fn write(&mut self, path: &[u8], content: Vec<u8>, opts: WriteOpts) -> Result<()> {
        let mut place = self.resolve(path, false)?;
        if let Some(Body::Link(target)) = self.at(&place).map(|n| &n.body) {
            let mut full = Vec::new();
            if target.first() != Some(&b'/') {
                for part in &place[..place.len() - 1] {
                    full.push(b'/');
                    full.extend_from_slice(part);
                }
                full.push(b'/');
            }
            full.extend_from_slice(target);
            place = self.resolve(&full, false)?;
        }
        let old = self.at(&place);
        if old.is_some_and(|n| !matches!(n.body, Body::File(_))) {
            return Err(wrong(path, "it is not a regular file"));
        }
        let node = Node {
            body: Body::File(Arc::new(content)),
            mode: opts.mode.or(old.map(|n| n.mode)).unwrap_or(0o644) & 0o7777,
            owner: opts.owner.or(old.map(|n| n.owner)).unwrap_or(ROOT),
            mtime: opts.mtime.unwrap_or_else(now),
        };
        let (names, name) = self.siblings(&place, path)?;
        names.insert(name.clone(), node);
        Ok(())
    }

    /// Makes an empty file, directory or special node where nothing is.
    pub(super) fn make(&mut self, path: &[u8], kind: FileKind, mode: u32) -> Result<()> {
        let body = match kind {
            FileKind::Dir => Body::Dir(BTreeMap::new()),
            FileKind::File => Body::File(Arc::default()),
            FileKind::Symlink => Body::Link(Bytes::new()),
            FileKind::Special => Body::Special,
        };
        self.insert(path, Node::new(body, mode & 0o7777))
    }

    pub(super) fn symlink(&mut self, target: &[u8], path: &[u8]) -> Result<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(wrong(target, "a link's target is not empty and has no NUL"));
        }
        self.insert(path, Node::new(Body::Link(target.to_vec()), 0o777))
    }

    fn insert(&mut self, path: &[u8], node: Node) -> Result<()> {
        let place = self.resolve(path, false)?;
        if self.at(&place).is_some() {
            return Err(taken(path));
        }
        let (names, name) = self.siblings(&place, path)?;
        names.insert(name.clone(), node);
        Ok(())
    }

    /// Changes the owner of what `path` itself is, a link not followed.
    pub(super) fn chown(&mut self, path: &[u8], owner: Option<Owner>) -> Result<()> {
        let place = self.resolve(path, false)?;
        let node = self.at_mut(&place).ok_or_else(|| missing(path))?;
        node.owner = owner.unwrap_or(node.owner);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        let (source, target) = (self.resolve(from, false)?, self.resolve(to, false)?);
        let moved = self.at(&source).ok_or_else(|| missing(from))?;
        if source == target {
            return Ok(());
        }
        if target.starts_with(&source) {
            return Err(wrong(to, "it is inside what is to be renamed"));
        }
        let is_dir = |node: &Node| matches!(node.body, Body::Dir(_));
        if self.at(&target).is_some_and(|there| is_dir(there) || is_dir(moved)) {
            return Err(taken(to));
        }
        // Asked first, so that nothing is lost if the target has no parent.
        self.siblings(&target, to)?;
        let (names, name) = self.siblings(&source, from)?;
        let Some(node) = names.remove(name) else { return Err(missing(from)) };
        let (names, name) = self.siblings(&target, to)?;
        names.insert(name.clone(), node);
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &[u8]) -> Result<()> {
        self.remove(path, |body| match body {
            Body::Dir(_) => Err(wrong(path, "it is a directory")),
            _ => Ok(()),
        })
    }

    pub(super) fn remove_dir(&mut self, path: &[u8]) -> Result<()> {
        self.remove(path, |body| match body {
            Body::Dir(names) if names.is_empty() => Ok(()),
            Body::Dir(_) => Err(wrong(path, "the directory is not empty")),
            _ => Err(wrong(path, "it is not a directory")),
        })
    }

    fn remove(&mut self, path: &[u8], check: impl Fn(&Body) -> Result<()>) -> Result<()> {
        let place = self.resolve(path, false)?;
        let (names, name) = self.siblings(&place, path)?;
        check(&names.get(name).ok_or_else(|| missing(path))?.body)?;
        names.remove(name);
        Ok(())
    }

    pub(super) fn set_attrs(&mut self, path: &[u8], opts: WriteOpts) -> Result<()> {
        let place = self.resolve(path, true)?;
        let node = self.at_mut(&place).ok_or_else(|| missing(path))?;
        node.mode = opts.mode.unwrap_or(node.mode) & 0o7777;
        node.owner = opts.owner.unwrap_or(node.owner);
        node.mtime = opts.mtime.unwrap_or(node.mtime);
        Ok(())
    }
}

/// The names in a path, without empty ones and dots.
fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Bytes> {
    path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::new();
        tree.make(b"/a", FileKind::Dir, 0o755).unwrap();
        tree.write(b"/a/f", b"x".to_vec(), WriteOpts::default()).unwrap();
        tree
    }

    #[test]
    fn links_lead_where_they_say_and_loops_end() {
        let mut t = tree();
        t.symlink(b"../a/./f", b"/a/l").unwrap();
        t.symlink(b"/a", b"/d").unwrap();
        assert_eq!(*t.read(b"/d/l").unwrap().1, b"x");
        t.write(b"/d/l", b"new".to_vec(), WriteOpts::default()).unwrap();
        assert_eq!(*t.read(b"/a/f").unwrap().1, b"new");
        assert_eq!(t.stat(b"/a/l", false).unwrap().kind, FileKind::Symlink);
        t.symlink(b"/loop", b"/loop").unwrap();
        assert_eq!(t.stat(b"/loop", true).unwrap_err().code(), "invalid");
        assert_eq!(t.stat(b"/../../a/f", true).unwrap().size, 3);
    }

    #[test]
    fn renames_keep_what_they_cannot_move() {
        let mut t = tree();
        assert!(t.rename(b"/a/f", b"/none/f").unwrap_err().is_not_found());
        assert!(t.rename(b"/a", b"/a/f/b").is_err());
        assert!(t.rename(b"/a/f", b"/a").unwrap_err().is_already_exists());
        assert!(t.stat(b"/a/f", true).is_ok());
        t.rename(b"/a/f", b"/g").unwrap();
        assert!(t.stat(b"/a/f", true).unwrap_err().is_not_found());
        assert_eq!(*t.read(b"/g").unwrap().1, b"x");
    }

    #[test]
    fn a_copy_shares_until_one_side_writes() {
        let mut t = tree();
        let copy = t.clone();
        assert_eq!(copy.own_bytes(), 0);
        t.write(b"/a/f", b"yy".to_vec(), WriteOpts::default()).unwrap();
        assert_eq!((copy.own_bytes(), t.own_bytes()), (1, 2));
    }
}
