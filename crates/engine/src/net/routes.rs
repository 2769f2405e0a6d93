//! What the host knows of networks: its routes and its own addresses, from /proc.

use std::fmt;
use std::net::Ipv4Addr;

/// Of the calling thread's network namespace, as is everything else here.
const ROUTES: &str = "/proc/thread-self/net/route";

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// Its first address.
    pub base: Ipv4Addr,
    /// How many bits its addresses share.
    pub len: u8,
}

impl Network {
    /// Reads `a.b.c.d/len`; `None` if that is no network, or has bits beyond its length.
    pub fn parse(raw: &str) -> Option<Self> {
        let (base, len) = raw.split_once('/')?;
        let base: Ipv4Addr = base.parse().ok()?;
        if !len.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let len = len.parse().ok().filter(|len| *len <= 32)?;
        let network = Self { base, len };
        (u32::from(base) & !network.mask() == 0).then_some(network)
    }

    /// A single address.
    pub fn single(address: Ipv4Addr) -> Self {
        Self { base: address, len: 32 }
    }

    /// Whether they have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mask = self.mask() & other.mask();
        u32::from(self.base) & mask == u32::from(other.base) & mask
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.len)
    }
}

/// A route of the host's main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub to: Network,
    /// Through which interface.
    pub device: String,
}

/// The host's routes; empty where the kernel does not say.
pub fn of_host() -> Vec<Route> {
    parse(&std::fs::read_to_string(ROUTES).unwrap_or_default())
}

/// Reads `/proc/net/route`: hexadecimal words in the machine's byte order.
fn parse(table: &str) -> Vec<Route> {
    let word = |raw: &str| u32::from_str_radix(raw, 16).ok();
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (device, base) = (fields.next()?, word(fields.next()?)?);
        let mask = word(fields.nth(5)?)?;
        let base = Ipv4Addr::from(base.to_ne_bytes());
        let len = u8::try_from(mask.count_ones()).ok()?;
        Some(Route { to: Network { base, len }, device: device.to_owned() })
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// The host's own IPv4 addresses, loopback's excepted.
pub fn own_addresses() -> Vec<Ipv4Addr> {
    local(&std::fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap_or_default())
}

/// Reads `/proc/net/fib_trie`: an address on a line of its own, what it is on the next.
fn local(trie: &str) -> Vec<Ipv4Addr> {
    let mut found: Vec<Ipv4Addr> = Vec::new();
    let mut last = None;
    for line in trie.lines() {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last.filter(|a| !a.is_loopback() && *a != super::GATEWAY));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_overlap_both_ways() {
        let net = |raw| Network::parse(raw).unwrap();
        assert!(net("10.0.0.0/8").overlaps(&net("10.209.0.0/16")));
        assert!(net("10.209.0.0/16").overlaps(&net("10.0.0.0/8")));
        assert!(net("0.0.0.0/0").overlaps(&net("10.0.0.1/32")));
        assert!(!net("10.209.0.0/16").overlaps(&net("10.210.0.0/16")));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn routes_are_read() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n\
                     eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     nonsense\n";
        let routes = parse(table);
        let told: Vec<_> = routes.iter().map(|r| (r.to.to_string(), r.device.as_str())).collect();
        assert_eq!(told, [("0.0.0.0/0".into(), "eth0"), ("192.0.2.0/24".into(), "eth0")]);
    }

    #[test]
    fn own_addresses_are_read() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n     \
                    |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.2\n        /32 host LOCAL\n     \
                    |-- 192.0.2.255\n        /32 link BROADCAST\n     |-- 192.0.2.2\n        /32 host LOCAL\n     \
                    |-- 169.254.1.1\n        /32 host LOCAL\n";
        assert_eq!(local(trie), [Ipv4Addr::new(192, 0, 2, 2)]);
    }

    #[test]
    fn this_host_answers() {
        // Whatever it has, it can be read: the first line is a heading.
        assert!(std::fs::read_to_string(ROUTES).unwrap().starts_with("Iface"));
        let _ = (of_host(), own_addresses());
    }
}
