//! The pixel's side: where paths start, what is there, and removing what is half-made.

use futures_util::future::BoxFuture;
use pixels_core::{DirEntry, Error, FileKind, FileSession, FileStat, Owner, Result, What};
use tokio::io::AsyncReadExt;

use super::tree::{Bounds, MAX_DEPTH, Node, is_name, join, refuse, special};

/// Who commands run as, from the pixel's own list of users.
pub(super) struct User {
    pub home: Vec<u8>,
    pub owner: Owner,
}

/// The largest list of users that is read, in bytes. It belongs to the guest.
const MAX_PASSWD: u64 = 1 << 20;

/// Looks up `wanted`; root where the pixel has no such user or no list at all.
pub(super) async fn user(session: &dyn FileSession, wanted: &str) -> Result<User> {
    let root = User { home: b"/root".to_vec(), owner: Owner { uid: 0, gid: 0 } };
    let mut text = Vec::new();
    match session.open_read(b"/etc/passwd").await {
        Ok((_, reader)) => {
            let read = reader.take(MAX_PASSWD).read_to_end(&mut text).await;
            read.map_err(|e| Error::backend("read /etc/passwd", e.to_string()))?;
        }
        Err(e) if e.is_not_found() => return Ok(root),
        Err(e) => return Err(e),
    }
    let find = |user: &[u8]| text.split(|b| *b == b'\n').find_map(|line| parse(line, user));
    Ok(find(wanted.as_bytes()).or_else(|| find(b"root")).unwrap_or(root))
}

fn parse(line: &[u8], user: &[u8]) -> Option<User> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
    let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
    let number = |raw: &[u8]| std::str::from_utf8(raw).ok()?.parse::<u32>().ok();
    let (uid, gid) = (number(uid)?, number(gid)?);
    (name == user && home.first() == Some(&b'/') && !home.contains(&0))
        .then(|| User { home: home.to_vec(), owner: Owner { uid, gid } })
}

/// What `path` is; `None` where there is nothing.
pub(super) async fn stat(
    session: &dyn FileSession,
    path: &[u8],
    follow: bool,
) -> Result<Option<FileStat>> {
    match session.stat(path, follow).await {
        Ok(stat) => Ok(Some(stat)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Looks at `path`, which is `stat`, and everything below it. The listing is
/// the guest's word: names are checked, depth and number are bounded.
pub(super) fn scan<'a>(
    session: &'a dyn FileSession,
    path: Vec<u8>,
    name: Vec<u8>,
    stat: FileStat,
    depth: usize,
    bounds: &'a mut Bounds,
) -> BoxFuture<'a, Result<Node>> {
    Box::pin(async move {
        bounds.entry(depth, &path)?;
        let mut node = Node {
            name,
            kind: stat.kind,
            mode: stat.mode & 0o1777,
            mtime: stat.mtime,
            size: stat.size,
            children: Vec::new(),
        };
        match stat.kind {
            FileKind::Special => return Err(special(&path)),
            FileKind::Dir => {
                for DirEntry { name, stat } in session.read_dir(&path).await? {
                    if !is_name(&name) {
                        return Err(refuse(
                            &join(&path, &name),
                            "the pixel lists it, but it is no name",
                        ));
                    }
                    let below = join(&path, &name);
                    node.children.push(scan(session, below, name, stat, depth + 1, bounds).await?);
                }
                node.children.sort_by(|a, b| a.name.cmp(&b.name));
            }
            FileKind::File | FileKind::Symlink => {}
        }
        Ok(node)
    })
}

/// Removes `path` and what is below it, following no link.
pub(super) fn remove<'a>(
    session: &'a dyn FileSession,
    path: Vec<u8>,
    depth: usize,
) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        let Some(found) = stat(session, &path, false).await? else { return Ok(()) };
        if found.kind != FileKind::Dir {
            return session.remove_file(&path).await;
        }
        // One deeper than what is ever pushed, for the temporary name itself.
        if depth > MAX_DEPTH + 1 {
            return Err(refuse(&path, "it is nested too deep to be removed"));
        }
        for entry in session.read_dir(&path).await? {
            if is_name(&entry.name) {
                remove(session, join(&path, &entry.name), depth + 1).await?;
            }
        }
        session.remove_dir(&path).await
    })
}

/// Removes from `dir` what pushes left half-made whose process was killed. What
/// stands in the way of that does not stand in the way of the push.
pub(super) async fn tidy(session: &dyn FileSession, dir: &[u8]) {
    for entry in session.read_dir(dir).await.unwrap_or_default() {
        if is_name(&entry.name) && session.is_leftover(&entry) {
            let path = join(dir, &entry.name);
            if let Err(error) = remove(session, path, 0).await {
                tracing::debug!(%error, "could not remove what an interrupted push left");
            }
        }
    }
}

/// The directory of an absolute path and its last name; `None` for `/` and
/// what ends in `.` or `..`.
pub(super) fn split(path: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let end = path.iter().rposition(|b| *b != b'/')? + 1;
    let path = &path[..end];
    let at = path.iter().rposition(|b| *b == b'/')?;
    let (dir, name) = (&path[..at], &path[at + 1..]);
    let dir = if dir.is_empty() { b"/".to_vec() } else { dir.to_vec() };
    is_name(name).then(|| (dir, name.to_vec()))
}

/// The last name of a path for messages and targets, as [`split`] has it.
pub(super) fn last(path: &[u8]) -> Result<Vec<u8>> {
    match split(path) {
        Some((_, name)) => Ok(name),
        None => Err(refuse(path, "it has no name of its own; say what to call the copy")),
    }
}

/// `NotFound` of a path in a pixel.
pub(super) fn missing(path: &[u8]) -> Error {
    Error::not_found(What::Path, String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_with_care() {
        let user = parse(b"pixel:x:1000:1001:,,,:/home/pixel:/bin/bash", b"pixel").unwrap();
        assert_eq!((user.home.as_slice(), user.owner.gid), (&b"/home/pixel"[..], 1001));
        for bad in [&b"pixel:x:a:1::/h:/s"[..], b"pixel:x:1:1::h:/s", b"pixel", b"px:x:1:1::/h:/s"]
        {
            assert!(parse(bad, b"pixel").is_none());
        }
    }

    #[test]
    fn last_names() {
        assert_eq!(split(b"/a/b/").unwrap(), (b"/a".to_vec(), b"b".to_vec()));
        assert_eq!(split(b"/a").unwrap(), (b"/".to_vec(), b"a".to_vec()));
        for none in [&b"/"[..], b"/a/..", b"/a/.", b"//"] {
            assert!(split(none).is_none());
        }
    }
}
