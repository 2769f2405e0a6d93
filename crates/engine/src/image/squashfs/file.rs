//! The content of files: full blocks, holes, and an end that shares its block
//! with other files' ends.

use std::io::{self, Read};
use std::sync::Arc;

use super::super::sink::broken;
use super::Squashfs;
use super::inode::Stored;
use super::meta::Cursor;

/// Set in a block's size where it is stored as it is.
const UNPACKED: u32 = 1 << 24;
/// Fragment blocks that are kept.
const KEPT: usize = 8;

/// A file's content as a stream.
pub(crate) struct Content<'f, 's, 'r> {
    fs: &'f mut Squashfs<'s>,
    read: &'r mut dyn FnMut(u64),
    sizes: Cursor,
    fragment: Option<(u32, u32)>,
    /// Where the next full block begins in the source.
    next: u64,
    /// Bytes that are in no piece yet.
    left: u64,
    piece: Arc<Vec<u8>>,
    at: usize,
    end: usize,
}

impl<'f, 's, 'r> Content<'f, 's, 'r> {
    pub(crate) fn new(
        fs: &'f mut Squashfs<'s>,
        stored: &Stored,
        read: &'r mut dyn FnMut(u64),
    ) -> Self {
        Self {
            fs,
            read,
            sizes: stored.blocks,
            fragment: stored.fragment,
            next: stored.start,
            left: stored.size,
            piece: Arc::default(),
            at: 0,
            end: 0,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        let full = u64::from(self.fs.block_size);
        let want = usize::try_from(self.left.min(full)).unwrap_or(usize::MAX);
        self.at = 0;
        self.end = want;
        self.left -= want as u64;
        if let (Some((index, offset)), true) = (self.fragment, (want as u64) < full) {
            let (begin, end) = (offset as usize, (offset as usize).saturating_add(want));
            self.piece = self.fs.fragment(index, self.read)?;
            if end > self.piece.len() {
                return Err(broken("a file's end lies outside its fragment"));
            }
            (self.at, self.end) = (begin, end);
            return Ok(());
        }
        let word = self.fs.u32(&mut self.sizes)?;
        let block = self.fs.data(self.next, word, want, self.read)?;
        if block.len() != want {
            return Err(broken("a block of a file has another length than its place"));
        }
        self.next = self
            .next
            .checked_add(u64::from(word & (UNPACKED - 1)))
            .ok_or_else(super::meta::out_of_range)?;
        self.piece = Arc::new(block);
        Ok(())
    }
}

impl Read for Content<'_, '_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end {
            if self.left == 0 {
                return Ok(0);
            }
            self.refill()?;
        }
        let n = buf.len().min(self.end - self.at);
        buf[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

impl Squashfs<'_> {
    /// One block of data, by the word that describes it. A word of 0 is a hole
    /// of `want` bytes.
    fn data(
        &mut self,
        at: u64,
        word: u32,
        want: usize,
        read: &mut dyn FnMut(u64),
    ) -> io::Result<Vec<u8>> {
        if word == 0 {
            return Ok(vec![0; want]);
        }
        let len = word & (UNPACKED - 1);
        if word & !(UNPACKED | (UNPACKED - 1)) != 0 || len == 0 || len > self.block_size {
            return Err(broken("a block of data has an impossible size"));
        }
        let mut packed = vec![0; len as usize];
        self.source.read_at(&mut packed, at)?;
        read(u64::from(len));
        if word & UNPACKED != 0 {
            return Ok(packed);
        }
        self.unpacker.unpack(&packed, self.block_size as usize)
    }

    fn fragment(&mut self, index: u32, read: &mut dyn FnMut(u64)) -> io::Result<Arc<Vec<u8>>> {
        let (list, count) = self.fragments;
        if index >= count {
            return Err(broken("a fragment is not in the table"));
        }
        let mut cursor = self.table(list, u64::from(index), 16)?;
        let start = self.u64(&mut cursor)?;
        let word = self.u32(&mut cursor)?;
        if let Some((_, block)) = self.kept.iter().find(|(at, _)| *at == start) {
            return Ok(Arc::clone(block));
        }
        let block = Arc::new(self.data(start, word, 0, read)?);
        if self.kept.len() >= KEPT {
            self.kept.remove(0);
        }
        self.kept.push((start, Arc::clone(&block)));
        Ok(block)
    }
}
