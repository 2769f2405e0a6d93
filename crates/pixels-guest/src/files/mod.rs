//! The face `files`: file operations inside a pixel, on one socket.
//!
//! It runs as the pixel's root, in the pixel's own tree, with no more rights
//! than any process there: a path leads where it leads the pixel's own
//! programs, and nothing here has to defend the host. What it has to keep is that
//! nothing makes it wait for ever (a FIFO, a device) and that a write is all or
//! nothing. One process serves one socket, and one operation at a time.

mod attrs;
mod change;
mod list;
mod read;
mod wire;
mod write;

use std::ffi::OsStr;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use pixels_guest_api::files::{Fault, Reply, Request, Which};

use crate::sys::{self, fd, signal};
use wire::Wire;

/// `files [<idle ms>]`: serves stdin.
pub(crate) fn run(args: &[&[u8]]) -> i32 {
    let idle = match args {
        [] => Some(None),
        [ms] => std::str::from_utf8(ms)
            .ok()
            .and_then(|ms| ms.parse().ok())
            .map(|ms| Some(Duration::from_millis(ms))),
        _ => None,
    };
    let Some(idle) = idle else {
        fd::complain("error: files takes [<idle ms>], and a socket as its stdin");
        return i32::from(pixels_guest_api::EXIT_SETUP);
    };
    serve(fd::STDIN, idle)
}

/// Serves file operations on a connected stream socket until the other side
/// closes it, or until nothing more was asked for as long as `idle`. Answers 0
/// then, and 1 where the socket broke or what came over it was no protocol.
pub(crate) fn serve(socket: RawFd, idle: Option<Duration>) -> i32 {
    // Close-on-exec, and by a number that nobody else closes.
    let Ok(socket) = fd::dup_from(socket, fd::STDERR + 1) else { return 1 };
    // A caller that is gone and a file that may grow no more are errors of
    // calls, not the end: half-made files are still to be removed.
    signal::set_ignored(libc::SIGPIPE);
    signal::set_ignored(libc::SIGXFSZ);
    let mut wire = Wire::new(socket);
    // The first request is on its way however long it takes.
    let mut limit = None;
    loop {
        let request = wire.request(limit);
        limit = idle;
        match request {
            Ok(Some(request)) => match answer(&mut wire, request) {
                Ok(()) => {}
                Err(Stop::Fault(fault)) => {
                    if wire.send(&Reply::Error(fault).encode()).is_err() {
                        return 1;
                    }
                }
                Err(Stop::Wire) => return 1,
            },
            Ok(None) => return 0,
            Err(_) => return 1,
        }
    }
}

fn answer(wire: &mut Wire, request: Request) -> Result<(), Stop> {
    let reply = match request {
        Request::Read { path } => return read::read(wire, as_path(&path)),
        Request::Write { path, temp, attrs } => return write::write(wire, &path, &temp, attrs),
        Request::ReadDir { path } => return list::read_dir(wire, as_path(&path)),
        Request::Stat { path, follow } => read::stat(as_path(&path), follow)?,
        Request::ReadLink { path } => read::read_link(as_path(&path))?,
        Request::Mkdir { path, mode, owner } => change::mkdir(as_path(&path), mode, owner)?,
        Request::Symlink { target, path, owner } => {
            change::symlink(as_path(&target), as_path(&path), owner)?
        }
        Request::Rename { from, to } => change::rename(as_path(&from), as_path(&to))?,
        Request::RemoveFile { path } => change::remove_file(as_path(&path))?,
        Request::RemoveDir { path } => change::remove_dir(as_path(&path))?,
        Request::SetAttrs { path, attrs } => attrs::set(as_path(&path), attrs)?,
    };
    wire.send(&reply.encode()).map_err(|_| Stop::Wire)
}

/// Why an operation ended early.
enum Stop {
    /// The other side is told, and may ask for something else.
    Fault(Fault),
    /// There is nobody to tell.
    Wire,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// A failure that is about the path of the request.
fn fault(e: io::Error) -> Fault {
    about(Which::Path)(e)
}

fn about(which: Which) -> impl Fn(io::Error) -> Fault {
    move |e| Fault { errno: sys::errno(&e), which }
}

fn errno(errno: i32) -> Fault {
    Fault { errno, which: Which::Path }
}
