//! From this host into a pixel.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use pixels_core::{Error, FileKind, FileSession, Owner, Reader, Result, WriteOpts};
use tokio::io::{AsyncRead, BufReader, ReadBuf};

use super::host::{self, HostDir};
use super::tree::{Bounds, Meter, Node, join, refuse, special};
use super::{AT_ONCE, BLOCK, PushOpts, Transferred, guest};
use crate::facade::Leftover;
use crate::{Pixels, Remote};

/// A source, looked at.
struct Source {
    /// The directory it is in.
    parent: HostDir,
    /// It: a node with its name in `parent`.
    node: Node,
    /// Its content is meant, not itself: the path ended in `/.`.
    content: bool,
}

/// Looks at a source and all below it, before anything is changed.
fn look(path: &Path) -> Result<Source> {
    let raw = path.as_os_str().as_bytes();
    let content = raw == b"." || raw.ends_with(b"/.");
    // A trailing slash asks for the directory that a link leads to.
    let follow = content || raw.ends_with(b"/");
    let real;
    let path = if follow || path.file_name().is_none() {
        real = std::fs::canonicalize(path).map_err(|e| host::stream(raw, e))?;
        if !real.is_dir() {
            return Err(refuse(raw, "it is not a directory"));
        }
        real.as_path()
    } else {
        path
    };
    let name =
        path.file_name().ok_or_else(|| refuse(raw, "the root of this host is not copied"))?;
    let parent = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => HostDir::open(dir)?,
        _ => HostDir::open(Path::new("."))?,
    };
    let node = parent.scan(name.as_bytes(), 0, &mut Bounds::default())?;
    Ok(Source { parent, node, content })
}

impl Pixels {
    pub(super) async fn push_inner(
        &self,
        sources: &[PathBuf],
        to: &Remote,
        opts: PushOpts,
    ) -> Result<Transferred> {
        let paths = sources.to_vec();
        let looking = tokio::task::spawn_blocking(move || paths.iter().map(|p| look(p)).collect());
        let found: Result<Vec<Source>> =
            looking.await.map_err(|e| Error::backend("push", e.to_string()))?;
        let found = found?;
        if found.is_empty() {
            return Err(Error::invalid("source", "", "push needs at least one"));
        }
        let session = self.backend().files(&to.name).await?;
        let user = guest::user(session.as_ref(), &self.config().ssh.user).await?;
        let dest = super::absolute(&user.home, &to.path);
        let total = found.iter().fold(0, |sum, s| s.node.bytes().saturating_add(sum));
        let push = Push {
            pixels: self,
            remote: to,
            session: session.as_ref(),
            owner: opts.owner.unwrap_or(user.owner),
            meter: Arc::new(Meter::new(total, opts.progress)),
        };
        for (source, target) in push.targets(&found, &dest).await? {
            push.one(source, target).await?;
        }
        Ok(push.meter.done())
    }
}

struct Push<'a> {
    pixels: &'a Pixels,
    remote: &'a Remote,
    session: &'a dyn FileSession,
    owner: Owner,
    meter: Arc<Meter>,
}

/// Where a source goes.
struct Target {
    path: Vec<u8>,
    /// What is there already, links followed.
    there: Option<FileKind>,
}

