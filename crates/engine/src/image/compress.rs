//! What an archive is, by its first bytes, and the way to what is compressed in it.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use super::sink::broken;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A tar archive, compressed or not.
    Tar(Compression),
    /// A squashfs file system.
    Squashfs,
}

/// How a tar archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

/// How many bytes [`detect`] needs to see.
pub(crate) const HEAD: usize = 512;

/// Memory that an xz stream may ask for: twice what `xz -9` makes.
const XZ_MEMORY: u64 = 128 << 20;
/// The largest window of a zstd frame, as a power of two: what `zstd -d` takes unasked.
const ZSTD_WINDOW: u32 = 27;

/// Tells a format by the first [`HEAD`] bytes, or fewer where there are no more.
pub(crate) fn detect(head: &[u8]) -> Option<Format> {
    let tar = |c| Some(Format::Tar(c));
    match head {
        [b'h', b's', b'q', b's', ..] => Some(Format::Squashfs),
        [0x1f, 0x8b, ..] => tar(Compression::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => tar(Compression::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            tar(Compression::Zstd)
        }
        _ if super::tar::is_header(head) => tar(Compression::None),
        _ => None,
    }
}

/// What is in a compressed stream.
pub(crate) fn decompress<'a>(
    input: impl BufRead + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)
                .map_err(|e| broken(e.to_string()))?;
            Box::new(XzDecoder::new_stream(input, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
    })
}

/// Ends with an error instead of handing out more than `limit` bytes.
pub(crate) struct Bounded<R> {
    input: R,
    left: u64,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(input: R, limit: u64) -> Self {
        Self { input, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buf)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(broken("it unpacks to more than an image may measure")),
        }
        Ok(n)
    }
}
