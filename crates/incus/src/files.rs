//! Files over SFTP: byte paths, resolved inside the pixel by a daemon process
//! that is chrooted there. Works on stopped pixels as well.

use std::time::Duration;

use async_trait::async_trait;
use pixels_core::{
    Bytes, DirEntry, Error, FileKind, FileSession, FileStat, Files, Name, Owner, Reader, Result,
    What, WriteOpts, text,
};
use pixels_guest_api::face;

use crate::api::{Fault, used_up};
use crate::background::Background;
use crate::sftp::{self, Attrs, Client, OpenFlags};
use crate::{Incus, KIND, maker};

/// A guest may swap a file for a FIFO between our look and our open, and the
/// open of a FIFO waits for a writer.
const OPEN: Duration = Duration::from_secs(20);

/// Permission bits that the daemon's SFTP server drops: it takes a mode for one
/// of Go's, which has these three elsewhere (seen with 6.0.4).
const SPECIAL: u32 = 0o7000;

/// As the kernel's own limit (path_resolution(7)).
const LINKS: usize = 40;

#[async_trait]
impl Files for Incus {
    async fn files(&self, name: &Name) -> Result<Box<dyn FileSession>> {
        let path = self.api.path(Self::at(name).seg("sftp"));
        let pipe = match self.api.http.upgrade(&path, "sftp").await {
            Ok(pipe) => pipe,
            Err(e) => {
                let fault = Fault::from(e);
                if fault.status().is_some() {
                    self.raw(name, false).await?;
                }
                return Err(fault.about(What::Pixel, name.as_str(), &format!("files of {name}")));
            }
        };
        let client = Client::connect(pipe).await.map_err(|e| failure(e, b"/"))?;
        Ok(Box::new(Session { client, incus: self.clone(), name: name.clone() }))
    }
}

struct Session {
    client: Client,
    incus: Incus,
    name: Name,
}

/// A failure, about `path`.
fn failure(error: sftp::Error, path: &[u8]) -> Error {
    let shown = text::clean_bytes(path);
    match error {
        sftp::Error::NotFound => Error::not_found(What::Path, shown),
        sftp::Error::PermissionDenied => {
            Error::Denied { what: shown, reason: "not for this user".into() }
        }
        sftp::Error::Failure { message } => match used_up(&message) {
            Some(reason) => Error::Exhausted { what: shown, reason: reason.into() },
            None => Error::backend(shown, message),
        },
        sftp::Error::ConnectionLost => Error::Unreachable {
            target: "the pixel's files".into(),
            reason: "the connection was lost".into(),
        },
        other => Error::backend(shown, other.to_string()),
    }
}

fn stat(attrs: &Attrs) -> FileStat {
    let kind = match attrs.kind() {
        Some(sftp::FileKind::File) => FileKind::File,
        Some(sftp::FileKind::Dir) => FileKind::Dir,
        Some(sftp::FileKind::Symlink) => FileKind::Symlink,
        _ => FileKind::Special,
    };
    let (uid, gid) = attrs.owner.unwrap_or_default();
    FileStat {
        kind,
        size: attrs.size.unwrap_or_default(),
        mode: attrs.permissions().unwrap_or_default(),
        owner: Owner { uid, gid },
        mtime: attrs.mtime().unwrap_or_default().into(),
    }
}

fn not_regular(path: &[u8], kind: FileKind) -> Error {
    let what = match kind {
        FileKind::Dir => "it is a directory",
        _ => "it is a FIFO, socket or device: only regular files are read and written",
    };
    Error::invalid("path", &text::clean_bytes(path), what)
}

/// The directory of a path and its last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b".", path),
    }
}

