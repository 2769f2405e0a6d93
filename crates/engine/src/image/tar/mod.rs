//! Tar archives: ustar, GNU and pax, sparse files of all their kinds. Read front
//! to back, in bounded memory: what an archive announces is never allocated.
//!
//! A reader of our own, because the usual one keeps names and pax records of
//! any length in memory, which a few kilobytes of gzip can make gigabytes.

mod header;
mod pax;
mod sparse;

use std::io::{self, Read};

use pixels_guest_api::tree::{Entry, Kind};

use self::header::{BLOCK, Header};
use self::pax::Pax;
use self::sparse::{Expanded, Segment};
use super::sink::{TreeSink, bad, broken, normalise, truncated};

pub(crate) use self::header::is_header;

/// The longest record of names or attributes before an entry, in bytes.
const LONGEST_EXTENSION: u64 = 1 << 20;
/// What may follow the end of an archive, in bytes: it is read so that the
/// compression around it can check itself.
const LONGEST_TAIL: u64 = 64 << 20;

/// How an archive is to be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// `.wh.` names are marks of a layer, and its end mark may be missing: somebody
    /// has compared a digest of the whole.
    pub(crate) layer: bool,
}

/// What precedes an entry and is about it.
#[derive(Default)]
struct Before {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    pax: Pax,
}

/// Reads an archive to its end, into `sink`.
///
/// # Errors
/// What is wrong with the archive, with the entry named; what `sink` says.
pub(crate) fn unpack(
    input: &mut dyn Read,
    style: Style,
    sink: &mut TreeSink<'_>,
) -> io::Result<()> {
    let mut before = Before::default();
    let mut headers = 0u64;
    while let Some(header) = next_header(input, style)? {
        headers += 1;
        if headers > sink.limits().entries.saturating_mul(4) {
            return Err(broken("the archive has more headers than an image may have"));
        }
        match header.kind() {
            b'x' => before.pax = Pax::parse(&extension(input, &header)?)?,
            // Defaults for all entries: nothing that anybody puts there matters here.
            b'g' => drop(extension(input, &header)?),
            b'L' => before.name = Some(until_nul(extension(input, &header)?)),
            b'K' => before.target = Some(until_nul(extension(input, &header)?)),
            b'V' => skip(input, padded(header.size()?)?)?,
            _ => entry(input, &header, std::mem::take(&mut before), style, sink)?,
        }
    }
    drain(input)
}

fn next_header(input: &mut dyn Read, style: Style) -> io::Result<Option<Header>> {
    let mut block = [0; BLOCK];
    let got = read_up_to(input, &mut block)?;
    match got {
        0 if style.layer => return Ok(None),
        BLOCK => {}
        _ => return Err(truncated("the archive")),
    }
    if block.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    Header::parse(block).map(Some)
}

