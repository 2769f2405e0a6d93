//! Destinations that a pixel may not send to, whatever its routes say.
//!
//! Routes cannot do this: for a socket that is bound to an interface, which any
//! program may do, the kernel takes an unreachable destination for one on
//! the link. A policy of its IPsec part that blocks is asked after the route, for
//! every socket, and not on the loopback interface.

use std::net::Ipv4Addr;

use super::message::{Batch, LinkError, at};
use crate::sys::netlink;

const XFRM_MSG_NEWPOLICY: u16 = 0x13;
const DIRECTION_OUT: u8 = 1;
const ACTION_BLOCK: u8 = 1;

/// `struct xfrm_userpolicy_info`: its length, and where the fields are that are not 0.
const POLICY: usize = 168;
const FAMILY: usize = 40;
const LENGTH: usize = 42;
const LIMITS: std::ops::Range<usize> = 56..88;
const DIRECTION: usize = 160;
const ACTION: usize = 161;

/// Closes these networks to what is sent from inside. The guest cannot take it
/// back: that takes the network's administration, which it lacks. To be called in
/// the pixel's network namespace, before the guest's first instruction. It
/// does not hold against packets made by hand: a pixel that needs it
/// must not have `CAP_NET_RAW`.
///
/// # Errors
/// The step; a kernel without that part.
pub(crate) fn close(networks: &[(Ipv4Addr, u8)]) -> Result<(), LinkError> {
    if networks.is_empty() {
        return Ok(());
    }
    let step = "closing destinations";
    let socket = netlink::policies().map_err(at(step))?;
    let mut batch = Batch::default();
    for (network, len) in networks {
        batch.add(step, XFRM_MSG_NEWPOLICY, CREATE, &policy(*network, *len), |_| {});
    }
    batch.send(&socket)?.failed.map_or(Ok(()), Err)
}

const CREATE: libc::c_int = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

fn policy(network: Ipv4Addr, len: u8) -> [u8; POLICY] {
    let mut policy = [0; POLICY];
    policy[..4].copy_from_slice(&network.octets());
    policy[FAMILY..FAMILY + 2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    policy[LENGTH] = len;
    // No number of bytes or packets ends it.
    policy[LIMITS].fill(0xff);
    policy[DIRECTION] = DIRECTION_OUT;
    policy[ACTION] = ACTION_BLOCK;
    policy
}
