//! Pax records: what does not fit a header.

use std::io;

use super::super::sink::{broken, carries};
use super::sparse::PaxMap;

/// What the records before an entry say of it.
#[derive(Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<PaxMap>,
}

impl Pax {
    /// Reads records of the form `length key=value`, each with a newline.
    pub(crate) fn parse(mut bytes: &[u8]) -> io::Result<Self> {
        let mut out = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes)
                .ok_or_else(|| broken("a pax record of the archive cannot be read"))?;
            out.take(key, value)?;
            bytes = rest;
        }
        Ok(out)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if carries(name) {
                self.xattrs.push((name.to_vec(), value.to_vec()));
            }
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            if key == b"name" {
                self.path = Some(value.to_vec());
                return Ok(());
            }
            return self.sparse.get_or_insert_default().take(key, value);
        }
        // An empty value takes a record back.
        let some = |value: &[u8]| (!value.is_empty()).then(|| value.to_vec());
        match key {
            // The real name of a sparse file has come already.
            b"path" if self.sparse.is_some() && self.path.is_some() => {}
            b"path" => self.path = some(value),
            b"linkpath" => self.target = some(value),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(u32::try_from(decimal(value)?).unwrap_or(u32::MAX)),
            b"gid" => self.gid = Some(u32::try_from(decimal(value)?).unwrap_or(u32::MAX)),
            b"mtime" => self.mtime = time(value),
            _ => {}
        }
        Ok(())
    }
}

/// The first record: key, value, what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(10).position(|b| *b == b' ')?;
    let len = usize::try_from(decimal(&bytes[..blank]).ok()?).ok()?;
    if len <= blank + 1 {
        return None;
    }
    let (record, rest) = bytes.split_at_checked(len)?;
    let body = record[blank + 1..].strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    Some((&body[..equals], &body[equals + 1..], rest))
}

/// A number in decimal digits and nothing else.
pub(crate) fn decimal(bytes: &[u8]) -> io::Result<u64> {
    let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(bytes)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| broken("a number in a pax record of the archive cannot be read"))
}

/// Seconds and nanoseconds of `-12.5`; nothing for what cannot be read.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_by_their_length() {
        let pax = Pax::parse(b"13 path=a\nbc\n12 mtime=-1\n10 uid=70\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a\nbc"[..]));
        assert_eq!((pax.mtime, pax.uid), (Some((-1, 0)), Some(70)));
        for broken in [
            "5 a=b",
            "99 path=a\n",
            "path=a\n",
            "0 \n",
            "3 \n",
            "x path=a\n",
            "10 size=-1\n",
            "11 size=0x1\n",
        ] {
            assert!(Pax::parse(broken.as_bytes()).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn times_have_fractions() {
        assert_eq!(time(b"1.25"), Some((1, 250_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"1.1234567899"), Some((1, 123_456_789)));
        assert_eq!(time(b"x"), None);
    }
}
