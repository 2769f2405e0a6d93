//! The network of a pixel: a pair of interfaces, one end in the pixel, one on
//! the host, with a route of one address between them.
//!
//! There is no bridge: two pixels share no link, and what one says to the other
//! passes the host's firewall. It is in the path of every create and clone,
//! therefore each side is two calls: one that makes and asks for the index,
//! one for all that needs the index.

mod closed;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod lab;
mod message;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(crate) use closed::close;
pub(crate) use message::{LinkError, message};

use crate::sys::{errno, netlink};
use message::{Attributes, Batch, at};

/// What the interface is called inside.
const INSIDE: &[u8] = b"eth0";
/// The only route there is leads to one address.
const WHOLE: u8 = 32;

// What the C library has no names for.
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_NONE: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// Settings of the host's end, as `/proc/sys/net/ipv4/conf` names them.
const HOST_SETTINGS: [(u16, u32); 10] = [
    (1, 1),  // forwarding
    (3, 0),  // proxy_arp: it answers for nobody else
    (4, 0),  // accept_redirects: a pixel tells the host no routes
    (6, 0),  // send_redirects
    (8, 1),  // rp_filter: strict, a pixel has its own source address alone
    (9, 0),  // accept_source_route
    (19, 1), // arp_ignore: the host's other addresses are not told
    (23, 0), // accept_local
    (25, 0), // proxy_arp_pvlan
    (26, 0), // route_localnet: never to 127.0.0.0/8
];

/// The host's end of a pixel's network.
pub(crate) struct HostSide<'a> {
    /// What the host's end is called; at most 15 bytes.
    pub(crate) name: &'a [u8],
    /// The pixel's network namespace.
    pub(crate) peer: RawFd,
    /// The MAC address inside; the host's end has it with another first byte.
    pub(crate) mac: [u8; 6],
    /// The pixel's address.
    pub(crate) address: Ipv4Addr,
    /// The host's address on this link, the same on every one.
    pub(crate) gateway: Ipv4Addr,
    /// The links' MTU; `None` is the kernel's.
    pub(crate) mtu: Option<u32>,
}

/// Makes the pair, the inner end directly in the pixel's namespace, and routes
/// the pixel's address to it. To be called in the host's network namespace, by
/// root. What fails leaves nothing behind.
///
/// # Errors
/// The step. `EEXIST` at [`MAKING`]: the name is taken; at [`ROUTING`]: the address is.
pub(crate) fn host_side(side: &HostSide<'_>) -> Result<(), LinkError> {
    let socket = netlink::quiet().map_err(at("opening a routing socket"))?;
    let mut batch = Batch::default();
    batch.add(MAKING, libc::RTM_NEWLINK, CREATE, &link(0, 0), |a| side.pair(a));
    ask(&mut batch, side.name);
    let answers = batch.send(&socket)?;
    if !answers.first {
        return Err(answers.failed.unwrap_or_else(|| lost(MAKING)));
    }
    let Some(index) = answers.index else {
        remove(&socket, side.name);
        return Err(answers.failed.unwrap_or_else(|| lost("asking for the interface")));
    };
    let finished = without_ipv6(side.name)
        .map_err(at("switching IPv6 off"))
        .and_then(|ipv6| side.finish(&socket, index, ipv6));
    if finished.is_err() {
        remove(&socket, side.name);
    }
    finished
}

/// The step that makes the interfaces.
pub(crate) const MAKING: &str = "making the interface";
/// The step that routes the pixel's address.
pub(crate) const ROUTING: &str = "routing its address";

const CREATE: libc::c_int = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

impl HostSide<'_> {
    fn pair(&self, a: &mut Attributes<'_>) {
        let mut mac = self.mac;
        // Given, not left to the kernel: udev changes random ones afterwards.
        mac[0] ^= 4;
        a.name(libc::IFLA_IFNAME, self.name).put(libc::IFLA_ADDRESS, &mac);
        self.common(a);
        a.nest(libc::IFLA_LINKINFO, &[], |a| {
            a.put(IFLA_INFO_KIND, b"veth").nest(IFLA_INFO_DATA, &[], |a| {
                a.nest(VETH_INFO_PEER, &link(0, 0), |a| {
                    a.name(libc::IFLA_IFNAME, INSIDE)
                        .put(libc::IFLA_ADDRESS, &self.mac)
                        .number(libc::IFLA_NET_NS_FD, self.peer.cast_unsigned());
                    self.common(a);
                });
            });
        });
    }

    /// One queue: as many as there are CPUs cost memory and time and gain nothing here.
    fn common(&self, a: &mut Attributes<'_>) {
        a.number(libc::IFLA_NUM_TX_QUEUES, 1).number(libc::IFLA_NUM_RX_QUEUES, 1);
        if let Some(mtu) = self.mtu {
            a.number(libc::IFLA_MTU, mtu);
        }
    }

    fn finish(&self, socket: &OwnedFd, index: u32, ipv6: bool) -> Result<(), LinkError> {
        let mut batch = Batch::default();
        let set = "setting the interface";
        batch.add(set, libc::RTM_NEWLINK, 0, &link(index, 0), |a| {
            a.nest(libc::IFLA_AF_SPEC, &[], |a| {
                a.nest(libc::AF_INET as u16, &[], |a| {
                    a.nest(IFLA_INET_CONF, &[], |a| {
                        for (setting, value) in HOST_SETTINGS {
                            a.number(setting, value);
                        }
                    });
                });
                if ipv6 {
                    no_ipv6_addresses(a);
                }
            });
        });
        up(&mut batch, index);
        address(&mut batch, index, self.gateway, libc::RT_SCOPE_LINK);
        route(&mut batch, ROUTING, index, Some(self.address), None);
        batch.send(socket)?.failed.map_or(Ok(()), Err)
    }
}

