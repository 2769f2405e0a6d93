//! What the other side's numbers mean to a caller.

use std::io;

use pixels_core::{Bytes, Error, What, text};
use pixels_guest_api::files::{Fault, Refused, Request, Which};
use rustix::io::Errno;

use super::conn::Trouble;

/// What an operation is about, for its errors.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    op: Op,
    path: Bytes,
    /// Where a rename leads.
    to: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    ReadLink,
    Rename,
    Change,
    Other,
}

impl Subject {
    pub(super) fn of(request: &Request) -> Self {
        let (op, path, to) = match request {
            Request::Rename { from, to } => (Op::Rename, from, to.clone()),
            Request::ReadLink { path } => (Op::ReadLink, path, Bytes::new()),
            Request::Write { path, .. }
            | Request::Mkdir { path, .. }
            | Request::Symlink { path, .. }
            | Request::SetAttrs { path, .. } => (Op::Change, path, Bytes::new()),
            Request::Stat { path, .. }
            | Request::ReadDir { path }
            | Request::Read { path }
            | Request::RemoveFile { path }
            | Request::RemoveDir { path } => (Op::Other, path, Bytes::new()),
        };
        Self { op, path: path.clone(), to }
    }

    /// A request that is not sent.
    pub(super) fn invalid(&self, rule: Refused) -> Error {
        Error::invalid("path", &text::clean_bytes(&self.path), rule.0)
    }

    pub(super) fn too_many(&self) -> Error {
        let rule = "the directory has more entries than are listed";
        Error::invalid("path", &text::clean_bytes(&self.path), rule)
    }

    pub(super) fn trouble(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Slow(after) => Error::Timeout { what: text::clean_bytes(&self.path), after },
            other => self::trouble(other),
        }
    }

    pub(super) fn fault(&self, fault: Fault) -> Error {
        let path = match fault.which {
            Which::Path => self.path.as_slice(),
            Which::Parent => parent(&self.path),
            Which::To => &self.to,
            Which::ToParent => parent(&self.to),
        };
        let shown = text::clean_bytes(path);
        let invalid = |rule: &str| Error::invalid("path", &shown, rule);
        let exists = || Error::exists(What::Path, shown.clone());
        let denied = |reason: &str| Error::Denied { what: shown.clone(), reason: reason.into() };
        let full = |reason: &str| Error::Exhausted {
            what: text::clean_bytes(&self.path),
            reason: reason.into(),
        };
        let renames = self.op == Op::Rename;
        // The guest may send any number: what is none has no name below.
        let errno = Errno::from_raw_os_error(fault.errno.clamp(1, 4095));
        match errno {
            Errno::NOENT => Error::not_found(What::Path, shown),
            Errno::EXIST => exists(),
            Errno::ISDIR | Errno::NOTEMPTY | Errno::NOTDIR
                if renames && fault.which == Which::To =>
            {
                exists()
            }
            Errno::ISDIR => invalid("it is a directory"),
            Errno::NOTEMPTY => invalid("the directory is not empty"),
            Errno::NOTDIR => invalid("it, or a part of it, is not a directory"),
            Errno::NXIO => {
                invalid("it is a FIFO, socket or device: only regular files are read and written")
            }
            Errno::LOOP => invalid("too many symbolic links"),
            Errno::NAMETOOLONG => invalid("it is too long"),
            Errno::INVAL if self.op == Op::ReadLink => invalid("it is not a symbolic link"),
            Errno::INVAL if renames => invalid("it is inside what is to be renamed"),
            Errno::INVAL if self.op == Op::Change => {
                invalid("the pixel has no such owner, permission bits or time")
            }
            Errno::XDEV => Error::backend(
                shown,
                "it cannot be renamed to there: it is on another file system, or a directory of the pixel's image",
            ),
            Errno::ACCESS | Errno::PERM => denied("not for the pixel's root"),
            Errno::ROFS => denied("the file system is read-only"),
            Errno::NOSPC => full("the file system is full"),
            Errno::DQUOT => full("the disk's size is used up"),
            _ => {
                let error = io::Error::from(errno);
                let message = error.to_string();
                Error::Backend { what: shown, message, source: Some(Box::new(error)) }
            }
        }
    }
}

/// A connection's trouble, whatever it is about.
pub(super) fn trouble(trouble: Trouble) -> Error {
    let target = "the pixel's files";
    match trouble {
        Trouble::NotTaken | Trouble::Lost => {
            Error::Unreachable { target: target.into(), reason: "the connection was lost".into() }
        }
        Trouble::Slow(after) => Error::Timeout { what: target.into(), after },
        Trouble::Refused(refused) => Error::Backend {
            what: target.into(),
            message: format!("the pixel answers nonsense: {refused}"),
            source: Some(Box::new(refused)),
        },
    }
}

/// An answer to something else.
pub(super) fn unexpected() -> Error {
    trouble(Trouble::Refused(Refused("a frame answers another question")))
}

/// For `AsyncRead`; the error is inside.
pub(super) fn into_io(error: Error) -> io::Error {
    let kind = match error.kind() {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::Denied { .. } => io::ErrorKind::PermissionDenied,
        Error::Timeout { .. } => io::ErrorKind::TimedOut,
        Error::Unreachable { .. } => io::ErrorKind::ConnectionReset,
        Error::Invalid { .. } => io::ErrorKind::InvalidInput,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    match path[..end].iter().rposition(|b| *b == b'/') {
        Some(0) | None => b"/",
        Some(at) => &path[..at],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(request: &Request, errno: Errno, which: Which) -> (&'static str, String) {
        let fault = Fault { errno: errno.raw_os_error(), which };
        let error = Subject::of(request).fault(fault);
        (error.code(), error.to_string())
    }

    #[test]
    fn numbers_have_meanings() {
        let read = Request::Read { path: b"/a/b".to_vec() };
        let rename = Request::Rename { from: b"/a/b".to_vec(), to: b"/c/d".to_vec() };
        for (request, errno, which, expected, named) in [
            (&read, Errno::NOENT, Which::Path, "not_found", "/a/b"),
            (&read, Errno::NOENT, Which::Parent, "not_found", "\"/a\""),
            (&read, Errno::NXIO, Which::Path, "invalid", "FIFO"),
            (&read, Errno::DQUOT, Which::Path, "exhausted", "size"),
            (&read, Errno::IO, Which::Path, "backend", "/a/b"),
            (&read, Errno::ACCESS, Which::Path, "denied", "/a/b"),
            (&rename, Errno::NOENT, Which::ToParent, "not_found", "\"/c\""),
            (&rename, Errno::ISDIR, Which::To, "already_exists", "/c/d"),
            (&rename, Errno::INVAL, Which::To, "invalid", "/c/d"),
        ] {
            let (code, text) = code(request, errno, which);
            assert!(code == expected && text.contains(named), "{errno:?}: {code}: {text}");
        }
    }

    #[test]
    fn any_number_is_an_error() {
        let read = Request::Read { path: b"/\x1b[2J".to_vec() };
        for errno in [0, -1, i32::MIN, i32::MAX, 4096, 133] {
            let error = Subject::of(&read).fault(Fault { errno, which: Which::ToParent });
            assert!(!error.to_string().contains('\x1b'));
        }
    }

    #[test]
    fn parents() {
        for (path, dir) in
            [("/a/b", "/a"), ("/a", "/"), ("/", "/"), ("/a/b/", "/a"), ("", "/"), ("x", "/")]
        {
            assert_eq!(parent(path.as_bytes()), dir.as_bytes(), "{path}");
        }
    }
}
