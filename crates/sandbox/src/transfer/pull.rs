//! From a pixel to this host. The pixel is not trusted: what it lists and sends
//! is checked, and nothing is written but through directories that we opened
//! without following a link.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use pixels_core::{FileKind, FileSession, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::host::{self, HostDir, Unfinished};
use super::tree::{Bounds, Meter, Node, join, refuse, special};
use super::{AT_ONCE, BLOCK, PullOpts, Transferred, guest};
use crate::{Pixels, Remote};

impl Pixels {
    pub(super) async fn pull_inner(
        &self,
        from: &Remote,
        to: &Path,
        opts: PullOpts,
    ) -> Result<Transferred> {
        let session = self.backend().files(&from.name).await?;
        let session = session.as_ref();
        let user = guest::user(session, &self.config().ssh.user).await?;
        let source = super::absolute(&user.home, &from.path);
        let content = source.ends_with(b"/.") || source.iter().all(|b| *b == b'/');
        let follow = content || source.ends_with(b"/") || from.path.is_empty();
        let stat = session.stat(&source, follow).await?;
        if follow && stat.kind != FileKind::Dir {
            return Err(refuse(&source, "it is not a directory"));
        }
        let place = place(to, &source, content, stat.kind)?;
        let node =
            guest::scan(session, source.clone(), Vec::new(), stat, 0, &mut Bounds::default())
                .await?;
        let pull = Pull { session, meter: Meter::new(node.bytes(), opts.progress) };
        match place {
            Place::Into(dir) => pull.below(&dir, &node, &source, true).await?,
            Place::At { parent, name } => pull.at(&parent, &name, &node, &source).await?,
        }
        Ok(pull.meter.done())
    }
}

/// Where on the host it goes.
enum Place {
    /// What is in it goes into this directory.
    Into(HostDir),
    /// It itself goes into `parent` as `name`.
    At { parent: HostDir, name: Vec<u8> },
}

fn place(to: &Path, source: &[u8], content: bool, kind: FileKind) -> Result<Place> {
    let raw = to.as_os_str().as_bytes();
    // The user's own path: its links are followed as far as they lead to directories.
    match std::fs::metadata(to) {
        Ok(meta) if meta.is_dir() => {
            let dir = HostDir::open(to)?;
            if content {
                return Ok(Place::Into(dir));
            }
            Ok(Place::At { parent: dir, name: guest::last(source)? })
        }
        Ok(_) if kind == FileKind::Dir => {
            Err(refuse(raw, "it is not a directory, what is pulled is one"))
        }
        Ok(_) | Err(_) => {
            if raw.ends_with(b"/") && kind != FileKind::Dir {
                return Err(host::failed(raw, rustix::io::Errno::NOENT));
            }
            let name = to.file_name().ok_or_else(|| host::failed(raw, rustix::io::Errno::NOENT))?;
            let parent = match to.parent() {
                Some(dir) if !dir.as_os_str().is_empty() => HostDir::open(dir)?,
                _ => HostDir::open(Path::new("."))?,
            };
            let name = name.as_bytes().to_vec();
            if parent.kind(&name)? == Some(FileKind::Special) {
                return Err(special(raw));
            }
            Ok(Place::At { parent, name })
        }
    }
}

/// Refuses what a file or link cannot replace.
fn free(parent: &HostDir, name: &[u8]) -> Result<()> {
    let path = || join(&parent.path, name);
    match parent.kind(name)? {
        Some(FileKind::Dir) => Err(refuse(&path(), "a directory is in the way")),
        Some(FileKind::Special) => Err(special(&path())),
        _ => Ok(()),
    }
}

struct Pull<'a> {
    session: &'a dyn FileSession,
    meter: Meter,
}

