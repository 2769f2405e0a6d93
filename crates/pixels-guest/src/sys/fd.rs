//! File descriptors: pipes, exact reads and writes, duplicates, memfds.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use super::{check, check_size};

/// The standard streams by number.
pub(crate) const STDIN: RawFd = 0;
pub(crate) const STDOUT: RawFd = 1;
pub(crate) const STDERR: RawFd = 2;

/// A close-on-exec pipe: read end, write end.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors the kernel writes.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both are fresh and owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// One read; 0 is the end of the stream.
pub(crate) fn read(fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buf` is valid for writes of its length.
    check_size(|| unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) })
}

/// One write.
pub(crate) fn write(fd: RawFd, buf: &[u8]) -> io::Result<usize> {
    // SAFETY: `buf` is valid for reads of its length.
    check_size(|| unsafe { libc::write(fd, buf.as_ptr().cast(), buf.len()) })
}

/// Writes all of `buf`, also to a descriptor that somebody made non-blocking.
pub(crate) fn write_all(fd: RawFd, mut buf: &[u8]) -> io::Result<()> {
    while !buf.is_empty() {
        match write(fd, buf) {
            Ok(n) => buf = &buf[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [watch(fd, libc::POLLOUT)], None)?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A line on stderr; there is nobody to tell if that fails.
pub(crate) fn complain(message: &str) {
    let _ = write_all(STDERR, format!("{message}\n").as_bytes());
}

/// An entry for [`poll`].
pub(crate) fn watch(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Waits for any of `fds`; `None` waits for ever. Answers how many are ready.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let time = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: t.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), |t| t as *const _);
    let count = fds.len() as libc::nfds_t;
    // SAFETY: `fds` and `time` outlive the call; a null mask leaves signals be.
    match check(unsafe { libc::ppoll(fds.as_mut_ptr(), count, time, std::ptr::null()) }) {
        Ok(n) => Ok(n.unsigned_abs() as usize),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(e) => Err(e),
    }
}

/// Bytes written to a pipe and not yet read; 0 for what is no pipe.
pub(crate) fn unread(fd: RawFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: `count` is the integer that the kernel writes.
    let asked = check(unsafe { libc::ioctl(fd, libc::FIONREAD, &mut count) });
    if asked.is_err() || !is_pipe(fd) { 0 } else { usize::try_from(count).unwrap_or(0) }
}

fn is_pipe(fd: RawFd) -> bool {
    // SAFETY: an all-zero stat is a valid value for the kernel to overwrite.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    check(unsafe { libc::fstat(fd, &mut stat) }).is_ok()
        && stat.st_mode & libc::S_IFMT == libc::S_IFIFO
}

/// A duplicate with a number of at least `min`, not inherited by programs.
pub(crate) fn dup_from(fd: RawFd, min: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: plain descriptor call without pointers.
    let new = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, min) })?;
    // SAFETY: fresh and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Makes `to` a duplicate of `fd` that programs inherit.
pub(crate) fn dup_onto(fd: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: plain descriptor call without pointers; callers pass standard
    // streams as `to`, which no OwnedFd of this program owns.
    check(unsafe { libc::dup2(fd, to) }).map(drop)
}

/// Makes the kept number `to` a duplicate of `fd`, not inherited by programs.
pub(crate) fn replace(fd: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: plain descriptor call without pointers; callers pass a number they
    // have taken out of its OwnedFd.
    check(unsafe { libc::dup3(fd, to, libc::O_CLOEXEC) }).map(drop)
}

/// Closes a descriptor that is known by number only.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: callers pass numbers handed over through exec, which no OwnedFd
    // of this program owns.
    unsafe { libc::close(fd) };
}

/// Says whether programs inherit `fd`.
pub(crate) fn set_inherited(fd: RawFd, inherited: bool) -> io::Result<()> {
    let flags = if inherited { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: plain descriptor call without pointers.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, flags) }).map(drop)
}

/// Makes reads and writes of the open file answer at once.
pub(crate) fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: plain descriptor calls without pointers.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Keeps every descriptor from 3 on out of the next program.
pub(crate) fn close_all_on_exec() {
    // SAFETY: plain call without pointers; nothing is closed now.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3 as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        return;
    }
    // Before Linux 5.11. The listing's own descriptor is close-on-exec anyway.
    for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|n| n.parse().ok());
        if let Some(fd) = number.filter(|fd| *fd > STDERR) {
            let _ = set_inherited(fd, false);
        }
    }
}

/// An anonymous file with this content. `sealed` content can never change.
pub(crate) fn memfd(content: &[u8], sealed: bool) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a NUL-terminated literal.
    let raw = check(unsafe { libc::memfd_create(c"pixels".as_ptr(), flags) })?;
    // SAFETY: fresh and owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    write_all(raw, content)?;
    if sealed {
        let seals =
            libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
        // SAFETY: plain descriptor call without pointers.
        check(unsafe { libc::fcntl(raw, libc::F_ADD_SEALS, seals) })?;
    }
    Ok(fd)
}

/// Reads all of `fd` from its start, refusing more than `max` bytes.
pub(crate) fn read_whole(fd: RawFd, max: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let at = libc::off_t::try_from(out.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: `chunk` is valid for writes of its length.
        let n =
            check_size(|| unsafe { libc::pread(fd, chunk.as_mut_ptr().cast(), chunk.len(), at) })?;
        if n == 0 {
            return Ok(out);
        }
        out.extend_from_slice(&chunk[..n]);
        if out.len() > max {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
    }
}

/// Reads a regular file of at most `max` bytes. Never waits: a FIFO or a device
/// in its place is an error.
pub(crate) fn read_file(path: &str, max: usize) -> io::Result<Vec<u8>> {
    let file =
        File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    read_whole(file.as_raw_fd(), max)
}

/// Something that answers end-of-file: `/dev/null`, or where the guest has none
/// a pipe that nobody writes to.
pub(crate) fn null() -> io::Result<OwnedFd> {
    match File::options().read(true).write(true).open("/dev/null") {
        Ok(file) => Ok(file.into()),
        Err(_) => pipe().map(|(read, _)| read),
    }
}
