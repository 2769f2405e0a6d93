//! Sparse files: a map of the pieces that are stored, and zeros between them.

use std::io::{self, Read};

use super::super::sink::{broken, truncated};
use super::header::{BLOCK, Header, sparse_pairs};
use super::pax::decimal;

/// The most pieces of one file.
const MOST_PIECES: usize = 1 << 18;

/// A piece that is stored: where it belongs, and its length.
pub(crate) type Segment = (u64, u64);

/// What GNU's pax records say of a sparse file: versions 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default)]
pub(crate) struct PaxMap {
    major: u64,
    size: Option<u64>,
    numbers: Vec<u64>,
}

impl PaxMap {
    /// One record, its key without `GNU.sparse.`.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"major" => self.major = decimal(value)?,
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"offset" | b"numbytes" => self.numbers.push(decimal(value)?),
            b"map" if value.is_empty() => {}
            b"map" => {
                for number in value.split(|b| *b == b',') {
                    self.numbers.push(decimal(number)?);
                }
            }
            _ => {}
        }
        if self.numbers.len() > 2 * MOST_PIECES {
            return Err(too_many());
        }
        Ok(())
    }

    /// Size and map. Version 1.0 has the map before the content, in what is stored.
    pub(crate) fn resolve(
        &self,
        stored: &mut io::Take<&mut dyn Read>,
    ) -> io::Result<(u64, Vec<Segment>)> {
        let size = self.size.ok_or_else(|| broken("a sparse file without a size"))?;
        let numbers = match self.major {
            0 => self.numbers.clone(),
            1 => stored_map(stored)?,
            _ => return Err(broken("a sparse file of a version that is not known")),
        };
        if numbers.len() % 2 != 0 {
            return Err(broken("a sparse file's map has an odd number of numbers"));
        }
        Ok((size, numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()))
    }
}

fn too_many() -> io::Error {
    broken("a sparse file has more pieces than can be")
}

/// Decimal numbers, each with a newline: how many pairs, then the pairs. Padded
/// to whole blocks.
fn stored_map(stored: &mut dyn Read) -> io::Result<Vec<u64>> {
    let (mut numbers, mut expected) = (Vec::new(), None);
    let mut text = Vec::new();
    loop {
        let mut block = [0; BLOCK];
        stored.read_exact(&mut block).map_err(|_| truncated("a sparse file's map"))?;
        for byte in block {
            if byte != b'\n' {
                text.push(byte);
                if text.len() > 20 {
                    return Err(broken("a sparse file's map cannot be read"));
                }
                continue;
            }
            let number = decimal(&text)?;
            text.clear();
            match expected {
                None => {
                    let pairs = usize::try_from(number).ok().filter(|n| *n <= MOST_PIECES);
                    expected = Some(2 * pairs.ok_or_else(too_many)?);
                }
                Some(_) => numbers.push(number),
            }
            if expected == Some(numbers.len()) {
                return Ok(numbers);
            }
        }
    }
}

/// Size and map of a file in GNU's old format, whose map goes on in blocks after
/// the header.
pub(crate) fn of_gnu_header(
    header: &Header,
    input: &mut dyn Read,
) -> io::Result<(u64, Vec<Segment>)> {
    let (size, mut segments, mut more) = header.gnu_sparse()?;
    while more {
        let mut block = [0; BLOCK];
        input.read_exact(&mut block).map_err(|_| truncated("a sparse file's map"))?;
        segments.extend(sparse_pairs(&block[..504])?);
        more = block[504] != 0;
        if segments.len() > MOST_PIECES {
            return Err(too_many());
        }
    }
    Ok((size, segments))
}

/// Checks that pieces follow one another inside the file and are all that is stored.
pub(crate) fn check(segments: &[Segment], stored: u64, size: u64) -> io::Result<()> {
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, len) in segments {
        let after = offset.checked_add(*len).filter(|after| *offset >= end && *after <= size);
        end = after.ok_or_else(|| broken("a sparse file's pieces overlap or lie outside it"))?;
        sum += len;
    }
    if sum != stored {
        return Err(broken("a sparse file's pieces are not what is stored of it"));
    }
    Ok(())
}

/// A sparse file as a whole.
pub(crate) struct Expanded<'a, R> {
    stored: &'a mut R,
    segments: std::vec::IntoIter<Segment>,
    current: Option<Segment>,
    at: u64,
    size: u64,
}

impl<'a, R: Read> Expanded<'a, R> {
    /// The pieces have passed [`check`].
    pub(crate) fn new(stored: &'a mut R, segments: Vec<Segment>, size: u64) -> Self {
        let mut segments = segments.into_iter();
        let current = segments.next();
        Self { stored, segments, current, at: 0, size }
    }
}

impl<R: Read> Read for Expanded<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_some_and(|(offset, len)| self.at >= offset + len) {
            self.current = self.segments.next();
        }
        let (hole, until) = match self.current {
            Some((offset, _)) if self.at < offset => (true, offset),
            Some((offset, len)) => (false, offset + len),
            None => (true, self.size),
        };
        let want = usize::try_from(until - self.at).unwrap_or(usize::MAX).min(buf.len());
        let n = if hole {
            buf[..want].fill(0);
            want
        } else {
            self.stored.read(&mut buf[..want])?
        };
        self.at += n as u64;
        Ok(n)
    }
}
