//! An open file.

use std::ops::BitOr;
use std::sync::Arc;

use bytes::Bytes;

use super::attrs::Attrs;
use super::client::in_order;
use super::connection::{Connection, Ticket};
use super::error::Error;
use super::packet::{CHUNK, Op, Reply, Request, STATUS_EOF};
use super::reader::Reader;
use super::writer::Writer;

const FSYNC: &[u8] = b"fsync@openssh.com";

/// How a file is opened; combined with `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFlags(u32);

impl OpenFlags {
    /// For reading.
    pub const READ: OpenFlags = OpenFlags(1);
    /// For writing.
    pub const WRITE: OpenFlags = OpenFlags(2);
    /// Made if it does not exist.
    pub const CREATE: OpenFlags = OpenFlags(8);
    /// Emptied.
    pub const TRUNCATE: OpenFlags = OpenFlags(16);
    /// With `CREATE`: it must not exist, not even as a dangling symlink.
    pub const EXCLUSIVE: OpenFlags = OpenFlags(32);

    pub(super) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn creates(self) -> bool {
        self.0 & Self::CREATE.0 != 0
    }
}

impl BitOr for OpenFlags {
    type Output = OpenFlags;
    fn bitor(self, other: OpenFlags) -> OpenFlags {
        OpenFlags(self.0 | other.0)
    }
}

/// An open file on the server. Dropped, it is closed without an answer.
#[derive(Debug)]
pub struct File {
    connection: Arc<Connection>,
    handle: Bytes,
    open: bool,
}

impl File {
    pub(super) fn new(connection: Arc<Connection>, handle: Bytes) -> File {
        File { connection, handle, open: true }
    }

    pub(super) fn handle(&self) -> &[u8] {
        &self.handle
    }

    /// Its attributes.
    ///
    /// # Errors
    /// As all operations.
    pub async fn stat(&self) -> Result<Attrs, Error> {
        let request = Request::new(Op::Fstat).string(&self.handle);
        match self.connection.send(request).reply().await? {
            Reply::Attrs(attrs) => Ok(attrs),
            other => Err(other.into_error()),
        }
    }

    /// Sets attributes, the owner first (see [`Client::set_stat`](super::Client::set_stat)).
    /// Incus's server sets times by the name under which the file was opened.
    ///
    /// # Errors
    /// As all operations.
    pub async fn set_stat(&self, attrs: &Attrs) -> Result<(), Error> {
        for part in in_order(attrs) {
            let request = Request::new(Op::Fsetstat).string(&self.handle).attrs(&part);
            self.connection.send(request).done().await?;
        }
        Ok(())
    }

    /// At most 128 KiB from `offset`; fewer than asked for is normal, none is the end.
    ///
    /// # Errors
    /// As all operations.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        let length = length.min(CHUNK);
        data(self.ask_read(offset, length).reply().await?, length).map(Option::unwrap_or_default)
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// As all operations; part of it may then be written.
    pub async fn write_at(&self, mut offset: u64, mut data: Bytes) -> Result<(), Error> {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(CHUNK));
            let length = piece.len() as u64;
            self.ask_write(offset, piece).done().await?;
            offset += length;
        }
        Ok(())
    }

    /// Writes what the server holds to the disk.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the server lacks the extension, as Incus's does.
    pub async fn sync(&self) -> Result<(), Error> {
        if !self.connection.has_extension(FSYNC) {
            return Err(Error::Unsupported);
        }
        let request = Request::new(Op::Extended).string(FSYNC).string(&self.handle);
        self.connection.send(request).done().await
    }

    /// Closes it; some file systems report a failed write only now.
    ///
    /// # Errors
    /// As all operations.
    pub async fn close(mut self) -> Result<(), Error> {
        self.ask_close().done().await
    }

    /// Streams it from its beginning, reading ahead.
    pub fn into_reader(self) -> Reader {
        Reader::new(self)
    }

    /// Streams into it from its beginning, writing behind.
    pub fn into_writer(self) -> Writer {
        Writer::new(self)
    }

    pub(super) fn ask_read(&self, offset: u64, length: usize) -> Ticket {
        let request = Request::new(Op::Read)
            .string(&self.handle)
            .u64(offset)
            .u32(u32::try_from(length).unwrap_or(u32::MAX));
        self.connection.send(request)
    }

    pub(super) fn ask_write(&self, offset: u64, data: Bytes) -> Ticket {
        let request = Request::new(Op::Write).string(&self.handle).u64(offset).data(data);
        self.connection.send(request)
    }

    pub(super) fn ask_close(&mut self) -> Ticket {
        self.open = false;
        let request = Request::new(Op::Close).string(&self.handle);
        self.connection.send(request)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.open {
            self.connection.forget(&self.handle);
        }
    }
}

/// The data of a read of `asked` bytes, at least one; `None` at the end of the file.
pub(super) fn data(reply: Reply, asked: usize) -> Result<Option<Bytes>, Error> {
    match reply {
        Reply::Data(data) if data.is_empty() || data.len() > asked => {
            Err(Error::protocol("data of an impossible length"))
        }
        Reply::Data(data) => Ok(Some(data)),
        Reply::Status { code: STATUS_EOF, .. } => Ok(None),
        other => Err(other.into_error()),
    }
}
