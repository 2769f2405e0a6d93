//! What pixels' network needs of this host.

use std::net::IpAddr;
use std::path::Path;

use pixels_core::{Finding, Level};
use serde::Deserialize;
use tokio::process::Command;

use super::firewall::{self, FORWARDING};
use super::resolvers::Resolvers;
use super::subnet::Subnet;
use super::{pasta, routes, tool};

/// Looks at everything that the network of pixels needs: `root` as root, else
/// as the ordinary user who asks. Nothing is changed.
pub async fn findings(root: bool, subnet: &Subnet, dns: &[IpAddr]) -> Vec<Finding> {
    let mut out = Vec::new();
    if root {
        out.push(nft());
        out.push(forwarding(Path::new(FORWARDING)));
        out.push(addresses(subnet, &routes::of_host()));
        out.push(dropped().await);
    } else {
        out.push(passt());
    }
    out.push(names(&Resolvers::choose(dns)));
    out
}

fn nft() -> Finding {
    match tool::find("nft") {
        Some(file) => Finding::new(Level::Ok, "packet filter", file.display().to_string()),
        None => {
            Finding::new(Level::Fail, "packet filter", "nft is missing: only --network none works")
                .with_hint("apt install nftables")
        }
    }
}

fn forwarding(path: &Path) -> Finding {
    let check = "forwarding";
    if firewall::forwards(path) {
        return Finding::new(Level::Ok, check, "net.ipv4.ip_forward is 1");
    }
    let detail = "net.ipv4.ip_forward is 0; the first pixel with a network sets it to 1";
    Finding::new(Level::Warn, check, detail).with_hint("sysctl -w net.ipv4.ip_forward=1")
}

fn addresses(subnet: &Subnet, routes: &[routes::Route]) -> Finding {
    let check = "addresses";
    match subnet.overlapping(routes) {
        None => Finding::new(Level::Ok, check, format!("pixels have addresses of {subnet}")),
        Some(route) => {
            let (to, device) = (route.to, &route.device);
            let detail = format!("{subnet} overlaps this host's route to {to} on {device}");
            Finding::new(Level::Fail, check, detail)
                .with_hint("set subnet to a private network that this host does not use")
        }
    }
}

fn names(resolvers: &Resolvers) -> Finding {
    let check = "name servers";
    if resolvers.servers.is_empty() {
        let detail = format!(
            "{} names none but this host's loopback: pixels cannot resolve names",
            resolvers.origin
        );
        return Finding::new(Level::Warn, check, detail)
            .with_hint("set [defaults] dns = [\"<address>\"]");
    }
    let all: Vec<_> = resolvers.servers.iter().map(ToString::to_string).collect();
    Finding::new(Level::Ok, check, format!("{} (from {})", all.join(", "), resolvers.origin))
}

fn passt() -> Finding {
    let check = "pasta";
    match tool::find("pasta") {
        None => Finding::new(Level::Fail, check, "pasta is missing: only --network none works")
            .with_hint("apt install passt"),
        Some(_) if !pasta::tun_is_open() => Finding::new(
            Level::Fail,
            check,
            "/dev/net/tun is not this user's to open: only --network none works",
        )
        .with_hint("as root: modprobe tun; chmod 666 /dev/net/tun"),
        Some(file) => Finding::new(Level::Ok, check, file.display().to_string()),
    }
}

/// Whether somebody else's rules drop what pixels send.
async fn dropped() -> Finding {
    let check = "forward policy";
    let found = match nft_drops().await {
        Some(found) => Some(found),
        None => legacy_drops().await,
    };
    match found {
        None => Finding::new(Level::Ok, check, "nothing else drops what is passed on"),
        Some(chain) => {
            let detail = format!("{chain} drops what pixels send to other hosts");
            Finding::new(Level::Fail, check, detail).with_hint(chain.mend())
        }
    }
}

/// A chain that drops what no rule of it accepts.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    #[serde(default)]
    hook: String,
    #[serde(default)]
    policy: String,
    /// Whether it is Docker's, which has a place for rules of others.
    #[serde(skip)]
    docker: bool,
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let docker = if self.docker { " (Docker sets it)" } else { "" };
        write!(f, "chain {} {} {}{docker}", self.family, self.table, self.name)
    }
}

impl Chain {
    /// The commands that let pixels through.
    fn mend(&self) -> String {
        if self.family == "ip" && self.table == "filter" && self.name == "FORWARD" {
            let chain = if self.docker { "DOCKER-USER" } else { "FORWARD" };
            return format!(
                "iptables -I {chain} -i pxl+ -j ACCEPT; iptables -I {chain} -o pxl+ \
                 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
            );
        }
        let chain = format!("{} {} {}", self.family, self.table, self.name);
        format!(
            "nft insert rule {chain} 'iifname \"pxl*\" accept'; nft insert rule {chain} \
             'oifname \"pxl*\" ct state established,related accept'"
        )
    }
}