/// Gives the pixel its address and its routes. To be called inside its network
/// namespace, with its administration's capability.
///
/// # Errors
/// The step.
pub(crate) fn guest_side(own: Ipv4Addr, gateway: Ipv4Addr) -> Result<(), LinkError> {
    let socket = netlink::quiet().map_err(at("opening a routing socket"))?;
    let mut batch = Batch::default();
    up(&mut batch, netlink::LOOPBACK_INDEX);
    ask(&mut batch, INSIDE);
    let answers = batch.send(&socket)?;
    if let Some(failed) = answers.failed {
        return Err(failed);
    }
    let index = answers.index.ok_or_else(|| lost("asking for the interface"))?;
    let mut batch = Batch::default();
    batch.add("switching IPv6 off", libc::RTM_NEWLINK, 0, &link(index, 0), |a| {
        a.nest(libc::IFLA_AF_SPEC, &[], no_ipv6_addresses);
    });
    batch.optional();
    up(&mut batch, index);
    address(&mut batch, index, own, libc::RT_SCOPE_UNIVERSE);
    route(&mut batch, "routing the gateway", index, Some(gateway), None);
    route(&mut batch, "routing everything else", index, None, Some(gateway));
    batch.send(&socket)?.failed.map_or(Ok(()), Err)
}

/// No network but the pixel's own loopback. To be called inside its network namespace.
///
/// # Errors
/// The step.
pub(crate) fn loopback_only() -> Result<(), LinkError> {
    let socket = netlink::quiet().map_err(at("opening a routing socket"))?;
    let mut batch = Batch::default();
    up(&mut batch, netlink::LOOPBACK_INDEX);
    batch.send(&socket)?.failed.map_or(Ok(()), Err)
}

fn lost(step: &'static str) -> LinkError {
    at(step)(io::Error::from_raw_os_error(libc::ENODEV))
}

/// A link's fixed part.
fn link(index: u32, flags: libc::c_int) -> [u8; 16] {
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head[12..].copy_from_slice(&flags.to_ne_bytes());
    head
}

fn ask(batch: &mut Batch, name: &[u8]) {
    let step = "asking for the interface";
    batch.add(step, libc::RTM_GETLINK, 0, &link(0, 0), |a| {
        a.name(libc::IFLA_IFNAME, name).number(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    });
}

fn up(batch: &mut Batch, index: u32) {
    let head = link(index, libc::IFF_UP);
    batch.add("bringing the interface up", libc::RTM_NEWLINK, 0, &head, |_| {});
}

fn no_ipv6_addresses(a: &mut Attributes<'_>) {
    a.nest(libc::AF_INET6 as u16, &[], |a| {
        a.put(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_NONE]);
    });
}

fn address(batch: &mut Batch, index: u32, address: Ipv4Addr, scope: u8) {
    let mut head = [libc::AF_INET as u8, WHOLE, 0, scope, 0, 0, 0, 0];
    head[4..].copy_from_slice(&index.to_ne_bytes());
    batch.add("giving it its address", libc::RTM_NEWADDR, CREATE, &head, |a| {
        a.put(libc::IFA_LOCAL, &address.octets()).put(libc::IFA_ADDRESS, &address.octets());
    });
}

/// A route to `to`, everything if `None`; on the link itself unless there is a `via`.
fn route(
    batch: &mut Batch,
    step: &'static str,
    index: u32,
    to: Option<Ipv4Addr>,
    via: Option<Ipv4Addr>,
) {
    let scope = if via.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
    let len = if to.is_some() { WHOLE } else { 0 };
    let flags = if via.is_some() { RTNH_F_ONLINK } else { 0 };
    let [a, b, c, d] = flags.to_ne_bytes();
    let (family, table) = (libc::AF_INET as u8, libc::RT_TABLE_MAIN);
    let origin = libc::RTPROT_STATIC;
    let head = [family, len, 0, 0, table, origin, scope, libc::RTN_UNICAST, a, b, c, d];
    batch.add(step, libc::RTM_NEWROUTE, CREATE, &head, |a| {
        a.number(libc::RTA_OIF, index);
        if let Some(to) = to {
            a.put(libc::RTA_DST, &to.octets());
        }
        if let Some(via) = via {
            a.put(libc::RTA_GATEWAY, &via.octets());
        }
    });
}

/// Keeps IPv6 off an interface that is not up yet. Answers whether the kernel has IPv6 at all.
fn without_ipv6(name: &[u8]) -> io::Result<bool> {
    let conf = Path::new("/proc/sys/net/ipv6/conf").join(OsStr::from_bytes(name));
    match std::fs::write(conf.join("disable_ipv6"), "1") {
        Ok(()) => Ok(true),
        Err(e) if errno(&e) == libc::ENOENT => Ok(false),
        Err(e) => Err(e),
    }
}

/// Takes a half-made pair back; both ends go.
fn remove(socket: &OwnedFd, name: &[u8]) {
    let mut batch = Batch::default();
    batch.add("removing the interface", libc::RTM_DELLINK, 0, &link(0, 0), |a| {
        a.name(libc::IFLA_IFNAME, name);
    });
    // It is undone because of an error already; that one is told.
    let _ = batch.send(socket);
}
