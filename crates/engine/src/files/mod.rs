//! Files of pixels: the client of the face `files`.
//!
//! One operation takes one connection, and a connection does one operation at a
//! time: idle ones are kept and used again. What answers runs inside the
//! pixel, whose root may have put anything in its place, so every answer is
//! checked, bounded in size, and not waited for without end.

// The parts of the engine that connect are yet to come.
#![cfg_attr(not(test), allow(dead_code))]

mod conn;
mod download;
mod errors;
mod leftover;
mod pool;
#[cfg(test)]
mod tests;
mod upload;

use std::sync::Arc;

use async_trait::async_trait;
use pixels_core::{
    Bytes, DirEntry, Error, FileKind, FileSession, FileStat, Owner, Reader, Result, WriteOpts,
};
use pixels_guest_api::files::{Attrs, END, Entry, Kind, Reply, Request, Stat};

use conn::{Frame, Trouble};
use errors::Subject;
use pool::Pool;
pub(crate) use pool::{Connect, Unfinished};

/// The most entries of one directory that are listed, and the most bytes their
/// names take: a guest can make a directory without end.
const MAX_ENTRIES: usize = 1 << 20;
const MAX_NAMES: usize = 64 << 20;

/// File operations in one pixel. Calls that wait for a single answer take at
/// most four connections at once; every open reader and every write takes one more.
pub(crate) struct Session {
    pool: Arc<Pool>,
}

impl Session {
    /// A session over connections that `connect` makes when one is needed. What
    /// writes leave half-made when they are dropped is removed by the other
    /// side: [`Unfinished::settle`] waits for that.
    pub(crate) fn new(connect: Arc<dyn Connect>, unfinished: Arc<Unfinished>) -> Self {
        Self { pool: Pool::new(connect, unfinished) }
    }

    /// An operation whose answer says no more than that it is done.
    async fn done(&self, request: Request) -> Result<()> {
        match self.pool.call(&request).await? {
            Reply::Done => Ok(()),
            _ => Err(errors::unexpected()),
        }
    }
}

#[async_trait]
impl FileSession for Session {
    async fn stat(&self, path: &[u8], follow: bool) -> Result<FileStat> {
        match self.pool.call(&Request::Stat { path: path.to_vec(), follow }).await? {
            Reply::Stat(found) => Ok(stat(&found)),
            _ => Err(errors::unexpected()),
        }
    }

    async fn read_dir(&self, path: &[u8]) -> Result<Vec<DirEntry>> {
        let request = Request::ReadDir { path: path.to_vec() };
        let subject = Subject::of(&request);
        let _turn = self.pool.turn().await;
        let (mut lease, mut frame) = self.pool.begin(&request).await?;
        let (mut listed, mut names) = (Vec::new(), 0);
        loop {
            match frame {
                Frame::Control(END) => break,
                Frame::Reply(Reply::Entries(entries)) => {
                    names += entries.iter().map(|e| e.name.len()).sum::<usize>();
                    listed.extend(entries.into_iter().map(entry));
                    if listed.len() > MAX_ENTRIES || names > MAX_NAMES {
                        return Err(subject.too_many());
                    }
                }
                Frame::Reply(Reply::Error(fault)) => {
                    lease.keep();
                    return Err(subject.fault(fault));
                }
                _ => return Err(errors::unexpected()),
            }
            frame = lease.frame().await.map_err(|t| subject.trouble(t))?;
        }
        lease.keep();
        Ok(listed)
    }

    async fn read_link(&self, path: &[u8]) -> Result<Bytes> {
        match self.pool.call(&Request::ReadLink { path: path.to_vec() }).await? {
            Reply::Link(target) => Ok(target),
            _ => Err(errors::unexpected()),
        }
    }

    async fn open_read(&self, path: &[u8]) -> Result<(FileStat, Reader)> {
        let request = Request::Read { path: path.to_vec() };
        let subject = Subject::of(&request);
        let (lease, frame) = self.pool.begin(&request).await?;
        match frame {
            Frame::Reply(Reply::Stat(found)) if found.kind == Kind::File => {
                Ok((stat(&found), Box::pin(download::Download::new(lease, subject))))
            }
            Frame::Reply(Reply::Error(fault)) => {
                lease.keep();
                Err(subject.fault(fault))
            }
            _ => Err(errors::unexpected()),
        }
    }

    async fn write(&self, path: &[u8], content: Reader, opts: WriteOpts) -> Result<u64> {
        let temp = self.temp_name();
        upload::write(&self.pool, path, temp, content, attrs(opts)).await
    }

    async fn mkdir(&self, path: &[u8], mode: u32, owner: Option<Owner>) -> Result<()> {
        let mode = mode & 0o7777;
        self.done(Request::Mkdir { path: path.to_vec(), mode, owner: owner.map(ids) }).await
    }

    async fn symlink(&self, target: &[u8], path: &[u8], owner: Option<Owner>) -> Result<()> {
        let (target, path) = (target.to_vec(), path.to_vec());
        self.done(Request::Symlink { target, path, owner: owner.map(ids) }).await
    }

    async fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.done(Request::Rename { from: from.to_vec(), to: to.to_vec() }).await
    }

    async fn remove_file(&self, path: &[u8]) -> Result<()> {
        self.done(Request::RemoveFile { path: path.to_vec() }).await
    }

    async fn remove_dir(&self, path: &[u8]) -> Result<()> {
        self.done(Request::RemoveDir { path: path.to_vec() }).await
    }

    async fn set_attrs(&self, path: &[u8], opts: WriteOpts) -> Result<()> {
        self.done(Request::SetAttrs { path: path.to_vec(), attrs: attrs(opts) }).await
    }

    fn temp_name(&self) -> Bytes {
        leftover::temp_name()
    }

    fn is_leftover(&self, entry: &DirEntry) -> bool {
        leftover::is_leftover(entry)
    }
}

fn stat(found: &Stat) -> FileStat {
    FileStat {
        kind: match found.kind {
            Kind::File => FileKind::File,
            Kind::Dir => FileKind::Dir,
            Kind::Symlink => FileKind::Symlink,
            Kind::Special => FileKind::Special,
        },
        size: found.size,
        mode: found.mode,
        owner: Owner { uid: found.uid, gid: found.gid },
        mtime: found.mtime,
    }
}

fn entry(entry: Entry) -> DirEntry {
    DirEntry { stat: stat(&entry.stat), name: entry.name }
}

fn ids(owner: Owner) -> (u32, u32) {
    (owner.uid, owner.gid)
}

fn attrs(opts: WriteOpts) -> Attrs {
    Attrs { mode: opts.mode.map(|m| m & 0o7777), owner: opts.owner.map(ids), mtime: opts.mtime }
}

/// What a connection's trouble means where there is no subject to it.
fn lost() -> Error {
    errors::trouble(Trouble::Lost)
}
