//! A routing socket of the kernel.
//!
//! What is sent is answered before the call returns, so that nothing here waits
//! for anything but what the kernel says unasked.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{check, check_size};

/// Opens a socket of the network namespace that the calling thread is in. It
/// hears only answers.
pub(crate) fn quiet() -> io::Result<OwnedFd> {
    socket(libc::NETLINK_ROUTE)
}

/// As [`quiet`], for the kernel's IPsec policies.
pub(crate) fn policies() -> io::Result<OwnedFd> {
    socket(libc::NETLINK_XFRM)
}

fn socket(protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: plain call without pointers.
    let raw = check(unsafe {
        libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol)
    })?;
    // SAFETY: fresh and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Opens a socket that is told of every change of an address, from now on.
pub(crate) fn open() -> io::Result<OwnedFd> {
    let fd = quiet()?;
    // SAFETY: an all-zero sockaddr_nl is valid.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
    let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: `address` is a sockaddr_nl of that length.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(fd)
}

/// Receives one datagram from the kernel.
pub(crate) fn receive(fd: &OwnedFd, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buf` is valid for writes of its length.
    check_size(|| unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), 0) })
}

/// The index of the loopback interface: 1 in every network namespace, as the
/// kernel makes it first.
pub(crate) const LOOPBACK_INDEX: u32 = 1;