/// Asks nft, which knows what iptables has set as well.
async fn nft_drops() -> Option<Chain> {
    let nft = tool::find("nft")?;
    let list = |what: Vec<String>| {
        let mut command = Command::new(&nft);
        command.args(what);
        async move { tool::run(command, "asking for the packet filter", &[]).await.ok() }
    };
    let chains = list(vec!["-j".into(), "list".into(), "chains".into()]).await?;
    for chain in dropping(&chains) {
        let (family, table) = (chain.family.clone(), chain.table.clone());
        let rules = list(vec!["list".into(), "table".into(), family, table]).await?;
        // An exception has been made already.
        if !String::from_utf8_lossy(&rules).contains("\"pxl*\"") {
            return Some(chain);
        }
    }
    None
}

/// The chains in nft's JSON that drop what they pass on no rule for.
fn dropping(json: &[u8]) -> Vec<Chain> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<serde_json::Value>,
    }
    let Ok(listing) = serde_json::from_slice::<Listing>(json) else { return Vec::new() };
    let all: Vec<Chain> = listing
        .nftables
        .into_iter()
        .filter_map(|mut entry| serde_json::from_value(entry.get_mut("chain")?.take()).ok())
        .collect();
    let docker = |c: &Chain| {
        let user = |o: &Chain| o.name == "DOCKER-USER" && o.table == c.table;
        all.iter().any(|other| user(other) && other.family == c.family)
    };
    let drops = |c: &&Chain| {
        c.hook == "forward" && c.policy == "drop" && matches!(c.family.as_str(), "ip" | "inet")
    };
    let found: Vec<(bool, usize)> =
        all.iter().enumerate().filter(|(_, c)| drops(c)).map(|(at, c)| (docker(c), at)).collect();
    let mut all: Vec<Option<Chain>> = all.into_iter().map(Some).collect();
    found
        .into_iter()
        .filter_map(|(docker, at)| all[at].take().map(|chain| Chain { docker, ..chain }))
        .collect()
}

/// The older iptables has tables that nft does not see.
async fn legacy_drops() -> Option<Chain> {
    let names = std::fs::read_to_string("/proc/net/ip_tables_names").ok()?;
    names.lines().find(|name| *name == "filter")?;
    let mut command = Command::new(tool::find("iptables-legacy")?);
    command.args(["-S"]);
    let rules = tool::run(command, "asking iptables", &[]).await.ok()?;
    let rules = String::from_utf8_lossy(&rules).into_owned();
    let drops = rules.lines().any(|line| line == "-P FORWARD DROP") && !rules.contains("pxl+");
    drops.then(|| Chain {
        family: "ip".into(),
        table: "filter".into(),
        name: "FORWARD".into(),
        hook: "forward".into(),
        policy: "drop".into(),
        docker: rules.lines().any(|line| line == "-N DOCKER-USER"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::routes::{Network, Route};
    use super::*;

    #[test]
    fn dockers_policy_is_found_and_mended_where_docker_wants_it() {
        let json = br#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 1}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 2,
                "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "ip6", "table": "filter", "name": "FORWARD", "handle": 2,
                "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "handle": 3,
                "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "inet", "table": "mine", "name": "fwd", "handle": 3,
                "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}]}"#;
        let found = dropping(json);
        let told: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["chain ip filter FORWARD (Docker sets it)", "chain inet mine fwd"]);
        assert!(found[0].mend().starts_with("iptables -I DOCKER-USER -i pxl+ -j ACCEPT;"));
        assert!(found[1].mend().starts_with("nft insert rule inet mine fwd 'iifname"));
        assert!(dropping(b"nonsense").is_empty());
    }

    #[test]
    fn findings_say_what_mends_them() {
        let route = Route { to: Network::parse("10.0.0.0/8").unwrap(), device: "eth0".into() };
        let found = [
            addresses(&Subnet::default(), &[route]),
            names(&Resolvers { origin: "/etc/resolv.conf".into(), ..Resolvers::default() }),
            forwarding(Path::new("/nonexistent")),
        ];
        for finding in found {
            assert!(finding.level > Level::Ok && finding.hint.is_some(), "{finding:?}");
        }
        assert_eq!(addresses(&Subnet::default(), &[]).level, Level::Ok);
    }
}