impl Pull<'_> {
    async fn at(&self, parent: &HostDir, name: &[u8], node: &Node, source: &[u8]) -> Result<()> {
        if node.kind != FileKind::Dir {
            return self.entry(parent, name, node, source.to_vec(), true).await;
        }
        match parent.kind(name)? {
            // A whole new tree: under another name first, in place when it is whole.
            None => {
                let temp = Unfinished::new(parent);
                self.directory(parent, temp.name(), node, source.to_vec(), false).await?;
                temp.place(name)
            }
            Some(_) => self.directory(parent, name, node, source.to_vec(), true).await,
        }
    }

    /// One entry into `parent` as `name`. `merge`: something may be there.
    fn entry<'b>(
        &'b self,
        parent: &'b HostDir,
        name: &'b [u8],
        node: &'b Node,
        source: Vec<u8>,
        merge: bool,
    ) -> BoxFuture<'b, Result<()>> {
        Box::pin(async move {
            match node.kind {
                FileKind::Dir => self.directory(parent, name, node, source, merge).await,
                FileKind::Symlink => self.link(parent, name, &source, merge).await,
                FileKind::File => self.file(parent, name, node, &source, merge).await,
                FileKind::Special => Err(special(&source)),
            }
        })
    }

    async fn directory(
        &self,
        parent: &HostDir,
        name: &[u8],
        node: &Node,
        source: Vec<u8>,
        merge: bool,
    ) -> Result<()> {
        if merge && parent.kind(name)?.is_some() {
            // Opened without following: a link that leads elsewhere is refused.
            let dir = parent.dir(name)?;
            return self.below(&dir, node, &source, true).await;
        }
        let dir = parent.make_dir(name)?;
        self.meter.dir();
        self.below(&dir, node, &source, merge).await?;
        dir.set_mode(node.mode)
    }

    /// What is in `node` into `dir`: files side by side, then directories one by one.
    async fn below(&self, dir: &HostDir, node: &Node, source: &[u8], merge: bool) -> Result<()> {
        let (dirs, others): (Vec<_>, Vec<_>) =
            node.children.iter().partition(|child| child.kind == FileKind::Dir);
        let work = others
            .into_iter()
            .map(|child| self.entry(dir, &child.name, child, join(source, &child.name), merge));
        stream::iter(work.collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        for child in dirs {
            self.entry(dir, &child.name, child, join(source, &child.name), merge).await?;
        }
        Ok(())
    }

    async fn file(
        &self,
        parent: &HostDir,
        name: &[u8],
        node: &Node,
        source: &[u8],
        merge: bool,
    ) -> Result<()> {
        // A link that has taken the file's place since it was listed would
        // bring another file of the same pixel: no boundary is crossed.
        let (stat, mut content) = self.session.open_read(source).await?;
        if stat.kind != FileKind::File {
            return Err(special(source));
        }
        let shown = join(&parent.path, name);
        if merge {
            free(parent, name)?;
        }
        let temp = Unfinished::new(parent);
        let mut file = tokio::fs::File::from_std(parent.make_file(temp.name())?);
        let mut block = vec![0; BLOCK.min(usize::try_from(stat.size).unwrap_or(BLOCK).max(4096))];
        loop {
            let n = content.read(&mut block).await.map_err(|e| host::stream(source, e))?;
            if n == 0 {
                break;
            }
            file.write_all(&block[..n]).await.map_err(|e| host::stream(&shown, e))?;
            self.meter.bytes(n as u64);
        }
        file.flush().await.map_err(|e| host::stream(&shown, e))?;
        host::finish(&file.into_std().await, node.mode, node.mtime, &shown)?;
        if merge {
            temp.replace(name)?
        } else {
            temp.place(name)?
        }
        self.meter.file();
        Ok(())
    }

    async fn link(&self, parent: &HostDir, name: &[u8], source: &[u8], merge: bool) -> Result<()> {
        let target = self.session.read_link(source).await?;
        if target.is_empty() || target.contains(&0) {
            return Err(refuse(source, "the link leads nowhere"));
        }
        if merge {
            free(parent, name)?;
        }
        let temp = Unfinished::new(parent);
        parent.make_link(&target, temp.name())?;
        if merge {
            temp.replace(name)?
        } else {
            temp.place(name)?
        }
        self.meter.link();
        Ok(())
    }
}
