//! Metadata: a sequence of packed blocks of 8 KiB, addressed by where a block
//! begins in the file and where in it, unpacked, something lies.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::super::sink::broken;
use super::ReadAt;
use super::blocks::Unpacker;

/// What a block unpacks to at most.
pub(crate) const BLOCK: usize = 8192;
/// Unpacked blocks that are kept: 4 MiB.
const KEPT: usize = 512;
const UNPACKED: u16 = 0x8000;

/// A place in the metadata.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    block: u64,
    offset: usize,
}

impl Cursor {
    pub(crate) fn new(block: u64, offset: usize) -> Self {
        Self { block, offset }
    }

    /// A reference as inodes are known by: block and offset in one number,
    /// relative to where the table begins.
    pub(crate) fn of_reference(table: u64, reference: u64) -> io::Result<Self> {
        let block = table.checked_add(reference >> 16).ok_or_else(out_of_range)?;
        Ok(Self::new(block, (reference & 0xffff) as usize))
    }
}

pub(crate) fn out_of_range() -> io::Error {
    broken("an address in the squashfs is out of range")
}

/// A block's content, and where the next begins.
type Block = (Arc<Vec<u8>>, u64);

/// Reads metadata, keeping what was unpacked.
#[derive(Default)]
pub(crate) struct Meta {
    kept: HashMap<u64, Block>,
}

impl Meta {
    pub(crate) fn take(
        &mut self,
        source: &dyn ReadAt,
        unpacker: &mut Unpacker,
        cursor: &mut Cursor,
        mut buf: &mut [u8],
    ) -> io::Result<()> {
        while !buf.is_empty() {
            let (content, next) = self.block(source, unpacker, cursor.block)?;
            let from = content.get(cursor.offset..).ok_or_else(out_of_range)?;
            if from.is_empty() {
                if content.len() < BLOCK {
                    return Err(out_of_range());
                }
                *cursor = Cursor::new(next, 0);
                continue;
            }
            let n = from.len().min(buf.len());
            buf[..n].copy_from_slice(&from[..n]);
            cursor.offset += n;
            buf = &mut buf[n..];
        }
        Ok(())
    }

    fn block(
        &mut self,
        source: &dyn ReadAt,
        unpacker: &mut Unpacker,
        at: u64,
    ) -> io::Result<Block> {
        if let Some(block) = self.kept.get(&at) {
            return Ok(block.clone());
        }
        let mut head = [0; 2];
        source.read_at(&mut head, at)?;
        let head = u16::from_le_bytes(head);
        let len = usize::from(head & !UNPACKED);
        if len == 0 || len > BLOCK {
            return Err(broken("a block of metadata has an impossible size"));
        }
        let begin = at.checked_add(2).ok_or_else(out_of_range)?;
        let mut packed = vec![0; len];
        source.read_at(&mut packed, begin)?;
        let content =
            if head & UNPACKED != 0 { packed } else { unpacker.unpack(&packed, BLOCK)? };
        let next = begin.checked_add(len as u64).ok_or_else(out_of_range)?;
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        let block = (Arc::new(content), next);
        self.kept.insert(at, block.clone());
        Ok(block)
    }
}
