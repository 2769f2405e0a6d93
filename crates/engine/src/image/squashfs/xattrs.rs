//! Extended attributes: a table of ids, each a run of names and values.

use std::io;

use pixels_guest_api::tree::{MAX_XATTR_VALUE, MAX_XATTRS};

use super::super::sink::{broken, carries};
use super::meta::Cursor;
use super::{NONE, Squashfs};

/// The value is elsewhere: in its place is the reference to it.
const ELSEWHERE: u16 = 0x100;

impl Squashfs<'_> {
    /// The attributes with this id, those that trees do not carry left out.
    pub(crate) fn xattrs(&mut self, id: u32) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if self.xattrs == NONE {
            return Ok(Vec::new());
        }
        let mut head = [0; 16];
        self.source.read_at(&mut head, self.xattrs)?;
        let (start, rest) = head.split_at(8);
        let start = u64::from_le_bytes(start.try_into().unwrap_or_default());
        let count = u32::from_le_bytes(rest[..4].try_into().unwrap_or_default());
        if id >= count {
            return Err(broken("extended attributes are not in the table"));
        }
        let list = self.xattrs.checked_add(16).ok_or_else(super::meta::out_of_range)?;
        let mut cursor = self.table(list, u64::from(id), 16)?;
        let reference = self.u64(&mut cursor)?;
        let count = self.u32(&mut cursor)? as usize;
        if count > MAX_XATTRS {
            return Err(broken("a file has more than 64 extended attributes"));
        }
        let at = &mut Cursor::of_reference(start, reference)?;
        let mut out = Vec::new();
        for _ in 0..count {
            let (kind, len) = (self.u16(at)?, self.u16(at)?);
            let mut name = match kind & 0xff {
                0 => b"user.".to_vec(),
                1 => b"trusted.".to_vec(),
                2 => b"security.".to_vec(),
                _ => return Err(broken("an extended attribute of an unknown kind")),
            };
            let prefix = name.len();
            name.resize(prefix + usize::from(len), 0);
            self.take(at, &mut name[prefix..])?;
            let mut value = self.value(at)?;
            if kind & ELSEWHERE != 0 {
                let reference = value.try_into().map(u64::from_le_bytes);
                let reference =
                    reference.map_err(|_| broken("an extended attribute is nowhere"))?;
                value = self.value(&mut Cursor::of_reference(start, reference)?)?;
            }
            if carries(&name) {
                out.push((name, value));
            }
        }
        Ok(out)
    }

    fn value(&mut self, at: &mut Cursor) -> io::Result<Vec<u8>> {
        let len = self.u32(at)? as usize;
        if len > MAX_XATTR_VALUE {
            return Err(broken("an extended attribute is longer than 64 KiB"));
        }
        let mut value = vec![0; len];
        self.take(at, &mut value)?;
        Ok(value)
    }
}
