//! Two questions to the kernel that would cost a process each otherwise.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto,
    socket_with,
};

const HEADER: usize = 16;
/// Larger than any answer that is asked for here.
const BUFFER: usize = 16 * 1024;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const ERROR: u16 = 2;

const RTM_DELLINK: u16 = 17;
const IFLA_IFNAME: u16 = 3;

/// nftables' messages, in its subsystem.
const NFT: u16 = 10 << 8;
const NEWTABLE: u16 = NFT;
const GETTABLE: u16 = NFT | 1;
const NEWGEN: u16 = NFT | 15;
const GETGEN: u16 = NFT | 16;
const NFPROTO_INET: u8 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_GEN_ID: u16 = 1;

/// What the kernel's packet filter says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// It counts the changes of all rules of this network namespace, whosever they are.
    pub(super) generation: u32,
    /// What is known of the table; empty if there is none.
    table: Vec<u8>,
}

impl Rules {
    /// Whether the table is there and its comment holds `mark`.
    pub(super) fn marked(&self, mark: &str) -> bool {
        self.table.windows(mark.len()).any(|w| w == mark.as_bytes())
    }
}

/// Looks at the rules and at the table `inet <name>`.
pub(super) fn rules(name: &str) -> io::Result<Rules> {
    let socket = open(Some(netlink::NETFILTER))?;
    let mut request = Vec::new();
    push(&mut request, GETTABLE, REQUEST | ACK, 1, &[NFPROTO_INET, 0, 0, 0], NFTA_TABLE_NAME, name);
    push(&mut request, GETGEN, REQUEST | ACK, 2, &[0; 4], 0, "");
    let mut rules = Rules { generation: 0, table: Vec::new() };
    talk(&socket, &request, 2, |kind, body| match kind {
        NEWTABLE => rules.table = body.to_vec(),
        NEWGEN => rules.generation = generation(body).unwrap_or(0),
        // That there is no such table is an answer too.
        _ => {}
    })?;
    Ok(rules)
}

/// Removes an interface with its other end; false if there was none.
pub(super) fn remove_interface(name: &str) -> io::Result<bool> {
    let socket = open(None)?;
    let mut request = Vec::new();
    push(&mut request, RTM_DELLINK, REQUEST | ACK, 1, &[0; 16], IFLA_IFNAME, name);
    match talk(&socket, &request, 1, |_, _| {}) {
        Ok(()) => Ok(true),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(false),
        Err(e) => Err(e),
    }
}

/// No protocol is the routing one: its number is 0.
fn open(protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?)
}

/// Appends a message with at most one attribute, a string.
fn push(
    out: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    head: &[u8],
    attribute: u16,
    value: &str,
) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(head);
    if !value.is_empty() {
        let len = u16::try_from(value.len() + 5).expect("a short name");
        out.extend_from_slice(&len.to_ne_bytes());
        out.extend_from_slice(&attribute.to_ne_bytes());
        out.extend_from_slice(value.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    let len = u32::try_from(out.len() - start).expect("a short message");
    out[start..start + 4].copy_from_slice(&len.to_ne_bytes());
}

/// Sends and hears all answers, up to the confirmation of the message `last`,
/// whose failure is the error. The kernel has answered before the sending returns.
fn talk(
    socket: &OwnedFd,
    request: &[u8],
    last: u32,
    mut heard: impl FnMut(u16, &[u8]),
) -> io::Result<()> {
    sendto(socket, request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buf = vec![0; BUFFER];
    loop {
        let (n, _) = recv(socket, &mut buf[..], RecvFlags::empty())?;
        let mut rest = &buf[..n];
        while let Some((kind, sequence, body)) = message(&mut rest) {
            heard(kind, body);
            if kind == ERROR && sequence == last {
                let code = body.first_chunk().map_or(0, |b| i32::from_ne_bytes(*b));
                return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
            }
        }
    }
}

/// Takes one message off the front: its type, sequence and body.
fn message<'a>(rest: &mut &'a [u8]) -> Option<(u16, u32, &'a [u8])> {
    let head = rest.first_chunk::<HEADER>()?;
    let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let kind = u16::from_ne_bytes([head[4], head[5]]);
    let sequence = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    let body = rest.get(HEADER..len)?;
    *rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, sequence, body))
}

/// The generation in the body of a NEWGEN: after nftables' own header, big-endian.
fn generation(body: &[u8]) -> Option<u32> {
    let mut rest = body.get(4..)?;
    while let Some(head) = rest.first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        if u16::from_ne_bytes([head[2], head[3]]) == NFTA_GEN_ID {
            return rest.get(4..len)?.try_into().ok().map(u32::from_be_bytes);
        }
        rest = rest.get(len.next_multiple_of(4).max(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_found_among_attributes() {
        let body = [[0, 0, 0, 0], [8, 0, 2, 0], [0, 0, 0, 9], [8, 0, 1, 0], [0, 0, 1, 2]].concat();
        #[cfg(target_endian = "little")]
        assert_eq!(generation(&body), Some(258));
        assert_eq!(generation(&body[..4]), None);
        assert_eq!(generation(&[]), None);
    }

    #[test]
    fn cut_messages_end_the_reading() {
        let mut out = Vec::new();
        push(&mut out, GETGEN, REQUEST, 7, &[0; 4], 0, "");
        for cut in 0..out.len() {
            assert!(message(&mut &out[..cut]).is_none(), "{cut}");
        }
        let mut rest = &out[..];
        assert_eq!(message(&mut rest).unwrap().1, 7);
        assert!(rest.is_empty());
    }
}
