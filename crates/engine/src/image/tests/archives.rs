//! Making archives, and seeing what a decoder makes of them.

use std::io::{self, Read};
use std::path::Path;

use pixels_core::Progress;
use pixels_guest_api::tree::{Entry, Kind, Record, STREAM_HEADER_LEN, check_header, record_len};

use super::super::making::Content;
use super::super::meter::Meter;
use super::super::sink::{Limits, TreeSink};
use super::super::tar::{self, Style};

/// An entry and its content.
pub(crate) type Item = (Entry, Vec<u8>);

/// Reads a stream as its writer does: whole, or not at all.
pub(crate) fn parse(mut input: impl Read) -> io::Result<Vec<Item>> {
    let bad = |e: pixels_guest_api::tree::TreeError| io::Error::other(e.to_string());
    let mut head = [0; STREAM_HEADER_LEN];
    input.read_exact(&mut head)?;
    check_header(&head).map_err(bad)?;
    let mut out: Vec<Item> = Vec::new();
    loop {
        let mut len = [0; 4];
        input.read_exact(&mut len)?;
        let mut body = vec![0; record_len(len).map_err(bad)?];
        input.read_exact(&mut body)?;
        match Record::decode(&body).map_err(bad)? {
            Record::Entry(entry) => {
                let mut content = Vec::new();
                if let Kind::File { size } = entry.kind {
                    input.by_ref().take(size).read_to_end(&mut content)?;
                    assert_eq!(content.len() as u64, size);
                }
                out.push((entry, content));
            }
            Record::End { entries, bytes } => {
                let sum: usize = out.iter().map(|(_, c)| c.len()).sum();
                assert_eq!((entries, bytes), (out.len() as u64, sum as u64));
                return Ok(out);
            }
        }
    }
}

pub(crate) const SMALL: Limits = Limits { entries: 2000, bytes: 8 << 20 };

/// What a tar archive in memory decodes to.
pub(crate) fn of_tar(archive: &[u8], layer: bool) -> io::Result<Vec<Item>> {
    let mut stream = Vec::new();
    let mut sink = TreeSink::new(&mut stream, SMALL)?;
    tar::unpack(&mut &*archive, Style { layer }, &mut sink)?;
    sink.finish()?;
    parse(&*stream)
}

/// What a file or directory decodes to.
pub(crate) fn of_path(path: &Path, limits: Limits) -> io::Result<Vec<Item>> {
    let content = if path.is_dir() {
        Content::Directory { path: path.into(), skip: Default::default() }
    } else {
        Content::File { path: path.into(), style: Style::default() }
    };
    let mut stream = Vec::new();
    content.decode(&mut stream, limits, &Meter::new(&Progress::default(), "", None))?;
    parse(&*stream)
}

/// As [`of_path`], of a file with this content.
pub(crate) fn of_bytes(bytes: &[u8], limits: Limits) -> io::Result<Vec<Item>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("archive");
    std::fs::write(&path, bytes)?;
    of_path(&path, limits)
}

/// A tar archive under construction.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    /// An entry of any kind, with what its header announces and what follows.
    pub(crate) fn raw(
        mut self,
        kind: u8,
        path: &[u8],
        target: &[u8],
        size: u64,
        body: &[u8],
    ) -> Self {
        let mut block = [0u8; 512];
        block[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        block[100..107].copy_from_slice(b"0000755");
        block[108..115].copy_from_slice(b"0000000");
        block[116..123].copy_from_slice(b"0000000");
        if size < 1 << 33 {
            block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        } else {
            block[124] = 0x80;
            block[128..136].copy_from_slice(&size.to_be_bytes());
        }
        block[136..147].copy_from_slice(b"00000000017");
        block[156] = kind;
        block[157..157 + target.len()].copy_from_slice(target);
        block[257..265].copy_from_slice(b"ustar\x0000");
        self.push(block, body)
    }

    fn push(&mut self, mut block: [u8; 512], body: &[u8]) -> Self {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self.clone()
    }

    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        self.raw(b'0', path.as_bytes(), b"", content.len() as u64, content.as_bytes())
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.raw(b'5', path.as_bytes(), b"", 0, b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(b'2', path.as_bytes(), target.as_bytes(), 0, b"")
    }

    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        self.raw(b'1', path.as_bytes(), target.as_bytes(), 0, b"")
    }

    /// Records for the entry that follows.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let bare = key.len() + value.len() + 3;
            let mut len = bare + 1;
            while len.to_string().len() + bare != len {
                len = len.to_string().len() + bare;
            }
            body.extend_from_slice(format!("{len} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.raw(b'x', b"pax", b"", body.len() as u64, &body)
    }

    /// The whole archive.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
    encoder.read_to_end(&mut out).unwrap();
    out
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).unwrap();
    out
}

pub(crate) fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

/// The entry of a path.
pub(crate) fn item<'a>(items: &'a [Item], path: &str) -> &'a Item {
    items.iter().find(|(e, _)| e.path == path.as_bytes()).unwrap_or_else(|| panic!("no {path}"))
}
