//! The face `ready <timeout in ms>`: waits until an interface other than
//! loopback has a global address, told by the kernel, without asking twice.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::link::message;
use crate::sys::{errno, fd, netlink};

/// Larger than any message the kernel sends unasked.
const BUFFER: usize = 64 * 1024;

const HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const SEQUENCE: u32 = 1;

/// Prints the addresses one per line and answers 0; after the timeout, or
/// without a routing socket, prints none and answers 1.
pub(crate) fn run(args: &[&[u8]]) -> i32 {
    let ms = match args {
        [ms] => std::str::from_utf8(ms).ok().and_then(|t| t.parse().ok()),
        _ => None,
    };
    let Some(ms) = ms else {
        fd::complain("error: ready takes its timeout in milliseconds");
        return 2;
    };
    match wait(Duration::from_millis(ms)) {
        Ok(addresses) if addresses.is_empty() => 1,
        Ok(addresses) => {
            let lines: String = addresses.iter().map(|a| format!("{a}\n")).collect();
            i32::from(io::stdout().write_all(lines.as_bytes()).is_err())
        }
        Err(e) => {
            fd::complain(&format!("error: cannot watch addresses: {e}"));
            1
        }
    }
}

fn wait(timeout: Duration) -> io::Result<BTreeSet<IpAddr>> {
    let deadline = Instant::now().checked_add(timeout);
    // It hears of changes from before the listing on, so none is missed.
    let socket = netlink::open()?;
    loop {
        let addresses = list(&socket)?;
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        if !addresses.is_empty() || left == Some(Duration::ZERO) {
            return Ok(addresses);
        }
        if fd::poll(&mut [fd::watch(socket.as_raw_fd(), libc::POLLIN)], left)? > 0 {
            // What changed, the next listing says.
            receive(&socket, &mut vec![0; BUFFER])?;
        }
    }
}

/// One datagram; lost ones (the buffer overran) are as good as a change.
fn receive(socket: &OwnedFd, buf: &mut [u8]) -> io::Result<usize> {
    match netlink::receive(socket, buf) {
        Err(e) if errno(&e) == libc::ENOBUFS => Ok(0),
        other => other,
    }
}

/// All usable addresses of the moment.
fn list(socket: &OwnedFd) -> io::Result<BTreeSet<IpAddr>> {
    let mut request = Vec::with_capacity(HEADER + ADDRESS_HEADER);
    request.extend_from_slice(&((HEADER + ADDRESS_HEADER) as u32).to_ne_bytes());
    request.extend_from_slice(&libc::RTM_GETADDR.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    request.extend_from_slice(&flags.to_ne_bytes());
    request.extend_from_slice(&SEQUENCE.to_ne_bytes());
    request.extend_from_slice(&[0; 4 + ADDRESS_HEADER]);
    fd::write_all(socket.as_raw_fd(), &request)?;

    let mut found = BTreeSet::new();
    let mut buf = vec![0; BUFFER];
    loop {
        let n = receive(socket, &mut buf)?;
        let mut rest = &buf[..n];
        while let Some((kind, sequence, body)) = message(&mut rest) {
            if sequence != SEQUENCE {
                // A change; it is in the listing or will wake the next one.
                continue;
            }
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(found),
                libc::NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(0, |b| i32::from_ne_bytes(*b));
                    return Err(io::Error::from_raw_os_error(-code));
                }
                _ if kind == libc::RTM_NEWADDR => found.extend(address(body)),
                _ => {}
            }
        }
    }
}

/// The address of an RTM_NEWADDR if it is global, usable and not loopback's.
fn address(body: &[u8]) -> Option<IpAddr> {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const FLAGS: u16 = 8;
    let (head, mut rest) = body.split_first_chunk::<ADDRESS_HEADER>()?;
    let [family, _, flags, scope, index @ ..] = *head;
    if scope != libc::RT_SCOPE_UNIVERSE || u32::from_ne_bytes(index) == netlink::LOOPBACK_INDEX {
        return None;
    }
    let mut flags = u32::from(flags);
    let (mut local, mut any) = (None, None);
    while let Some(head) = rest.first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = rest.get(4..len)?;
        match u16::from_ne_bytes([head[2], head[3]]) {
            ADDRESS => any = ip(family, value),
            LOCAL => local = ip(family, value),
            FLAGS => flags = u32::from_ne_bytes(value.try_into().ok()?),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    // Not yet checked against duplicates, or found to be one.
    if flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) != 0 {
        return None;
    }
    local.or(any)
}

fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => <[u8; 4]>::try_from(bytes).ok().map(|b| Ipv4Addr::from(b).into()),
        libc::AF_INET6 => <[u8; 16]>::try_from(bytes).ok().map(|b| Ipv6Addr::from(b).into()),
        _ => None,
    }
}
