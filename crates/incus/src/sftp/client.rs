//! The operations on paths.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::attrs::Attrs;
use super::connection::Connection;
use super::error::Error;
use super::file::{File, OpenFlags};
use super::packet::{Op, Reply, Request, STATUS_EOF};
use super::reader::Reader;

const POSIX_RENAME: &[u8] = b"posix-rename@openssh.com";
const HARDLINK: &[u8] = b"hardlink@openssh.com";
/// A server that lists more than this in one directory is not believed.
const MAX_ENTRIES: usize = 4_000_000;
/// Directory reads in flight.
const DIR_WINDOW: usize = 4;

/// An SFTP session. Clones share it, and their requests run concurrently.
///
/// No operation has a time limit of its own. Dropping a future abandons its answer, not
/// the session; a handle that arrives too late is closed.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Arc<Connection>,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name alone: not empty, no `/`, no NUL, neither `.` nor `..`.
    pub name: Vec<u8>,
    /// The attributes of the entry itself; symlinks are not followed.
    pub attrs: Attrs,
}

impl Client {
    /// Starts a session. Must be called inside a tokio runtime, which then drives it.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`], or [`Error::Protocol`] if the peer does not speak version 3.
    pub async fn connect<S>(stream: S) -> Result<Client, Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let connection = Connection::open(stream).await?;
        Ok(Client { connection })
    }

    /// Attributes, following symlinks.
    ///
    /// # Errors
    /// [`Error::NotFound`] and the others of [`Error`], as all operations.
    pub async fn stat(&self, path: &[u8]) -> Result<Attrs, Error> {
        self.attrs(Request::new(Op::Stat).path(path)?).await
    }

    /// Attributes of the path itself.
    ///
    /// # Errors
    /// As [`stat`](Self::stat).
    pub async fn lstat(&self, path: &[u8]) -> Result<Attrs, Error> {
        self.attrs(Request::new(Op::Lstat).path(path)?).await
    }

    /// Sets attributes, following symlinks. The owner is set first, in a request of its own:
    /// changing it clears setuid, and Incus's server would change the mode before it.
    ///
    /// # Errors
    /// As all operations; the owner may then be set already.
    pub async fn set_stat(&self, path: &[u8], attrs: &Attrs) -> Result<(), Error> {
        for part in in_order(attrs) {
            let request = Request::new(Op::Setstat).path(path)?.attrs(&part);
            self.connection.send(request).done().await?;
        }
        Ok(())
    }

    /// Opens a file; `mode` is for one that is created, less the server's umask. Never to be
    /// called on what [`lstat`](Self::lstat) does not show as a regular file or a symlink to one.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Failure`] also if it exists and must not.
    pub async fn open(&self, path: &[u8], flags: OpenFlags, mode: u32) -> Result<File, Error> {
        let attrs = if flags.creates() { Attrs::mode(mode) } else { Attrs::default() };
        let request = Request::new(Op::Open).path(path)?.u32(flags.bits()).attrs(&attrs);
        let handle = self.handle(request).await?;
        Ok(File::new(Arc::clone(&self.connection), handle))
    }

    /// Opens a file and streams it from its beginning.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn read(&self, path: &[u8]) -> Result<Reader, Error> {
        Ok(self.open(path, OpenFlags::READ, 0).await?.into_reader())
    }

    /// The entries of a directory, in the server's order, without `.` and `..`.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the server sends a name that would lead elsewhere.
    pub async fn read_dir(&self, path: &[u8]) -> Result<Vec<Entry>, Error> {
        let handle = self.handle(Request::new(Op::Opendir).path(path)?).await?;
        // Closes itself whatever happens.
        let dir = File::new(Arc::clone(&self.connection), handle);
        let ask = || {
            let request = Request::new(Op::Readdir).string(dir.handle());
            self.connection.send(request)
        };
        let mut entries = Vec::new();
        let mut asked = std::collections::VecDeque::from([ask()]);
        while let Some(ticket) = asked.pop_front() {
            match ticket.reply().await? {
                Reply::Names(names) => {
                    if names.is_empty() || entries.len() + names.len() > MAX_ENTRIES {
                        return Err(Error::protocol("impossible directory listing"));
                    }
                    for (name, attrs) in names {
                        entries.extend(entry(&name, attrs)?);
                    }
                    while asked.len() < DIR_WINDOW {
                        asked.push_back(ask());
                    }
                }
                Reply::Status { code: STATUS_EOF, .. } => break,
                other => return Err(other.into_error()),
            }
        }
        Ok(entries)
    }

    /// Makes a directory, less the server's umask. Incus's server ignores `mode`: set it after.
    ///
    /// # Errors
    /// As all operations; [`Error::Failure`] if the name is taken.
    pub async fn mkdir(&self, path: &[u8], mode: u32) -> Result<(), Error> {
        let request = Request::new(Op::Mkdir).path(path)?.attrs(&Attrs::mode(mode));
        self.connection.send(request).done().await
    }

    /// Removes an empty directory. Incus's server also removes a file.
    ///
    /// # Errors
    /// As all operations; [`Error::Failure`] if it is not empty.
    pub async fn rmdir(&self, path: &[u8]) -> Result<(), Error> {
        let request = Request::new(Op::Rmdir).path(path)?;
        self.connection.send(request).done().await
    }

    /// Removes a file or symlink. Incus's server also removes an empty directory.
    ///
    /// # Errors
    /// As all operations.
    pub async fn remove(&self, path: &[u8]) -> Result<(), Error> {
        let request = Request::new(Op::Remove).path(path)?;
        self.connection.send(request).done().await
    }

    /// Renames, replacing what is at `to` in one step (servers without posix-rename may
    /// refuse instead).
    ///
    /// # Errors
    /// As all operations.
    pub async fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), Error> {
        let request = if self.connection.has_extension(POSIX_RENAME) {
            Request::new(Op::Extended).string(POSIX_RENAME)
        } else {
            Request::new(Op::Rename)
        };
        self.connection.send(request.path(from)?.path(to)?).done().await
    }

    /// Makes a second name for a file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the server lacks the extension.
    pub async fn hard_link(&self, existing: &[u8], new: &[u8]) -> Result<(), Error> {
        if !self.connection.has_extension(HARDLINK) {
            return Err(Error::Unsupported);
        }
        let request = Request::new(Op::Extended).string(HARDLINK);
        self.connection.send(request.path(existing)?.path(new)?).done().await
    }

    /// Makes a symlink at `link` that contains `target`. On the wire the target comes first:
    /// the draft says the opposite, OpenSSH began so, and Incus's server does the same.
    ///
    /// # Errors
    /// As all operations.
    pub async fn symlink(&self, target: &[u8], link: &[u8]) -> Result<(), Error> {
        let request = Request::new(Op::Symlink).path(target)?.path(link)?;
        self.connection.send(request).done().await
    }

    /// What a symlink contains: any bytes, to be judged before they are followed.
    ///
    /// # Errors
    /// As all operations; [`Error::Failure`] if it is no symlink.
    pub async fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        self.one_name(Request::new(Op::Readlink).path(path)?).await
    }

    /// The path made absolute. Incus's server only cleans it, OpenSSH's follows symlinks.
    ///
    /// # Errors
    /// As all operations.
    pub async fn realpath(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        self.one_name(Request::new(Op::Realpath).path(path)?).await
    }

    async fn attrs(&self, request: Request) -> Result<Attrs, Error> {
        match self.connection.send(request).reply().await? {
            Reply::Attrs(attrs) => Ok(attrs),
            other => Err(other.into_error()),
        }
    }

    async fn handle(&self, request: Request) -> Result<Bytes, Error> {
        match self.connection.send(request).reply().await? {
            Reply::Handle(handle) => Ok(handle),
            other => Err(other.into_error()),
        }
    }

    async fn one_name(&self, request: Request) -> Result<Vec<u8>, Error> {
        match self.connection.send(request).reply().await? {
            Reply::Names(names) if names.len() == 1 => {
                let name = names[0].0.to_vec();
                if name.contains(&0) {
                    return Err(Error::protocol("path with a NUL byte"));
                }
                Ok(name)
            }
            other => Err(other.into_error()),
        }
    }
}

/// One attribute set as the requests that set it without undoing each other.
pub(super) fn in_order(attrs: &Attrs) -> impl Iterator<Item = Attrs> {
    let owner = Attrs { owner: attrs.owner, ..Attrs::default() };
    let rest = Attrs { owner: None, ..*attrs };
    [owner, rest].into_iter().filter(|a| *a != Attrs::default())
}

/// `None` for the two names every directory has.
fn entry(name: &[u8], attrs: Attrs) -> Result<Option<Entry>, Error> {
    if name == b"." || name == b".." {
        return Ok(None);
    }
    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
        return Err(Error::protocol("impossible name in a directory"));
    }
    Ok(Some(Entry { name: name.to_vec(), attrs }))
}
