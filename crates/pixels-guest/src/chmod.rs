//! The face `chmod`: permission bits that the backend's own file service cannot
//! set. Incus's SFTP server drops set-user-id, set-group-id and sticky.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};

use crate::sys::fd;

/// `chmod [--follow] <octal> <path>`. Answers 0 when the path has these bits, 1
/// for a failure, 2 for wrong usage. Without `--follow` a link is a failure: what
/// was a file of ours a moment ago may be a link to another by now.
pub(crate) fn run(args: &[&[u8]]) -> i32 {
    let result = match args {
        [b"--follow", mode, path] => parse(mode).map(|mode| (mode, path, true)),
        [mode, path] => parse(mode).map(|mode| (mode, path, false)),
        _ => None,
    };
    let Some((mode, path, follow)) = result else {
        fd::complain("error: chmod takes [--follow] <octal mode> <path>");
        return 2;
    };
    match apply(mode, OsStr::from_bytes(path), follow) {
        Ok(()) => 0,
        Err(e) => {
            fd::complain(&format!("error: cannot set the mode: {e}"));
            1
        }
    }
}

fn parse(mode: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(mode).ok()?;
    u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o7777)
}

/// One open answers what the path is, and the change is made through it: nothing
/// can take the path's place in between.
fn apply(mode: u32, path: &OsStr, follow: bool) -> io::Result<()> {
    let nofollow = if follow { 0 } else { libc::O_NOFOLLOW };
    // Opens no FIFO and no device: it only names them.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | nofollow).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_symlink() || kind.is_fifo() || kind.is_block_device() || kind.is_char_device() {
        return Err(io::Error::other("it is neither a file nor a directory"));
    }
    let through = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(through, Permissions::from_mode(mode))?;
    // The kernel drops bits without an error where it sees fit (chmod(2)).
    let got = file.metadata()?.mode() & 0o7777;
    if got != mode {
        return Err(io::Error::other(format!("asked for {mode:o}, the kernel made it {got:o}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_bounded() {
        assert_eq!(parse(b"4755"), Some(0o4755));
        for bad in [&b"8"[..], b"", b"17777", b"-1", b"\xff", b"0x7"] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn special_bits_and_links() {
        let dir = std::env::temp_dir().join(format!("pixels-chmod-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join(OsStr::from_bytes(b"a\n\xff"));
        fs::write(&file, "x").unwrap();
        let link = dir.join("link");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mode = || fs::metadata(&file).unwrap().mode() & 0o7777;
        apply(0o4711, file.as_os_str(), false).unwrap();
        assert_eq!(mode(), 0o4711);
        apply(0o600, link.as_os_str(), false).unwrap_err();
        assert_eq!(mode(), 0o4711, "a link is not followed unasked");
        apply(0o600, link.as_os_str(), true).unwrap();
        assert_eq!(mode(), 0o600);
        apply(0o1777, dir.as_os_str(), false).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}