impl Push<'_> {
    /// Finds where each source goes and whether it may, before anything is changed.
    async fn targets<'s>(
        &self,
        found: &'s [Source],
        dest: &[u8],
    ) -> Result<Vec<(&'s Source, Target)>> {
        let there = guest::stat(self.session, dest, true).await?.map(|s| s.kind);
        let into = there == Some(FileKind::Dir);
        if found.len() > 1 && !into {
            return Err(match there {
                None => {
                    guest::missing(dest).with_hint("several sources need a directory that exists")
                }
                Some(_) => refuse(dest, "several sources need a directory"),
            });
        }
        let mut targets: Vec<(&Source, Target)> = Vec::new();
        for source in found {
            let target = if into && !source.content {
                let path = join(dest, &source.node.name);
                let there = guest::stat(self.session, &path, true).await?.map(|s| s.kind);
                Target { path, there }
            } else {
                if dest.ends_with(b"/") && source.node.kind != FileKind::Dir {
                    let rule = "it ends in a slash and is not a directory";
                    return Err(if there.is_none() {
                        guest::missing(dest)
                    } else {
                        refuse(dest, rule)
                    });
                }
                Target { path: dest.to_vec(), there }
            };
            match (source.node.kind, target.there) {
                (_, Some(FileKind::Special)) => return Err(special(&target.path)),
                (FileKind::Dir, Some(FileKind::File | FileKind::Symlink)) => {
                    return Err(refuse(
                        &target.path,
                        "it is not a directory, what is pushed is one",
                    ));
                }
                (FileKind::File | FileKind::Symlink, Some(FileKind::Dir)) => {
                    return Err(refuse(&target.path, "it is a directory, what is pushed is not"));
                }
                _ => {}
            }
            if targets.iter().any(|(_, t)| t.path == target.path && !source.content) {
                return Err(refuse(&target.path, "two sources would have that name"));
            }
            targets.push((source, target));
        }
        Ok(targets)
    }

    async fn one(&self, source: &Source, target: Target) -> Result<()> {
        let (parent, node) = (&source.parent, &source.node);
        if let Some((dir, _)) = guest::split(&target.path) {
            guest::tidy(self.session, &dir).await;
        }
        match (node.kind, target.there) {
            (FileKind::Dir, Some(_)) => {
                let dir = parent.dir(&node.name)?;
                self.below(&dir, node, target.path, true).await
            }
            (FileKind::Dir, None) => self.fresh(parent, node, &target.path).await,
            _ => self.entry(parent, node, target.path, true).await,
        }
    }

    /// A tree where nothing is: under another name first, in place when it is whole.
    async fn fresh(&self, parent: &HostDir, node: &Node, target: &[u8]) -> Result<()> {
        let (dir, name) = guest::split(target).ok_or_else(|| guest::missing(target))?;
        let temp = join(&dir, &self.session.temp_name());
        let leftover = Leftover::Path { pixel: self.remote.name.clone(), path: temp.clone() };
        let guard = self.pixels.guard(leftover);
        let made = async {
            self.directory(parent, node, temp.clone(), false).await?;
            self.session.rename(&temp, &join(&dir, &name)).await
        }
        .await;
        match made {
            Ok(()) => guard.disarm(),
            Err(e) => {
                if guest::remove(self.session, temp, 0).await.is_ok() {
                    guard.disarm();
                }
                return Err(e);
            }
        }
        Ok(())
    }

    /// One entry to `path`. `merge`: something may be there.
    fn entry<'b>(
        &'b self,
        parent: &'b HostDir,
        node: &'b Node,
        path: Vec<u8>,
        merge: bool,
    ) -> BoxFuture<'b, Result<()>> {
        Box::pin(async move {
            match node.kind {
                FileKind::Dir => self.directory(parent, node, path, merge).await,
                FileKind::Symlink => self.link(parent, node, &path, merge).await,
                FileKind::File | FileKind::Special => self.file(parent, node, &path).await,
            }
        })
    }

    async fn directory(
        &self,
        parent: &HostDir,
        node: &Node,
        path: Vec<u8>,
        merge: bool,
    ) -> Result<()> {
        let dir = parent.dir(&node.name)?;
        // Writable until it is full, whoever writes.
        let (open, mode) = (node.mode | 0o700, node.mode);
        match self.session.mkdir(&path, open, Some(self.owner)).await {
            Ok(()) => self.meter.dir(),
            Err(e) if merge && e.is_already_exists() => {
                let kind = self.session.stat(&path, false).await?.kind;
                if kind != FileKind::Dir {
                    return Err(refuse(&path, "it is not a directory, what is pushed is one"));
                }
                return self.below(&dir, node, path, true).await;
            }
            Err(e) => return Err(e),
        }
        self.below(&dir, node, path.clone(), merge).await?;
        if open != mode {
            let opts = WriteOpts { mode: Some(mode), ..WriteOpts::default() };
            self.session.set_attrs(&path, opts).await?;
        }
        Ok(())
    }

    /// What is in `node` to below `path`: files side by side, then directories one by one.
    async fn below(&self, dir: &HostDir, node: &Node, path: Vec<u8>, merge: bool) -> Result<()> {
        if merge {
            guest::tidy(self.session, &path).await;
        }
        let (dirs, others): (Vec<_>, Vec<_>) =
            node.children.iter().partition(|child| child.kind == FileKind::Dir);
        let work = others.into_iter().map(|child| {
            let path = join(&path, &child.name);
            self.entry(dir, child, path, merge)
        });
        stream::iter(work.collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        for child in dirs {
            self.entry(dir, child, join(&path, &child.name), merge).await?;
        }
        Ok(())
    }

    async fn file(&self, parent: &HostDir, node: &Node, path: &[u8]) -> Result<()> {
        let file = parent.read(&node.name)?;
        let content =
            Counted { inner: tokio::fs::File::from_std(file), meter: Arc::clone(&self.meter) };
        let content: Reader = Box::pin(BufReader::with_capacity(BLOCK, content));
        let opts =
            WriteOpts { mode: Some(node.mode), owner: Some(self.owner), mtime: Some(node.mtime) };
        self.session.write(path, content, opts).await?;
        self.meter.file();
        Ok(())
    }

    async fn link(&self, parent: &HostDir, node: &Node, path: &[u8], merge: bool) -> Result<()> {
        let target = parent.read_link(&node.name)?;
        match self.session.symlink(&target, path, Some(self.owner)).await {
            Ok(()) => {}
            Err(e) if merge && e.is_already_exists() => self.replace_by_link(&target, path).await?,
            Err(e) => return Err(e),
        }
        self.meter.link();
        Ok(())
    }

    async fn replace_by_link(&self, target: &[u8], path: &[u8]) -> Result<()> {
        match self.session.stat(path, false).await?.kind {
            FileKind::Dir => return Err(refuse(path, "a directory is in the way of a link")),
            FileKind::Special => return Err(special(path)),
            FileKind::File | FileKind::Symlink => {}
        }
        let (dir, _) = guest::split(path).ok_or_else(|| guest::missing(path))?;
        let temp = join(&dir, &self.session.temp_name());
        let leftover = Leftover::Path { pixel: self.remote.name.clone(), path: temp.clone() };
        let guard = self.pixels.guard(leftover);
        self.session.symlink(target, &temp, Some(self.owner)).await?;
        let renamed = self.session.rename(&temp, path).await;
        if renamed.is_ok() || self.session.remove_file(&temp).await.is_ok() {
            guard.disarm();
        }
        renamed
    }
}

/// Tells the meter what is read.
struct Counted {
    inner: tokio::fs::File,
    meter: Arc<Meter>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let more = buf.filled().len() - before;
        if more > 0 {
            self.meter.bytes(more as u64);
        }
        Poll::Ready(Ok(()))
    }
}
