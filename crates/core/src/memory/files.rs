//! File operations: each takes the lock, acts on the tree and lets go.

use async_trait::async_trait;
use tokio::io::AsyncReadExt;

use super::tree::Tree;
use super::{Memory, World};
use crate::{
    Bytes, DirEntry, Error, FileKind, FileSession, FileStat, Files, Name, Owner, Reader, Result,
    WriteOpts,
};

/// A session: the pixel's name, looked up at every call.
struct Session {
    memory: Memory,
    name: Name,
}

impl Session {
    fn with<T>(&self, act: impl FnOnce(&mut Tree) -> Result<T>) -> Result<T> {
        let mut world = self.memory.lock();
        act(&mut World::pixel_mut(&mut world, &self.name)?.tree)
    }
}

#[async_trait]
impl Files for Memory {
    async fn files(&self, name: &Name) -> Result<Box<dyn FileSession>> {
        self.lock().pixel(name)?;
        Ok(Box::new(Session { memory: self.clone(), name: name.clone() }))
    }
}

#[async_trait]
impl FileSession for Session {
    async fn stat(&self, path: &[u8], follow: bool) -> Result<FileStat> {
        self.with(|t| t.stat(path, follow))
    }

    async fn read_dir(&self, path: &[u8]) -> Result<Vec<DirEntry>> {
        self.with(|t| t.read_dir(path))
    }

    async fn read_link(&self, path: &[u8]) -> Result<Bytes> {
        self.with(|t| t.read_link(path))
    }

    async fn open_read(&self, path: &[u8]) -> Result<(FileStat, Reader)> {
        let (stat, content) = self.with(|t| t.read(path))?;
        Ok((stat, Box::pin(std::io::Cursor::new(Content(content)))))
    }

    async fn write(&self, path: &[u8], mut content: Reader, opts: WriteOpts) -> Result<u64> {
        // What is in the way is found before the content is asked for.
        match self.with(|t| t.stat(path, true)) {
            Ok(stat) if stat.kind != FileKind::File => {
                return Err(Error::invalid(
                    "path",
                    &crate::text::clean_bytes(path),
                    "it is not a regular file",
                ));
            }
            _ => {}
        }
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).await.map_err(|e| Error::Backend {
            what: format!("write {}", crate::text::clean_bytes(path)),
            message: e.to_string(),
            source: Some(Box::new(e)),
        })?;
        let length = bytes.len() as u64;
        self.with(|t| t.write(path, bytes, opts))?;
        Ok(length)
    }

    async fn mkdir(&self, path: &[u8], mode: u32, owner: Option<Owner>) -> Result<()> {
        self.with(|t| {
            t.make(path, FileKind::Dir, mode)?;
            t.chown(path, owner)
        })
    }

    async fn symlink(&self, target: &[u8], path: &[u8], owner: Option<Owner>) -> Result<()> {
        self.with(|t| {
            t.symlink(target, path)?;
            t.chown(path, owner)
        })
    }

    async fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.with(|t| t.rename(from, to))
    }

    async fn remove_file(&self, path: &[u8]) -> Result<()> {
        self.with(|t| t.remove_file(path))
    }

    async fn remove_dir(&self, path: &[u8]) -> Result<()> {
        self.with(|t| t.remove_dir(path))
    }

    async fn set_attrs(&self, path: &[u8], opts: WriteOpts) -> Result<()> {
        self.with(|t| t.set_attrs(path, opts))
    }
}

/// A file's content as it was when it was opened.
struct Content(std::sync::Arc<Vec<u8>>);

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