fn join(dir: &[u8], name: &[u8]) -> Bytes {
    if name.first() == Some(&b'/') {
        return name.to_vec();
    }
    let mut path = dir.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

impl Session {
    /// Where a write to `path` ends up, links followed, and what is there.
    async fn target(&self, path: &[u8]) -> Result<(Bytes, Option<FileStat>)> {
        let mut at = path.to_vec();
        for _ in 0..LINKS {
            let found = match self.client.lstat(&at).await {
                Ok(attrs) => stat(&attrs),
                Err(sftp::Error::NotFound) => return Ok((at, None)),
                Err(e) => return Err(failure(e, &at)),
            };
            match found.kind {
                FileKind::Symlink => {
                    let link = self.client.read_link(&at).await.map_err(|e| failure(e, &at))?;
                    at = join(split(&at).0, &link);
                }
                FileKind::File => return Ok((at, Some(found))),
                kind => return Err(not_regular(path, kind)),
            }
        }
        Err(Error::invalid("path", &text::clean_bytes(path), "too many symbolic links"))
    }

    async fn fill(&self, temp: &[u8], content: &mut Reader, opts: WriteOpts) -> Result<u64> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        let file = self.client.open(temp, flags, 0o600).await.map_err(|e| failure(e, temp))?;
        let mut writer = file.into_writer();
        let copied = writer.copy_from(content).await.map_err(|e| {
            match e.get_ref().and_then(|e| e.downcast_ref::<sftp::Error>()) {
                Some(_) => match e.into_inner().map(|e| e.downcast::<sftp::Error>()) {
                    Some(Ok(e)) => failure(*e, temp),
                    _ => Error::backend("write", "failed"),
                },
                None => Error::backend(
                    format!("read what is written to {}", text::clean_bytes(temp)),
                    e.to_string(),
                ),
            }
        })?;
        let file = writer.finish().await.map_err(|e| failure(e, temp))?;
        file.close().await.map_err(|e| failure(e, temp))?;
        self.apply(temp, opts, false).await?;
        Ok(copied)
    }

    /// That these permission bits can be set, before anything is changed.
    async fn settable(&self, path: &[u8], mode: Option<u32>) -> Result<()> {
        let special = mode.unwrap_or(0) & SPECIAL;
        if special == 0 || self.incus.raw(&self.name, false).await?.status().is_running() {
            return Ok(());
        }
        let names = [(0o4000, "set-user-id"), (0o2000, "set-group-id"), (0o1000, "sticky")];
        let bits: Vec<_> =
            names.iter().filter(|(bit, _)| special & bit != 0).map(|(_, name)| *name).collect();
        let op = format!(
            "the {} bit of {} while {} does not run",
            bits.join(" and "),
            text::clean_bytes(path),
            self.name
        );
        Err(Error::unsupported(KIND, op)
            .with_hint(format!("pixels start {} first, or leave the bit out", self.name)))
    }

    /// All permission bits of `path`, by a process in the guest.
    async fn set_special(&self, path: &[u8], mode: u32, follow: bool) -> Result<()> {
        let octal = format!("{:o}", mode & 0o7777);
        let mut args = vec![face::CHMOD.as_bytes()];
        args.extend(follow.then_some(&b"--follow"[..]));
        args.extend([octal.as_bytes(), path]);
        let (code, _, err) = self.incus.guest_call(&self.name, &args).await?;
        if code == 0 {
            return Ok(());
        }
        let shown = format!("set mode {octal} of {}", text::clean_bytes(path));
        Err(Error::backend(shown, text::clean_short(&err, 200)))
    }

    /// Owner first: changing it drops set-user-id bits. `follow`: a link at
    /// `path` is followed.
    async fn apply(&self, path: &[u8], opts: WriteOpts, follow: bool) -> Result<()> {
        if let Some(owner) = opts.owner {
            let attrs = Attrs { owner: Some((owner.uid, owner.gid)), ..Attrs::default() };
            self.client.set_stat(path, &attrs).await.map_err(|e| failure(e, path))?;
        }
        if let Some(mode) = opts.mode {
            let attrs = Attrs::mode(mode & 0o777);
            self.client.set_stat(path, &attrs).await.map_err(|e| failure(e, path))?;
        }
        if let Some(mtime) = opts.mtime {
            let seconds = u32::try_from(mtime).unwrap_or(u32::MAX);
            let attrs = Attrs { times: Some((seconds, seconds)), ..Attrs::default() };
            self.client.set_stat(path, &attrs).await.map_err(|e| failure(e, path))?;
        }
        if let Some(mode) = opts.mode.filter(|m| m & SPECIAL != 0) {
            self.set_special(path, mode, follow).await?;
        }
        Ok(())
    }

    /// SFTP has no code for "exists": whether it does can be asked.
    async fn or_exists(&self, error: sftp::Error, path: &[u8]) -> Error {
        if matches!(error, sftp::Error::Failure { .. }) && self.client.lstat(path).await.is_ok() {
            return Error::exists(What::Path, text::clean_bytes(path));
        }
        failure(error, path)
    }
}

#[async_trait]
impl FileSession for Session {
    async fn stat(&self, path: &[u8], follow: bool) -> Result<FileStat> {
        let attrs =
            if follow { self.client.stat(path).await } else { self.client.lstat(path).await };
        attrs.map(|a| stat(&a)).map_err(|e| failure(e, path))
    }

    async fn read_dir(&self, path: &[u8]) -> Result<Vec<DirEntry>> {
        let names = match self.client.read_dir(path).await {
            Ok(names) => names,
            Err(e @ sftp::Error::Failure { .. }) => {
                let found = self.stat(path, true).await?;
                if found.kind == FileKind::Dir {
                    return Err(failure(e, path));
                }
                return Err(Error::invalid(
                    "path",
                    &text::clean_bytes(path),
                    "it is not a directory",
                ));
            }
            Err(e) => return Err(failure(e, path)),
        };
        // What is no single component is the guest's idea of a joke.
        let plain = |name: &[u8]| {
            !name.is_empty()
                && name != b"."
                && name != b".."
                && !name.contains(&b'/')
                && !name.contains(&0)
        };
        Ok(names
            .into_iter()
            .filter(|e| plain(&e.name))
            .map(|e| DirEntry { stat: stat(&e.attrs), name: e.name })
            .collect())
    }

