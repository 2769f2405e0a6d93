//! The one table of rules, `inet pixels`, for all pixels of the host.
//!
//! It names no pixel: interfaces are told by the beginning of their names, the
//! address that belongs to each by the host's routes. So it is written once,
//! not at every create, and two processes with other settings want the same.
//!
//! | from | to | |
//! | --- | --- | --- |
//! | a pixel, under an address that is not its own | anywhere | dropped |
//! | a pixel | another pixel | dropped |
//! | a pixel | the host itself | dropped, but answers, and DNS to name servers given to pixels that are the host's own |
//! | a pixel | elsewhere | passed under the host's address |
//! | the host | a pixel | passed |
//! | elsewhere | a pixel | dropped, but answers and what ICMP says of them |
//!
//! A chain's `accept` ends that chain alone: what another table drops stays
//! dropped, Docker's `FORWARD` policy for one, and `doctor` finds that. What this
//! table drops no other table can pass. What goes to the host itself is dropped before
//! addresses are rewritten as well, so that ports which Docker publishes on the host are the host's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use pixels_core::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::{netlink, tool};

const TABLE: &str = "pixels";
/// Whether this host passes packets on.
pub(super) const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const WHAT: &str = "setting the packet filter";

/// The rules, rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    text: String,
    mark: String,
}

impl Rules {
    /// The rules with these name servers, of which those matter that are the host's own.
    pub fn new(resolvers: &BTreeSet<Ipv4Addr>) -> Self {
        let elements = match resolvers.is_empty() {
            true => String::new(),
            false => {
                let all: Vec<_> = resolvers.iter().map(ToString::to_string).collect();
                format!(" elements = {{ {} }};", all.join(", "))
            }
        };
        let body = BODY.replace("ELEMENTS", &elements);
        let hash = Sha256::digest(body.as_bytes());
        let hash: String = hash.iter().take(8).map(|b| format!("{b:02x}")).collect();
        let mark = format!("pixels {hash}");
        // Making it first lets the deletion work in any case; it is one transaction.
        let text = format!(
            "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n\tcomment \"{mark}\"\n{body}}}\n"
        );
        Self { text, mark }
    }

    /// What `nft -f` reads.
    pub fn text(&self) -> &str {
        &self.text
    }
}

const BODY: &str = r#"
	set resolvers { type ipv4_addr;ELEMENTS }

	# What a pixel may do to the host itself.
	chain host {
		ct state established,related accept
		ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
		drop
	}

	# Before anything else: only from the address whose route leads back.
	chain source {
		type filter hook prerouting priority raw; policy accept;
		iifname != "pxl*" accept
		meta nfproto != ipv4 drop
		fib saddr . iif oif missing drop
	}

	# Before addresses are rewritten.
	chain destination {
		type filter hook prerouting priority mangle; policy accept;
		iifname "pxl*" fib daddr type { local, broadcast, multicast } goto host
	}

	# Afterwards.
	chain input {
		type filter hook input priority filter; policy accept;
		iifname "pxl*" goto host
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "pxl*" oifname "pxl*" drop
		oifname "pxl*" ct state established,related accept
		oifname "pxl*" drop
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		iifname "pxl*" oifname != "pxl*" masquerade
	}
"#;

/// What was found, and where: good until anybody changes any rule.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// Another boot or another network namespace has other rules.
    place: String,
    /// The kernel's count of changes when it was so.
    generation: u32,
    /// The name servers in the rules: those of all who asked since the boot, so
    /// that two with other settings do not take turns.
    resolvers: BTreeSet<Ipv4Addr>,
}

/// Sees to it that the rules are there.
#[derive(Clone, Debug)]
pub struct Firewall {
    dir: PathBuf,
}

impl Firewall {
    /// `dir` is for the lock and for what was seen, in a place that goes with the
    /// boot (`/run`). All processes of the host have to name the same one.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Makes sure that the rules are in force and that the host passes packets
    /// on. To be called before every start of a pixel: it is a file and one question to
    /// the kernel unless somebody has changed some rule since, and then the
    /// table is written anew.
    ///
    /// # Errors
    /// `Unsupported` without nft; what nft said.
    pub async fn ensure(&self, resolvers: &[IpAddr]) -> Result<()> {
        forward().map_err(|e| failed("letting the host pass packets on", &e))?;
        let wanted: BTreeSet<Ipv4Addr> = resolvers
            .iter()
            .filter_map(|ip| match ip {
                IpAddr::V4(ip) => Some(*ip),
                IpAddr::V6(_) => None,
            })
            .collect();
        let place = place().map_err(|e| failed(WHAT, &e))?;
        if self.in_force(&place, &wanted)? {
            return Ok(());
        }
        let nft = tool::need("nft", "nftables", "a network")?;
        let _lock = self.lock().await?;
        // Somebody else may have been faster.
        if self.in_force(&place, &wanted)? {
            return Ok(());
        }
        let resolvers = match self.seen().filter(|seen| seen.place == place) {
            Some(seen) => seen.resolvers.union(&wanted).copied().collect(),
            None => wanted,
        };
        let rules = Rules::new(&resolvers);
        let before = look()?.generation;
        let mut command = Command::new(nft);
        command.args(["-f", "-"]);
        tool::run(command, WHAT, rules.text.as_bytes()).await?;
        let after = look()?;
        if !after.marked(&rules.mark) {
            return Err(Error::backend(WHAT, "somebody removed the table inet pixels at once"));
        }
        // If ours was not the only change, the next one looks again.
        let seen = Seen { place, generation: next(before), resolvers };
        if after.generation != seen.generation {
            let _ = fs::remove_file(self.file());
            return Ok(());
        }
        self.remember(&seen).map_err(|e| failed(WHAT, &e))
    }

