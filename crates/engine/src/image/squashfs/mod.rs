//! Squashfs 4.0 file systems, as image servers give them: gzip, xz and zstd.
//! Read in bounded memory and without belief in any number in them.
//!
//! A reader of our own: it knows extended attributes and hard links, which
//! images have and an image's programs miss.

mod blocks;
mod directory;
mod file;
mod inode;
mod meta;
mod xattrs;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use pixels_guest_api::tree::{Entry, Kind};

use self::blocks::Unpacker;
use self::directory::Child;
use self::file::Content;
use self::inode::{Inode, What};
use self::meta::{Cursor, Meta};
use super::sink::{TreeSink, bad, broken, truncated};

/// Where a file system is read from.
pub(crate) trait ReadAt {
    /// Fills `buf` from the offset, or fails.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buf, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => truncated("the squashfs"),
            _ => e,
        })
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|at| self.get(at..));
        let bytes = from.and_then(|from| from.get(..buf.len()));
        buf.copy_from_slice(bytes.ok_or_else(|| truncated("the squashfs"))?);
        Ok(())
    }
}

/// The table that is not there.
const NONE: u64 = u64::MAX;
const SUPERBLOCK: usize = 96;

/// An opened file system.
struct Squashfs<'a> {
    source: &'a dyn ReadAt,
    unpacker: Unpacker,
    meta: Meta,
    block_size: u32,
    ids: (u64, u16),
    inodes: u64,
    directories: u64,
    fragments: (u64, u32),
    xattrs: u64,
    root: u64,
    /// Fragment blocks last used: small files share one.
    kept: Vec<(u64, std::sync::Arc<Vec<u8>>)>,
}

/// Reads a whole file system into `sink`. `read` is told how many bytes of the
/// source have been used, as far as that is known.
///
/// # Errors
/// What is wrong with it; what `sink` says.
pub(crate) fn unpack(
    source: &dyn ReadAt,
    sink: &mut TreeSink<'_>,
    read: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut fs = Squashfs::open(source)?;
    let mut walk = Walk { links: HashMap::new(), seen: HashSet::new() };
    let reference = fs.root;
    let root = fs.inode(reference)?;
    let children = walk.directory(&mut fs, b"", &root, reference, sink)?;
    let mut todo = vec![(Vec::new(), children.into_iter())];
    while let Some((parent, children)) = todo.last_mut() {
        let Some(child) = children.next() else {
            todo.pop();
            continue;
        };
        let mut path = parent.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&child.name);
        let inode = fs.inode(child.inode).map_err(|e| named(&path, &e))?;
        if matches!(inode.what, What::Dir { .. }) {
            let inner = walk
                .directory(&mut fs, &path, &inode, child.inode, sink)
                .map_err(|e| named(&path, &e))?;
            todo.push((path, inner.into_iter()));
        } else {
            walk.other(&mut fs, &path, &inode, sink, read).map_err(|e| named(&path, &e))?;
        }
    }
    Ok(())
}

fn named(path: &[u8], e: &io::Error) -> io::Error {
    let text = e.to_string();
    match e.kind() {
        io::ErrorKind::InvalidData if !text.starts_with("entry ") => bad(path, &text),
        _ => io::Error::new(e.kind(), text),
    }
}

struct Walk {
    /// First path of inodes that have several.
    links: HashMap<u32, Vec<u8>>,
    /// Directories that have been entered: none is in two places.
    seen: HashSet<u64>,
}

impl Walk {
    fn directory(
        &mut self,
        fs: &mut Squashfs<'_>,
        path: &[u8],
        inode: &Inode,
        reference: u64,
        sink: &mut TreeSink<'_>,
    ) -> io::Result<Vec<Child>> {
        let What::Dir { listing, size } = &inode.what else {
            return Err(broken("the root is no directory"));
        };
        if !self.seen.insert(reference) {
            return Err(broken("a directory is in two places"));
        }
        sink.entry(&fs.entry(path, inode, Kind::Dir)?)?;
        fs.children(*listing, *size, sink.left().entries)
    }

