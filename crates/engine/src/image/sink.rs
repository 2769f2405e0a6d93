//! Where decoders put what they find: the encoder of the tree stream.

use std::io::{self, BufWriter, Read, Write};

use pixels_guest_api::tree::{Entry, Kind, Record, TreeError, header};

/// What one tree may measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Entries, whatever their kind.
    pub(crate) entries: u64,
    /// Bytes of content.
    pub(crate) bytes: u64,
}

impl Default for Limits {
    /// More than any image has that somebody made to be used.
    fn default() -> Self {
        Self { entries: 4_000_000, bytes: 64 << 30 }
    }
}

/// How much a tree measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Entries, whatever their kind.
    pub(crate) entries: u64,
    /// Bytes of content.
    pub(crate) bytes: u64,
}

/// Encodes a tree into a byte stream. Every entry is checked on the way; a
/// stream that [`TreeSink::finish`] did not end is refused by its reader.
pub(crate) struct TreeSink<'a> {
    out: BufWriter<Box<dyn Write + Send + 'a>>,
    limits: Limits,
    done: Counts,
}

/// Read and written at once.
const PIECE: usize = 256 * 1024;

impl<'a> TreeSink<'a> {
    /// Begins a stream.
    pub(crate) fn new(out: impl Write + Send + 'a, limits: Limits) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(PIECE, Box::new(out) as Box<dyn Write + Send + 'a>);
        out.write_all(&header())?;
        Ok(Self { out, limits, done: Counts::default() })
    }

    /// What may still come.
    pub(crate) fn left(&self) -> Limits {
        Limits {
            entries: self.limits.entries.saturating_sub(self.done.entries),
            bytes: self.limits.bytes.saturating_sub(self.done.bytes),
        }
    }

    /// The limits that were given.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// An entry without content. A file of a size belongs to [`TreeSink::file`].
    pub(crate) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.file(entry, &mut io::empty())
    }

    /// A file and its content, of which exactly the size announced is taken.
    pub(crate) fn file(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let size = match entry.kind {
            Kind::File { size } => size,
            _ => 0,
        };
        if self.done.entries >= self.limits.entries {
            let limit = self.limits.entries;
            return Err(bad(&entry.path, &format!("the image has more than {limit} entries")));
        }
        if size > self.left().bytes {
            let limit = self.limits.bytes;
            return Err(bad(&entry.path, &format!("the image has more than {limit} bytes")));
        }
        let record = Record::Entry(entry.clone()).encode().map_err(refused)?;
        self.out.write_all(&record)?;
        self.done.entries += 1;
        self.done.bytes += size;
        self.copy(&entry.path, content, size)
    }

    fn copy(&mut self, path: &[u8], content: &mut dyn Read, size: u64) -> io::Result<()> {
        let mut left = size;
        let mut piece = vec![0; usize::try_from(size).unwrap_or(PIECE).min(PIECE)];
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let n = match content.read(&mut piece[..want]) {
                Ok(0) => {
                    let e = bad(path, "its content is shorter than announced");
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, e.to_string()));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            self.out.write_all(&piece[..n])?;
            left -= n as u64;
        }
        Ok(())
    }

    /// Ends the stream.
    pub(crate) fn finish(mut self) -> io::Result<Counts> {
        let Counts { entries, bytes } = self.done;
        self.out.write_all(&Record::End { entries, bytes }.encode().map_err(refused)?)?;
        self.out.flush()?;
        Ok(self.done)
    }
}

fn refused(e: TreeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e.to_string())
}

/// An archive that breaks a rule, with the entry that does.
pub(crate) fn bad(path: &[u8], rule: &str) -> io::Error {
    let text = format!("entry {:?}: {rule}", String::from_utf8_lossy(path));
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// An archive that is broken as a whole.
pub(crate) fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// An archive that ends before it is whole.
pub(crate) fn truncated(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("{what} is truncated"))
}

/// A path of an archive as one below the root: a leading slash, `.` and doubled
/// slashes mean nothing; empty is the root itself.
///
/// # Errors
/// `..` and NUL, with the path named.
pub(crate) fn normalise(raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(raw.len());
    for part in raw.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(bad(raw, "the path has a .. in it")),
            _ => {}
        }
        if part.contains(&0) {
            return Err(bad(raw, "the path has a NUL in it"));
        }
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(part);
    }
    Ok(out)
}

/// Whether an extended attribute is one that trees carry: the others are the
/// host's matter, or overlayfs's.
pub(crate) fn carries(xattr: &[u8]) -> bool {
    xattr == b"security.capability"
        || (xattr.starts_with(b"user.") && !xattr.starts_with(b"user.overlay."))
}
