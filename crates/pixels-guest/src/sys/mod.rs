//! The system calls, and all of this crate's `unsafe`: one file per family.
//! Every wrapper takes safe types and answers an `io::Error` with the errno.

pub(crate) mod at;
pub(crate) mod caps;
pub(crate) mod fd;
pub(crate) mod mount;
pub(crate) mod netlink;
pub(crate) mod ns;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod trees;
pub(crate) mod tty;

use std::io;

/// The usual convention: a negative answer means `errno` says why.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`check`], for calls that answer a size, repeated while interrupted.
fn check_size(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(n) => return Ok(n),
            Err(_) => {
                let e = io::Error::last_os_error();
                if e.kind() != io::ErrorKind::Interrupted {
                    return Err(e);
                }
            }
        }
    }
}

/// The errno of an error of this module.
pub(crate) fn errno(e: &io::Error) -> i32 {
    e.raw_os_error().unwrap_or(libc::EIO)
}

/// The system's words for an errno, without Rust's ` (os error N)`.
pub(crate) fn describe(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rfind(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