    /// Removes the table; for a host that is to have no pixels any more.
    ///
    /// # Errors
    /// What nft said.
    pub async fn remove(&self) -> Result<()> {
        let Some(nft) = tool::find("nft") else { return Ok(()) };
        let _lock = self.lock().await?;
        let _ = fs::remove_file(self.file());
        let mut command = Command::new(nft);
        command.args(["-f", "-"]);
        let text = format!("table inet {TABLE}\ndelete table inet {TABLE}\n");
        tool::run(command, "removing the packet filter", text.as_bytes()).await.map(drop)
    }

    /// Whether the rules with these name servers are in force and nothing has
    /// been changed since they were written.
    fn in_force(&self, place: &str, wanted: &BTreeSet<Ipv4Addr>) -> Result<bool> {
        let Some(seen) = self.seen() else { return Ok(false) };
        if seen.place != place || !wanted.is_subset(&seen.resolvers) {
            return Ok(false);
        }
        let found = look()?;
        let rules = Rules::new(&seen.resolvers);
        Ok(found.generation == seen.generation && found.marked(&rules.mark))
    }

    async fn lock(&self) -> Result<File> {
        let path = self.dir.join("firewall.lock");
        let dir = self.dir.clone();
        let locked = tokio::task::spawn_blocking(move || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            let file = File::options().create(true).truncate(false).write(true).open(path)?;
            file.lock().map(|()| file)
        });
        match locked.await {
            Ok(Ok(file)) => Ok(file),
            Ok(Err(e)) => Err(failed(WHAT, &e)),
            Err(_) => Err(Error::Interrupted { what: WHAT.into() }),
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.join("firewall.json")
    }

    fn seen(&self) -> Option<Seen> {
        serde_json::from_slice(&fs::read(self.file()).ok()?).ok()
    }

    /// Under the lock. A reader sees all of it or the one before.
    fn remember(&self, seen: &Seen) -> io::Result<()> {
        let new = self.dir.join("firewall.json.new");
        fs::write(&new, serde_json::to_vec(seen)?)?;
        fs::rename(new, self.file())
    }
}

fn look() -> Result<netlink::Rules> {
    netlink::rules(TABLE).map_err(|e| failed("asking for the packet filter", &e))
}

fn failed(what: &str, e: &io::Error) -> Error {
    Error::backend(what, e.to_string())
}

/// The kernel's next count: it leaves 0 out.
fn next(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// Which rules these are: of which boot, of which network namespace.
fn place() -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let namespace = fs::read_link("/proc/thread-self/ns/net")?;
    Ok(format!("{} {}", boot.trim(), namespace.display()))
}

/// Makes the host pass packets on, as Docker does too.
fn forward() -> io::Result<()> {
    if forwards(Path::new(FORWARDING)) { Ok(()) } else { fs::write(FORWARDING, "1") }
}

/// Whether the host passes packets on.
pub(super) fn forwards(path: &Path) -> bool {
    fs::read(path).is_ok_and(|value| value.starts_with(b"1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_the_same_for_the_same_servers() {
        let servers = |all: &[[u8; 4]]| all.iter().map(|o| Ipv4Addr::from(*o)).collect();
        let none = Rules::new(&BTreeSet::new());
        let two = Rules::new(&servers(&[[10, 0, 0, 2], [10, 0, 0, 1]]));
        assert_eq!(two, Rules::new(&servers(&[[10, 0, 0, 1], [10, 0, 0, 2]])));
        assert_ne!(none.mark, two.mark);
        assert!(two.text().contains("elements = { 10.0.0.1, 10.0.0.2 };"), "{}", two.text());
        assert!(!none.text().contains("elements") && !none.text().contains("ELEMENTS"));
        assert!(two.text().contains(&two.mark));
    }

    #[test]
    fn counts_go_round() {
        assert_eq!((next(1), next(u32::MAX)), (2, 1));
    }
}