    async fn read_link(&self, path: &[u8]) -> Result<Bytes> {
        self.client.read_link(path).await.map_err(|e| failure(e, path))
    }

    async fn open_read(&self, path: &[u8]) -> Result<(FileStat, Reader)> {
        let found = self.stat(path, true).await?;
        if found.kind != FileKind::File {
            return Err(not_regular(path, found.kind));
        }
        let opened = tokio::time::timeout(OPEN, self.client.read(path)).await;
        let reader = opened.map_err(|_| not_regular(path, FileKind::Special))?;
        Ok((found, Box::pin(reader.map_err(|e| failure(e, path))?)))
    }

    async fn write(&self, path: &[u8], mut content: Reader, opts: WriteOpts) -> Result<u64> {
        let (target, old) = self.target(path).await?;
        let (dir, name) = split(&target);
        if name.is_empty() || name == b"." || name == b".." {
            return Err(Error::invalid("path", &text::clean_bytes(path), "it names no file"));
        }
        let opts = WriteOpts {
            mode: opts.mode.or(old.map(|o| o.mode)).or(Some(0o644)),
            owner: opts.owner.or(old.map(|o| o.owner)),
            mtime: opts.mtime,
        };
        self.settable(path, opts.mode).await?;
        let temp = join(dir, &self.temp_name());
        let mut guard = Temp {
            client: self.client.clone(),
            path: temp.clone(),
            background: &self.incus.background,
            armed: true,
        };
        let written = match self.fill(&temp, &mut content, opts).await {
            // The error is about what the caller named.
            Err(Error::NotFound { what, .. }) => {
                Err(Error::not_found(what, text::clean_bytes(dir)))
            }
            Err(Error::Exhausted { reason, .. }) => {
                Err(Error::Exhausted { what: text::clean_bytes(path), reason })
            }
            other => other,
        };
        let moved = match written {
            Ok(n) => self
                .client
                .rename(&temp, &target)
                .await
                .map(|()| n)
                .map_err(|e| failure(e, &target)),
            Err(e) => Err(e),
        };
        if moved.is_err() {
            let _ = self.client.remove(&temp).await;
        }
        guard.armed = false;
        moved
    }

    async fn mkdir(&self, path: &[u8], mode: u32, owner: Option<Owner>) -> Result<()> {
        self.settable(path, Some(mode)).await?;
        if let Err(e) = self.client.mkdir(path, mode).await {
            return Err(self.or_exists(e, path).await);
        }
        // The server's umask applies to the first.
        let made =
            self.apply(path, WriteOpts { mode: Some(mode), owner, mtime: None }, false).await;
        if made.is_err() {
            let _ = self.client.rmdir(path).await;
        }
        made
    }

    async fn symlink(&self, target: &[u8], path: &[u8], _owner: Option<Owner>) -> Result<()> {
        match self.client.symlink(target, path).await {
            Ok(()) => Ok(()),
            Err(e) => Err(self.or_exists(e, path).await),
        }
    }

    async fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.client.rename(from, to).await.map_err(|e| failure(e, from))
    }

    async fn remove_file(&self, path: &[u8]) -> Result<()> {
        let found = self.stat(path, false).await?;
        if found.kind == FileKind::Dir {
            return Err(Error::invalid("path", &text::clean_bytes(path), "it is a directory"));
        }
        self.client.remove(path).await.map_err(|e| failure(e, path))
    }

    async fn remove_dir(&self, path: &[u8]) -> Result<()> {
        // The server's rmdir takes files as well.
        let found = self.stat(path, false).await?;
        if found.kind != FileKind::Dir {
            return Err(Error::invalid("path", &text::clean_bytes(path), "it is not a directory"));
        }
        self.client.rmdir(path).await.map_err(|e| failure(e, path))
    }

    async fn set_attrs(&self, path: &[u8], opts: WriteOpts) -> Result<()> {
        // Also when nothing is to be changed, a path that is missing is an error.
        self.stat(path, true).await?;
        self.settable(path, opts.mode).await?;
        self.apply(path, opts, true).await
    }

    fn temp_name(&self) -> Bytes {
        maker::temp_name()
    }

    fn is_leftover(&self, entry: &DirEntry) -> bool {
        maker::is_leftover(entry)
    }
}

/// Removes a temporary file if the write is dropped half-way.
struct Temp<'a> {
    client: Client,
    path: Bytes,
    background: &'a Background,
    armed: bool,
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if self.armed {
            let (client, path) = (self.client.clone(), std::mem::take(&mut self.path));
            self.background.spawn(async move {
                let _ = client.remove(&path).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(split(b"/a/b"), (&b"/a"[..], &b"b"[..]));
        assert_eq!(split(b"/a"), (&b"/"[..], &b"a"[..]));
        assert_eq!(split(b"/"), (&b"/"[..], &b""[..]));
        assert_eq!(join(b"/", b"x"), b"/x");
        assert_eq!(join(b"/a", b"../x"), b"/a/../x");
        assert_eq!(join(b"/a", b"/x"), b"/x");
    }
}
