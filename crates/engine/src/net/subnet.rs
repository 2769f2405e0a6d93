//! Slots: a small number per pixel, from which its address, the name of its
//! interface and its MAC address follow.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use pixels_core::{Error, Result};

use super::routes::{Network, Route};

/// Where pixels' addresses come from.
pub const DEFAULT: &str = "10.209.0.0/16";

const PREFIX: &str = "pxl";
/// With less there is room for hardly anything, with more no other network.
const LENGTHS: std::ops::RangeInclusive<u8> = 8..=28;

/// The addresses of pixels. All but the first and the last are used: some
/// programs take those for more than they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet(Network);

impl FromStr for Subnet {
    type Err = Error;

    /// # Errors
    /// `Invalid` with the rule.
    fn from_str(raw: &str) -> Result<Self> {
        let refuse = |rule| Err(Error::invalid("subnet", raw, rule));
        let Some(network) = Network::parse(raw) else {
            return refuse("a subnet is an IPv4 network such as 10.209.0.0/16");
        };
        if !LENGTHS.contains(&network.len) {
            return refuse("a subnet's length is /8 to /28");
        }
        let base = network.base;
        if base.is_loopback()
            || base.is_link_local()
            || base.is_multicast()
            || base.octets()[0] == 0
        {
            return refuse(
                "these addresses have a meaning of their own; a private network has none",
            );
        }
        Ok(Self(network))
    }
}

impl Default for Subnet {
    fn default() -> Self {
        DEFAULT.parse().expect("the default is a subnet")
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Subnet {
    /// How many slots there are; they count from 0.
    pub fn slots(&self) -> u32 {
        (1 << (32 - u32::from(self.0.len))) - 2
    }

    /// The address of a slot; `None` beyond the last.
    pub fn address(&self, slot: u32) -> Option<Ipv4Addr> {
        (slot < self.slots()).then(|| Ipv4Addr::from(u32::from(self.0.base) + 1 + slot))
    }

    /// The slot of an address; `None` for one of somebody else's.
    pub fn slot(&self, address: Ipv4Addr) -> Option<u32> {
        let slot = u32::from(address).checked_sub(u32::from(self.0.base))?.checked_sub(1)?;
        (slot < self.slots()).then_some(slot)
    }

    /// A slot that is not `taken`, looked for from `from` on and then from the
    /// beginning, so that an address is not used again at once.
    ///
    /// # Errors
    /// `Exhausted` if all are taken.
    pub fn free(&self, from: u32, taken: impl Fn(u32) -> bool) -> Result<u32> {
        let slots = self.slots();
        let from = from % slots;
        (from..slots).chain(0..from).find(|slot| !taken(*slot)).ok_or_else(|| {
            Error::Exhausted {
                what: "choosing an address".into(),
                reason: format!("all {slots} of {self} are taken"),
            }
            .with_hint("set a larger subnet, or destroy pixels")
        })
    }

    /// Refuses if the host has a route into the subnet that is not a pixel's:
    /// one of the two could not be reached. Nothing else is chosen in its place.
    ///
    /// # Errors
    /// `Invalid` that names the route.
    pub fn check(&self, routes: &[Route]) -> Result<()> {
        match self.overlapping(routes) {
            None => Ok(()),
            Some(route) => {
                let rule = format!("the host has a route to {} on {}", route.to, route.device);
                Err(Error::invalid("subnet", &self.to_string(), &rule)
                    .with_hint("set subnet to a private network that this host does not use"))
            }
        }
    }

    /// The first route of somebody else's into the subnet. Default routes, whole
    /// or in halves as VPNs set them, are none.
    pub fn overlapping<'a>(&self, routes: &'a [Route]) -> Option<&'a Route> {
        routes.iter().find(|route| {
            route.to.len > 1 && route.to.overlaps(&self.0) && slot_of(&route.device).is_none()
        })
    }
}

/// What the host's end of a slot's link is called.
pub fn interface(slot: u32) -> String {
    format!("{PREFIX}{slot:x}")
}

/// The slot whose link is called so.
pub fn slot_of(interface: &str) -> Option<u32> {
    let slot = u32::from_str_radix(interface.strip_prefix(PREFIX)?, 16).ok()?;
    (self::interface(slot) == interface).then_some(slot)
}

/// The MAC address of a pixel in a slot: locally administered, and another one
/// for the next pixel in it. `id` is the pixel's random id.
pub fn mac(slot: u32, id: &[u8]) -> [u8; 6] {
    let [_, a, b, c] = slot.to_be_bytes();
    // FNV-1a: this spreads, it protects nothing.
    let hash =
        id.iter().fold(0x811c_9dc5_u32, |h, byte| (h ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let [d, e, f, g] = hash.to_be_bytes();
    [2, a, b, c, d ^ f, e ^ g]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(to: &str, device: &str) -> Route {
        Route { to: Network::parse(to).unwrap(), device: device.into() }
    }

    #[test]
    fn rules_of_a_subnet() {
        for good in ["10.209.0.0/16", "100.64.0.0/10", "192.168.200.0/24"] {
            assert_eq!(good.parse::<Subnet>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "10.209.0.0",
            "10.209.0.1/16",
            "10.0.0.0/7",
            "10.0.0.0/29",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/8",
            "0.0.0.0/8",
            "fd00::/64",
            "10.0.0.0/ 16",
            "10.0.0.0/+16",
        ] {
            assert_eq!(bad.parse::<Subnet>().unwrap_err().code(), "invalid", "{bad}");
        }
    }

    #[test]
    fn overlapping_routes_are_named() {
        let subnet = Subnet::default();
        let harmless = [
            route("0.0.0.0/0", "eth0"),
            route("128.0.0.0/1", "tun0"),
            route("10.208.0.0/16", "eth0"),
            route("10.209.0.7/32", "pxl6"),
        ];
        subnet.check(&harmless).unwrap();
        for theirs in ["10.0.0.0/8", "10.209.3.0/24", "10.209.0.9/32", "10.209.0.0/16"] {
            let error = subnet.check(&[route(theirs, "eth0")]).unwrap_err();
            assert!(error.to_string().contains(theirs), "{error}");
        }
    }

    #[test]
    fn slots_are_used_up_before_it_fails() {
        let subnet: Subnet = "10.0.0.0/28".parse().unwrap();
        assert_eq!(subnet.slots(), 14);
        assert_eq!(subnet.free(13, |s| s == 13).unwrap(), 0);
        assert_eq!(subnet.free(99, |s| s != 5).unwrap(), 5);
        assert_eq!(subnet.free(0, |_| true).unwrap_err().code(), "exhausted");
    }

    #[test]
    fn names_of_others_are_no_slots() {
        for name in ["pxl", "pxl07", "pxlA", "pxlg", "eth0", "pxl1ffffffff"] {
            assert_eq!(slot_of(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_slot_is_its_address_and_its_interface(slot in 0..65534_u32, id: Vec<u8>) {
            let subnet = Subnet::default();
            let address = subnet.address(slot).unwrap();
            prop_assert_eq!(subnet.slot(address), Some(slot));
            let name = interface(slot);
            prop_assert!(name.len() <= 15);
            prop_assert_eq!(slot_of(&name), Some(slot));
            prop_assert_eq!(mac(slot, &id)[0] & 3, 2);
        }

        #[test]
        fn nothing_panics(raw: String) {
            let _ = raw.parse::<Subnet>();
            let _ = slot_of(&raw);
        }
    }
}
