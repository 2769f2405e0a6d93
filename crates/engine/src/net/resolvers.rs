//! Which name servers a pixel asks, and the two files that say so inside.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use pixels_core::{Name, text};

const HOST: &str = "/etc/resolv.conf";
/// Where systemd-resolved names the servers that it asks itself.
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";
/// More than that no C library asks.
const MOST: usize = 3;

/// Name servers for pixels, and where they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolvers {
    /// IPv4 addresses that mean the same inside a pixel as here.
    pub servers: Vec<IpAddr>,
    /// The host's search list.
    pub search: Vec<String>,
    /// The setting or the file.
    pub origin: String,
}

impl Resolvers {
    /// Those of the setting `dns`, else the host's. None is possible: then names
    /// are not resolved inside, and `doctor` says so.
    pub fn choose(dns: &[IpAddr]) -> Self {
        Self::choose_from(dns, [Path::new(HOST), Path::new(UPSTREAM)])
    }

    fn choose_from(dns: &[IpAddr], files: [&Path; 2]) -> Self {
        if !dns.is_empty() {
            return Self { servers: dns.to_vec(), search: Vec::new(), origin: "dns".into() };
        }
        let mut search = Vec::new();
        for file in files {
            let Ok(content) = std::fs::read(file) else { continue };
            let found = parse(&String::from_utf8_lossy(&content));
            if search.is_empty() {
                search = found.search;
            }
            if !found.servers.is_empty() {
                let origin = file.display().to_string();
                return Self { servers: found.servers, search, origin };
            }
        }
        Self { servers: Vec::new(), search, origin: files[0].display().to_string() }
    }

    /// The pixel's `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> String {
        let mut out = String::from("# Written by pixels when this pixel was started.\n");
        for server in self.servers.iter().take(MOST) {
            let _ = writeln!(out, "nameserver {server}");
        }
        if !self.search.is_empty() {
            let _ = writeln!(out, "search {}", self.search.join(" "));
        }
        out
    }
}

/// The pixel's `/etc/hosts`. Without an address of its own it is 127.0.1.1, as on Debian.
pub fn hosts(name: &Name, address: Option<Ipv4Addr>) -> String {
    let own = address.unwrap_or(Ipv4Addr::new(127, 0, 1, 1));
    format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}\t{name}\n",
        name = name.as_str()
    )
}

/// Reads a resolv.conf. Left out is what a pixel cannot reach: this host's
/// loopback, and IPv6, which pixels do not have.
fn parse(content: &str) -> Resolvers {
    let mut out = Resolvers::default();
    for line in content.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                let server = words.next().and_then(|w| w.parse::<Ipv4Addr>().ok());
                let usable = |ip: &Ipv4Addr| !ip.is_loopback() && !ip.is_unspecified();
                out.servers.extend(server.filter(usable).map(IpAddr::V4));
            }
            // The last one counts.
            Some("search" | "domain") => out.search = words.map(text::clean).collect(),
            _ => {}
        }
    }
    // `search .` says that there is none.
    out.search.retain(|domain| domain != ".");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_the_host_or_of_its_resolver() {
        let dir = tempfile::tempdir().unwrap();
        let (host, upstream) = (dir.path().join("host"), dir.path().join("upstream"));
        let choose = |dns: &[IpAddr]| Resolvers::choose_from(dns, [&host, &upstream]);

        assert!(choose(&[]).servers.is_empty());
        std::fs::write(&host, "search lan\nnameserver 127.0.0.53\nnameserver ::1\n").unwrap();
        assert!(choose(&[]).servers.is_empty(), "loopback means the pixel's own");
        std::fs::write(&upstream, "nameserver 192.0.2.53\nnameserver fe80::1%eth0\n").unwrap();
        let found = choose(&[]);
        assert_eq!(found.servers, ["192.0.2.53".parse::<IpAddr>().unwrap()]);
        assert_eq!(
            (found.search, found.origin),
            (vec!["lan".into()], upstream.display().to_string())
        );
        std::fs::write(&host, "nameserver 192.0.2.1 # here\n  nameserver\t192.0.2.2\nnameserver x")
            .unwrap();
        assert_eq!(choose(&[]).servers.len(), 2);
        let set = choose(&["192.0.2.9".parse().unwrap()]);
        assert_eq!((set.servers.len(), set.origin.as_str()), (1, "dns"));
    }

    #[test]
    fn files_of_a_pixel() {
        let resolvers = Resolvers {
            servers: (1..6).map(|n| IpAddr::from([192, 0, 2, n])).collect(),
            search: vec!["a".into(), "b".into()],
            origin: String::new(),
        };
        let file = resolvers.resolv_conf();
        assert_eq!(file.matches("nameserver").count(), 3);
        assert!(file.ends_with("nameserver 192.0.2.3\nsearch a b\n"), "{file}");
        let name: Name = "mybox".parse().unwrap();
        assert!(hosts(&name, None).contains("127.0.1.1\tmybox\n"));
        assert!(hosts(&name, Some(Ipv4Addr::new(10, 209, 0, 1))).contains("10.209.0.1\tmybox\n"));
    }
}
