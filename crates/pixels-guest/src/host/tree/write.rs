//! Writes a tree from a stream, confined to its directory.

use std::io;
use std::path::Path;

/// What was written.
pub(crate) struct Summary {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

pub(crate) fn write(
    _dir: &Path,
    _input: i32,
    _shift: u32,
    _limits: (u64, u64),
) -> io::Result<Summary> {
    Err(io::ErrorKind::Unsupported.into())
}
