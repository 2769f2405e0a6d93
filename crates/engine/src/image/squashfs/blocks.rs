//! Unpacking one block of at most 1 MiB.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};
use liblzma::stream::{Action, Stream};

use super::super::sink::broken;

/// Memory that a block of xz may ask for: the dictionary is no larger than a block.
const XZ_MEMORY: u64 = 32 << 20;

/// What unpacks the blocks of one file system.
pub(crate) enum Unpacker {
    Zlib(Decompress),
    Xz,
    Zstd(zstd::bulk::Decompressor<'static>),
}

impl Unpacker {
    /// By the number in the superblock.
    pub(crate) fn new(compression: u16) -> io::Result<Self> {
        match compression {
            1 => Ok(Self::Zlib(Decompress::new(true))),
            4 => Ok(Self::Xz),
            6 => Ok(Self::Zstd(zstd::bulk::Decompressor::new()?)),
            2 => Err(broken("squashfs with lzma is not supported (gzip, xz and zstd are)")),
            3 => Err(broken("squashfs with lzo is not supported (gzip, xz and zstd are)")),
            5 => Err(broken("squashfs with lz4 is not supported (gzip, xz and zstd are)")),
            _ => Err(broken("squashfs with an unknown compression")),
        }
    }

    /// Unpacks one block, of which at most `max` bytes may come.
    pub(crate) fn unpack(&mut self, packed: &[u8], max: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(max);
        let failed = |_| broken("a block of the squashfs cannot be unpacked");
        let whole = match self {
            Self::Zlib(state) => {
                state.reset(true);
                let status = state
                    .decompress_vec(packed, &mut out, FlushDecompress::Finish)
                    .map_err(|e| failed(e.to_string()))?;
                status == Status::StreamEnd
            }
            Self::Xz => {
                let mut stream =
                    Stream::new_stream_decoder(XZ_MEMORY, 0).map_err(|e| failed(e.to_string()))?;
                let status = stream
                    .process_vec(packed, &mut out, Action::Finish)
                    .map_err(|e| failed(e.to_string()))?;
                status == liblzma::stream::Status::StreamEnd
            }
            Self::Zstd(state) => {
                state.decompress_to_buffer(packed, &mut out).map_err(|e| failed(e.to_string()))?;
                true
            }
        };
        if !whole || out.len() > max {
            return Err(failed(String::new()));
        }
        Ok(out)
    }
}