    fn other(
        &mut self,
        fs: &mut Squashfs<'_>,
        path: &[u8],
        inode: &Inode,
        sink: &mut TreeSink<'_>,
        read: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let kind = match &inode.what {
            What::Symlink { target } => Kind::Symlink { target: target.clone() },
            What::Fifo => Kind::Fifo,
            What::Special => Kind::Special,
            What::Dir { .. } => return Err(broken("a directory where a file was expected")),
            What::File(content) => {
                if inode.links > 1 {
                    if let Some(first) = self.links.get(&inode.number) {
                        let kind = Kind::Hardlink { target: first.clone() };
                        return sink.entry(&fs.entry(path, inode, kind)?);
                    }
                    self.links.insert(inode.number, path.to_vec());
                }
                if content.size > sink.left().bytes {
                    return Err(broken("the image has more bytes than it may have"));
                }
                let entry = fs.entry(path, inode, Kind::File { size: content.size })?;
                let mut reader = Content::new(fs, content, read);
                return sink.file(&entry, &mut reader);
            }
        };
        sink.entry(&fs.entry(path, inode, kind)?)
    }
}

impl<'a> Squashfs<'a> {
    fn open(source: &'a dyn ReadAt) -> io::Result<Self> {
        let mut head = [0; SUPERBLOCK];
        source.read_at(&mut head, 0)?;
        let u16_at = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if &head[..4] != b"hsqs" {
            return Err(broken("it is no squashfs"));
        }
        if (u16_at(28), u16_at(30)) != (4, 0) {
            return Err(broken("it is a squashfs of another version than 4.0"));
        }
        let block_size = u32_at(12);
        let right = block_size.is_power_of_two() && (4096..=1 << 20).contains(&block_size);
        if !right || block_size.trailing_zeros() != u32::from(u16_at(22)) {
            return Err(broken("the squashfs has an impossible block size"));
        }
        Ok(Self {
            source,
            unpacker: Unpacker::new(u16_at(20))?,
            meta: Meta::default(),
            block_size,
            ids: (u64_at(48), u16_at(26)),
            inodes: u64_at(64),
            directories: u64_at(72),
            fragments: (u64_at(80), u32_at(16)),
            xattrs: u64_at(56),
            root: u64_at(32),
            kept: Vec::new(),
        })
    }

    /// Bytes of metadata, from the cursor on.
    fn take(&mut self, cursor: &mut Cursor, buf: &mut [u8]) -> io::Result<()> {
        self.meta.take(self.source, &mut self.unpacker, cursor, buf)
    }

    fn array<const N: usize>(&mut self, cursor: &mut Cursor) -> io::Result<[u8; N]> {
        let mut out = [0; N];
        self.take(cursor, &mut out)?;
        Ok(out)
    }

    fn u16(&mut self, cursor: &mut Cursor) -> io::Result<u16> {
        self.array(cursor).map(u16::from_le_bytes)
    }

    fn u32(&mut self, cursor: &mut Cursor) -> io::Result<u32> {
        self.array(cursor).map(u32::from_le_bytes)
    }

    fn u64(&mut self, cursor: &mut Cursor) -> io::Result<u64> {
        self.array(cursor).map(u64::from_le_bytes)
    }

    /// The cursor at record `index` of a table that is found through a list of
    /// the blocks that hold it.
    fn table(&self, list: u64, index: u64, record: u64) -> io::Result<Cursor> {
        let at = index * record;
        let mut pointer = [0; 8];
        let slot = list.checked_add(at / meta::BLOCK as u64 * 8);
        self.source.read_at(&mut pointer, slot.ok_or_else(meta::out_of_range)?)?;
        Ok(Cursor::new(u64::from_le_bytes(pointer), at as usize % meta::BLOCK))
    }

    fn id(&mut self, index: u16) -> io::Result<u32> {
        let (list, count) = self.ids;
        if index >= count {
            return Err(broken("an owner is not in the table"));
        }
        let mut cursor = self.table(list, u64::from(index), 4)?;
        self.u32(&mut cursor)
    }

    fn entry(&mut self, path: &[u8], inode: &Inode, kind: Kind) -> io::Result<Entry> {
        let xattrs = match inode.xattrs {
            Some(index) if !matches!(kind, Kind::Symlink { .. } | Kind::Hardlink { .. }) => {
                self.xattrs(index)?
            }
            _ => Vec::new(),
        };
        Ok(Entry {
            path: path.to_vec(),
            kind,
            mode: u32::from(inode.mode) & 0o7777,
            uid: self.id(inode.uid)?,
            gid: self.id(inode.gid)?,
            mtime: i64::from(inode.mtime),
            nanos: 0,
            xattrs,
        })
    }
}
