//! An SFTP version 3 client over any byte stream, with paths and names as bytes.
//!
//! Incus hands out such a stream at `GET /1.0/instances/NAME/sftp` with `Upgrade: sftp`.
//! Its server is a Go library whose behaviour differs from OpenSSH's in places; where that
//! matters to callers, the operation says so:
//! - opening a FIFO or a device may block the server for every later request, so
//!   [`Client::lstat`] comes first;
//! - [`Client::remove`] also removes an empty directory, [`Client::rmdir`] also a file;
//! - [`Client::realpath`] cleans the path and does not follow symlinks;
//! - attributes set before outstanding writes are acknowledged may be overtaken by them.
//!
//! The server is in the guest's reach, so nothing it says is trusted: packets are bounded,
//! names in listings cannot leave their directory, messages are stripped of control characters.

mod attrs;
mod client;
mod connection;
mod error;
mod file;
mod packet;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use attrs::{Attrs, FileKind};
pub use client::{Client, Entry};
pub use error::Error;
pub use file::{File, OpenFlags};
pub use reader::Reader;
pub use writer::Writer;
