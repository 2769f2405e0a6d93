//! Inodes: seven kinds, each in a basic and an extended form.

use std::io;

use pixels_guest_api::tree::MAX_PATH;

use super::super::sink::broken;
use super::Squashfs;
use super::meta::Cursor;

/// What a file system says of one file.
pub(crate) struct Inode {
    pub(crate) mode: u16,
    /// Owner and group: places in the table of ids.
    pub(crate) uid: u16,
    pub(crate) gid: u16,
    pub(crate) mtime: u32,
    pub(crate) number: u32,
    pub(crate) links: u32,
    /// A place in the table of extended attributes.
    pub(crate) xattrs: Option<u32>,
    pub(crate) what: What,
}

/// What it is.
pub(crate) enum What {
    /// A directory: where its listing is, and its length.
    Dir {
        listing: Cursor,
        size: u32,
    },
    File(Stored),
    Symlink {
        target: Vec<u8>,
    },
    Fifo,
    /// A device or socket.
    Special,
}

/// Where a file's content is.
pub(crate) struct Stored {
    pub(crate) size: u64,
    /// Offset of the first full block in the source.
    pub(crate) start: u64,
    /// The fragment that has the end, and where in it that begins.
    pub(crate) fragment: Option<(u32, u32)>,
    /// The sizes of the full blocks.
    pub(crate) blocks: Cursor,
}

const NO_FRAGMENT: u32 = u32::MAX;
const NO_XATTRS: u32 = u32::MAX;

impl Squashfs<'_> {
    /// The inode at a reference.
    pub(crate) fn inode(&mut self, reference: u64) -> io::Result<Inode> {
        let at = &mut Cursor::of_reference(self.inodes, reference)?;
        let kind = self.u16(at)?;
        let (mode, uid, gid) = (self.u16(at)?, self.u16(at)?, self.u16(at)?);
        let (mtime, number) = (self.u32(at)?, self.u32(at)?);
        let (mut links, mut xattrs) = (1, NO_XATTRS);
        let what = match kind {
            1 => {
                let block = self.u32(at)?;
                links = self.u32(at)?;
                let (size, offset) = (self.u16(at)?, self.u16(at)?);
                self.dir(block, offset, u32::from(size))?
            }
            8 => {
                links = self.u32(at)?;
                let (size, block) = (self.u32(at)?, self.u32(at)?);
                let _parent = self.u32(at)?;
                let (_index, offset) = (self.u16(at)?, self.u16(at)?);
                xattrs = self.u32(at)?;
                self.dir(block, offset, size)?
            }
            2 => {
                let (start, fragment) = (self.u32(at)?, self.u32(at)?);
                let (offset, size) = (self.u32(at)?, self.u32(at)?);
                file(u64::from(start), u64::from(size), fragment, offset, *at)
            }
            9 => {
                let (start, size, _sparse) = (self.u64(at)?, self.u64(at)?, self.u64(at)?);
                links = self.u32(at)?;
                let (fragment, offset) = (self.u32(at)?, self.u32(at)?);
                xattrs = self.u32(at)?;
                file(start, size, fragment, offset, *at)
            }
            3 | 10 => {
                links = self.u32(at)?;
                let len = self.u32(at)? as usize;
                if len > MAX_PATH {
                    return Err(broken("a link's target is longer than 4095 bytes"));
                }
                let mut target = vec![0; len];
                self.take(at, &mut target)?;
                What::Symlink { target }
            }
            6 | 13 => What::Fifo,
            4 | 5 | 7 | 11 | 12 | 14 => What::Special,
            _ => return Err(broken("an inode of an unknown kind")),
        };
        let xattrs = (xattrs != NO_XATTRS).then_some(xattrs);
        Ok(Inode { mode, uid, gid, mtime, number, links, xattrs, what })
    }

    fn dir(&self, block: u32, offset: u16, size: u32) -> io::Result<What> {
        let block = self.directories.checked_add(u64::from(block));
        let block = block.ok_or_else(super::meta::out_of_range)?;
        // `.` and `..` are counted and not stored.
        let size = size.saturating_sub(3);
        Ok(What::Dir { listing: Cursor::new(block, usize::from(offset)), size })
    }
}

fn file(start: u64, size: u64, fragment: u32, offset: u32, blocks: Cursor) -> What {
    let fragment = (fragment != NO_FRAGMENT).then_some((fragment, offset));
    What::File(Stored { size, start, fragment, blocks })
}
