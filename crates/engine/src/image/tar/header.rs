//! One block of 512 bytes that says what follows it.

use std::io;

use super::super::sink::broken;
use super::sparse::Segment;

/// The unit of an archive in bytes.
pub(crate) const BLOCK: usize = 512;

/// A header whose checksum is right.
pub(crate) struct Header([u8; BLOCK]);

/// Whether these bytes begin with a header.
pub(crate) fn is_header(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|block| block.iter().any(|b| *b != 0) && sums_up(block))
}

/// The sum of all bytes, those of the field itself taken as blanks. Some old
/// programs summed up signed bytes.
fn sums_up(block: &[u8; BLOCK]) -> bool {
    let Ok(expected) = octal(&block[148..156]) else { return false };
    let bytes =
        || block.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { b' ' } else { *b });
    let unsigned: u64 = bytes().map(u64::from).sum();
    let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
    expected == unsigned || i64::try_from(expected) == Ok(signed)
}

/// A number in octal digits, with blanks before and blanks or NULs behind.
fn octal(field: &[u8]) -> io::Result<u64> {
    let invalid = || broken("a number in a header of the archive cannot be read");
    let text = field.split(|b| *b == 0).next().unwrap_or_default().trim_ascii();
    if text.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(text).map_err(|_| invalid())?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    u64::from_str_radix(text, 8).map_err(|_| invalid())
}

/// A number in octal digits, or, where it is too large for those, in binary with
/// the highest bit set.
fn number(field: &[u8]) -> io::Result<u64> {
    match field {
        [0x80, rest @ ..] => {
            let (high, low) = rest.split_at(rest.len().saturating_sub(8));
            if high.iter().any(|b| *b != 0) {
                return Err(broken("a number in a header of the archive is out of range"));
            }
            Ok(low.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
        }
        [first, ..] if *first > 0x80 => {
            Err(broken("a number in a header of the archive is out of range"))
        }
        _ => octal(field),
    }
}

fn text(field: &[u8]) -> Vec<u8> {
    field.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

impl Header {
    pub(crate) fn parse(block: [u8; BLOCK]) -> io::Result<Self> {
        if !sums_up(&block) {
            return Err(broken("the checksum of a header of the archive is wrong"));
        }
        Ok(Self(block))
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0[156]
    }

    pub(crate) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        // Only POSIX's own variant has a prefix there; GNU has times.
        if &self.0[257..263] == b"ustar\0" && self.0[345] != 0 {
            return [text(&self.0[345..500]), name].join(&b'/');
        }
        name
    }

    pub(crate) fn target(&self) -> Vec<u8> {
        text(&self.0[157..257])
    }

    pub(crate) fn mode(&self) -> io::Result<u32> {
        Ok((number(&self.0[100..108])? & 0o7777) as u32)
    }

    pub(crate) fn uid(&self) -> io::Result<u32> {
        Ok(u32::try_from(number(&self.0[108..116])?).unwrap_or(u32::MAX))
    }

    pub(crate) fn gid(&self) -> io::Result<u32> {
        Ok(u32::try_from(number(&self.0[116..124])?).unwrap_or(u32::MAX))
    }

    pub(crate) fn size(&self) -> io::Result<u64> {
        number(&self.0[124..136])
    }

    /// Times before 1970 and beyond reason are 1970.
    pub(crate) fn mtime(&self) -> i64 {
        number(&self.0[136..148]).ok().and_then(|n| i64::try_from(n).ok()).unwrap_or(0)
    }

    /// A GNU sparse file's size, the pairs of its map, and whether more follow.
    pub(crate) fn gnu_sparse(&self) -> io::Result<(u64, Vec<Segment>, bool)> {
        let pairs = sparse_pairs(&self.0[386..482])?;
        Ok((number(&self.0[483..495])?, pairs, self.0[482] != 0))
    }
}

/// Offset and length of pieces, twelve bytes a number, to the first empty one.
pub(crate) fn sparse_pairs(field: &[u8]) -> io::Result<Vec<Segment>> {
    let mut out = Vec::new();
    for pair in field.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        out.push((number(&pair[..12])?, number(&pair[12..])?));
    }
    Ok(out)
}
