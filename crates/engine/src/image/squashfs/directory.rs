//! Listings of directories: runs of names, each run with what they share.

use std::io;

use pixels_guest_api::tree::MAX_NAME;

use super::super::sink::broken;
use super::Squashfs;
use super::meta::Cursor;

/// A name in a directory.
pub(crate) struct Child {
    pub(crate) name: Vec<u8>,
    /// The reference of its inode.
    pub(crate) inode: u64,
}

/// The most names of a run.
const LONGEST_RUN: u32 = 256;

impl Squashfs<'_> {
    /// What is in a directory, `most` names at most.
    pub(crate) fn children(
        &mut self,
        mut at: Cursor,
        size: u32,
        most: u64,
    ) -> io::Result<Vec<Child>> {
        let at = &mut at;
        let mut left = size;
        let mut out = Vec::new();
        let mut spend = |n: u32| {
            left = left
                .checked_sub(n)
                .ok_or_else(|| broken("a directory is longer than announced"))?;
            Ok::<_, io::Error>(left)
        };
        let mut more = size > 0;
        while more {
            spend(12)?;
            let (count, block) = (self.u32(at)?, self.u32(at)?);
            let _first = self.u32(at)?;
            if count >= LONGEST_RUN {
                return Err(broken("a directory has an impossible run of names"));
            }
            for _ in 0..=count {
                let offset = self.u16(at)?;
                let (_number, _kind) = (self.u16(at)?, self.u16(at)?);
                let len = usize::from(self.u16(at)?) + 1;
                if len > MAX_NAME + 1 {
                    return Err(broken("a name is longer than 255 bytes"));
                }
                more = spend(8 + len as u32)? > 0;
                let mut name = vec![0; len];
                self.take(at, &mut name)?;
                if name.contains(&b'/') || name.contains(&0) || name == b"." || name == b".." {
                    let name = String::from_utf8_lossy(&name);
                    return Err(broken(format!("a directory has the impossible name {name:?}")));
                }
                if out.len() as u64 >= most {
                    return Err(broken("the image has more entries than it may have"));
                }
                out.push(Child { name, inode: u64::from(block) << 16 | u64::from(offset) });
            }
        }
        Ok(out)
    }
}
