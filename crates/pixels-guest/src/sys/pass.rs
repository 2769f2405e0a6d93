//! Handing a descriptor to another process over a unix socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::check_size;

/// Room for the header and one descriptor, aligned as the header wants it.
#[repr(align(8))]
struct Control([u8; 24]);

/// Sends `bytes`, which are not empty, and with them `fd`. To somebody who has
/// gone it is an error, not a signal.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut control = Control([0; 24]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: arithmetic only.
    let space = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as usize;
    assert!(space <= control.0.len(), "the buffer holds one descriptor");
    message.msg_controllen = space as _;
    // SAFETY: the control buffer is aligned and has room for a header and its
    // data, so the first header lies in it; the data need not be aligned.
    unsafe {
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(head).cast::<RawFd>().write_unaligned(fd.as_raw_fd());
    }
    // SAFETY: `message` and all that it points to outlive the call, which only reads it.
    check_size(|| unsafe {
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    })
    .map(drop)
}