/// Fills `buf` as far as there is something.
fn read_up_to(input: &mut dyn Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match input.read(&mut buf[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// The content of an extension header.
fn extension(input: &mut dyn Read, header: &Header) -> io::Result<Vec<u8>> {
    let size = header.size()?;
    if size > LONGEST_EXTENSION {
        return Err(bad(&header.name(), "its names and attributes are longer than 1 MiB"));
    }
    let mut out = Vec::new();
    input.take(size).read_to_end(&mut out)?;
    if out.len() as u64 != size {
        return Err(truncated("the archive"));
    }
    skip(input, padded(size)? - size)?;
    Ok(out)
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn padded(size: u64) -> io::Result<u64> {
    size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| broken("a size is out of range"))
}

fn skip(input: &mut dyn Read, bytes: u64) -> io::Result<()> {
    if io::copy(&mut input.take(bytes), &mut io::sink())? != bytes {
        return Err(truncated("the archive"));
    }
    Ok(())
}

fn drain(input: &mut dyn Read) -> io::Result<()> {
    io::copy(&mut input.take(LONGEST_TAIL), &mut io::sink()).map(drop)
}

fn entry(
    input: &mut dyn Read,
    header: &Header,
    before: Before,
    style: Style,
    sink: &mut TreeSink<'_>,
) -> io::Result<()> {
    let Before { name, target, pax } = before;
    let raw = pax.path.clone().or(name).unwrap_or_else(|| header.name());
    let target = pax.target.clone().or(target).unwrap_or_else(|| header.target());
    let path = normalise(&raw)?;
    // Links, devices and directories have no content, whatever their size says.
    let content = match header.kind() {
        b'1'..=b'6' => 0,
        _ => pax.size.map_or_else(|| header.size(), Ok)?,
    };
    let padding = padded(content)? - content;
    let mut stored = input.take(content);
    let mut segments = None;
    let kind = match header.kind() {
        // An old archive has directories as files with a slash at the end.
        b'0' | 0 | b'7' if raw.ends_with(b"/") && content == 0 => Kind::Dir,
        b'0' | 0 | b'7' | b'S' => {
            let map = sparse_map(header, &pax, &mut stored, sink).map_err(|e| named(&raw, e))?;
            let size = map.as_ref().map_or(content, |(size, _)| *size);
            segments = map.map(|(_, segments)| segments);
            Kind::File { size }
        }
        b'1' => Kind::Hardlink { target: normalise(&target)? },
        b'2' => Kind::Symlink { target },
        b'3' | b'4' => Kind::Special,
        b'5' | b'D' => Kind::Dir,
        b'6' => Kind::Fifo,
        other => {
            let other = char::from(other).escape_default();
            return Err(bad(&raw, &format!("entries of the kind '{other}' are not supported")));
        }
    };
    let (mtime, nanos) = pax.mtime.unwrap_or((header.mtime(), 0));
    let entry = Entry {
        path,
        kind,
        mode: header.mode()? & 0o7777,
        uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
        gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
        mtime,
        nanos,
        xattrs: pax.xattrs,
    };
    let Some(entry) = (if style.layer { layer_mark(entry)? } else { Some(entry) }) else {
        return rest(stored, padding);
    };
    match (&entry.kind, segments) {
        (Kind::File { size }, Some(segments)) => {
            sink.file(&entry, &mut Expanded::new(&mut stored, segments, *size))?;
        }
        (Kind::File { .. }, None) => sink.file(&entry, &mut stored)?,
        _ => sink.entry(&entry)?,
    }
    rest(stored, padding)
}

/// What is left of an entry's content, and its padding.
fn rest(stored: io::Take<&mut dyn Read>, padding: u64) -> io::Result<()> {
    let left = stored.limit();
    skip(stored.into_inner(), left.saturating_add(padding))
}

fn sparse_map(
    header: &Header,
    pax: &Pax,
    stored: &mut io::Take<&mut dyn Read>,
    sink: &TreeSink<'_>,
) -> io::Result<Option<(u64, Vec<Segment>)>> {
    let (size, segments) = if header.kind() == b'S' {
        // The continuation of the map lies before the content and is not part of it.
        sparse::of_gnu_header(header, stored.get_mut())?
    } else if let Some(map) = &pax.sparse {
        map.resolve(stored)?
    } else {
        return Ok(None);
    };
    if size > sink.left().bytes {
        return Err(broken("the image has more bytes than it may have"));
    }
    sparse::check(&segments, stored.limit(), size)?;
    Ok(Some((size, segments)))
}

fn named(path: &[u8], e: io::Error) -> io::Error {
    match e.kind() {
        io::ErrorKind::InvalidData => bad(path, &e.to_string()),
        _ => e,
    }
}

/// What an entry of a layer means: a mark, itself, or (the bookkeeping of
/// another union file system) nothing.
fn layer_mark(mut entry: Entry) -> io::Result<Option<Entry>> {
    let at = entry.path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    let (parent, name) = entry.path.split_at(at);
    let Some(hidden) = name.strip_prefix(b".wh.") else { return Ok(Some(entry)) };
    if name == b".wh..wh..opq" {
        entry.path = parent.strip_suffix(b"/").unwrap_or(parent).to_vec();
        entry.kind = Kind::Opaque;
    } else if hidden.starts_with(b".wh.") {
        return Ok(None);
    } else if matches!(hidden, b"" | b"." | b"..") {
        return Err(bad(&entry.path, "a whiteout of nothing"));
    } else {
        entry.path = [parent, hidden].concat();
        entry.kind = Kind::Whiteout;
    }
    entry.mode = 0;
    entry.xattrs.clear();
    Ok(Some(entry))
}
