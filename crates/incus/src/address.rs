//! Addresses chosen by us, so that they are known before a pixel starts and
//! in force with its first instruction.
//!
//! DHCP takes a booting guest one to three seconds. On a bridge that Incus
//! manages we choose a free address instead: the NIC's `ipv4.address` reserves
//! it with the bridge's DHCP server, `raw.lxc` puts it on the interface before
//! the guest runs (not in restricted projects), and the guest's `boot` face
//! keeps its network daemon from asking again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pixels_guest_api::NETWORK_VARIABLE;
use serde::Deserialize;

use crate::Incus;
use crate::api::Path;
use crate::lifecycle::random;
use crate::model::{Devices, Keys};

/// How often a create is tried again because somebody else took the address:
/// Incus notices only when it starts the instance.
pub(crate) const TRIES: usize = 8;

/// What the lines of ours in `raw.lxc` begin with.
const LOWLEVEL: &str = "lxc.net.0.ipv4.";

/// What an address is in a new instance's keys.
pub(crate) struct Placement {
    pub address: Ipv4Addr,
    device: String,
    nic: Keys,
    prefix: u8,
    gateway: Ipv4Addr,
    lowlevel: bool,
}

/// How old a look at a bridge may be. What was taken since then by others is
/// noticed at the start, as it would be if they took it a moment later.
const RECENT: Duration = Duration::from_secs(2);

/// Looks at bridges, by the network's name.
pub(crate) type Bridges = Arc<tokio::sync::Mutex<BTreeMap<String, (Instant, Option<Bridge>)>>>;

/// A bridge whose addresses we may choose.
#[derive(Clone)]
pub(crate) struct Bridge {
    gateway: Ipv4Addr,
    prefix: u8,
    taken: BTreeSet<Ipv4Addr>,
}

#[derive(Deserialize)]
struct Network {
    #[serde(default)]
    managed: bool,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    config: Keys,
}

#[derive(Deserialize)]
struct Lease {
    address: String,
}

impl Incus {
    /// A free address for the only NIC in `devices`, if that is on a bridge of
    /// Incus's with DHCP. Whatever stands in the way means that DHCP decides.
    /// `lowlevel`: `raw.lxc` is known to be allowed.
    pub(crate) async fn place(
        &self,
        devices: &Devices,
        avoid: &BTreeSet<Ipv4Addr>,
        lowlevel: bool,
    ) -> Option<Placement> {
        let mut nics = devices.iter().filter(|(_, d)| d.get("type").is_some_and(|t| t == "nic"));
        let (device, nic) = nics.next()?;
        let named = nic.get("name").map_or(device.as_str(), String::as_str);
        if nics.next().is_some() || named != "eth0" {
            return None;
        }
        let network = nic.get("network")?;
        let (bridge, lowlevel) = tokio::join!(self.bridge(network, avoid.is_empty()), async {
            lowlevel || self.lowlevel_allowed().await
        });
        let Bridge { gateway, prefix, mut taken } = bridge?;
        taken.extend(avoid);
        let mut claimed = self.claimed.lock().ok()?;
        taken.extend(claimed.iter());
        let address = pick(gateway, prefix, &taken, u128::from_ne_bytes(random()))?;
        claimed.insert(address);
        Some(Placement {
            address,
            device: device.clone(),
            nic: nic.clone(),
            prefix,
            gateway,
            lowlevel,
        })
    }

    /// Looks again at the bridges that were of use before, while something else is
    /// asked for.
    pub(crate) async fn look_ahead(&self) {
        let known: Vec<String> = self.bridges.lock().await.keys().cloned().collect();
        for network in known {
            let _ = self.bridge(&network, true).await;
        }
    }

    /// A bridge and the addresses that are taken on it. Creates at once share one
    /// look, if `recent` is good enough: the daemon goes through all its instances
    /// for it. `None` is a network on which addresses are not ours to choose.
    async fn bridge(&self, network: &str, recent: bool) -> Option<Bridge> {
        let mut looks = self.bridges.lock().await;
        if let Some((at, bridge)) = looks.get(network)
            && recent
            && at.elapsed() < RECENT
        {
            return bridge.clone();
        }
        let at = Path::new("/1.0/networks").seg(network);
        let (found, leases) =
            tokio::join!(self.api.get(at.clone()), self.api.get(at.seg("leases")));
        let bridge = (|| {
            let found: Network = found.and_then(|r| r.parse()).ok()?;
            let leases: Vec<Lease> = leases.and_then(|r| r.parse()).ok()?;
            let off = |key: &str| found.config.get(key).is_some_and(|v| v == "false");
            if !found.managed || found.r#type != "bridge" || off("ipv4.dhcp") {
                return None;
            }
            let (gateway, prefix) = found.config.get("ipv4.address")?.split_once('/')?;
            let (gateway, prefix) = (gateway.parse().ok()?, prefix.parse().ok()?);
            let taken = leases.iter().filter_map(|l| l.address.parse().ok()).collect();
            Some(Bridge { gateway, prefix, taken })
        })();
        looks.insert(network.to_owned(), (Instant::now(), bridge.clone()));
        bridge
    }

    /// Whether the project lets instances have `raw.lxc`.
    async fn lowlevel_allowed(&self) -> bool {
        #[derive(Deserialize)]
        struct Project {
            config: Keys,
        }
        let path = Path::new("/1.0/projects").seg(self.api.project_name());
        let reply = self.api.get(path).await;
        let Ok(project) = reply.and_then(|r| r.parse::<Project>()) else { return false };
        let is = |key: &str, value: &str| project.config.get(key).is_some_and(|v| v == value);
        !is("restricted", "true") || is("restricted.containers.lowlevel", "allow")
    }

    /// Ends a claim. An address that came into use is known as taken until the
    /// next look at its bridge shows it.
    pub(crate) async fn unclaim(&self, placement: Option<&Placement>, used: bool) {
        let Some(p) = placement else { return };
        if used
            && let Some(network) = p.nic.get("network")
            && let Some((_, Some(bridge))) = self.bridges.lock().await.get_mut(network)
        {
            bridge.taken.insert(p.address);
        }
        if let Ok(mut claimed) = self.claimed.lock() {
            claimed.remove(&p.address);
        }
    }
}

/// Whether an instance has an address that was put there through `raw.lxc`.
pub(crate) fn is_lowlevel(config: &Keys) -> bool {
    config.get("raw.lxc").is_some_and(|raw| raw.contains(LOWLEVEL))
}

/// Takes what an earlier placement put there out of an instance's keys.
pub(crate) fn clear(config: &mut Keys, devices: &mut Devices) {
    for nic in devices.values_mut().filter(|d| d.get("type").is_some_and(|t| t == "nic")) {
        for key in ["hwaddr", "ipv4.address", "ipv6.address"] {
            nic.remove(key);
        }
    }
    config.insert(format!("environment.{NETWORK_VARIABLE}"), String::new());
    if let Some(raw) = config.get_mut("raw.lxc") {
        let ours = |line: &&str| !line.trim_start().starts_with(LOWLEVEL);
        *raw = raw.lines().filter(ours).collect::<Vec<_>>().join("\n");
    }
}

impl Placement {
    /// Whether the interface has the address before the guest runs.
    pub fn in_force(&self) -> bool {
        self.lowlevel
    }

    /// Puts the address into a new instance's keys.
    pub fn apply(&self, dns: &[IpAddr], config: &mut Keys, devices: &mut Devices) {
        let mut nic = self.nic.clone();
        for key in ["hwaddr", "ipv6.address"] {
            nic.remove(key);
        }
        nic.insert("ipv4.address".into(), self.address.to_string());
        devices.insert(self.device.clone(), nic);
        let mut value = format!("{}/{} {}", self.address, self.prefix, self.gateway);
        let own = [IpAddr::V4(self.gateway)];
        for server in if dns.is_empty() { &own[..] } else { dns } {
            value.push_str(&format!(" {server}"));
        }
        config.insert(format!("environment.{NETWORK_VARIABLE}"), value);
        if self.lowlevel {
            let raw = config.entry("raw.lxc".into()).or_default();
            if !raw.is_empty() {
                raw.push('\n');
            }
            raw.push_str(&format!(
                "lxc.net.0.ipv4.address = {}/{}\nlxc.net.0.ipv4.gateway = {}",
                self.address, self.prefix, self.gateway
            ));
        }
    }
}

/// A free host address of the gateway's subnet, the first one from a random
/// place on: two processes that choose at once seldom choose the same.
fn pick(
    gateway: Ipv4Addr,
    prefix: u8,
    taken: &BTreeSet<Ipv4Addr>,
    random: u128,
) -> Option<Ipv4Addr> {
    let bits = 32u32.checked_sub(prefix.into()).filter(|b| (2..=24).contains(b))?;
    let mask = u32::MAX << bits;
    let net = u32::from(gateway) & mask;
    let hosts = (1u32 << bits) - 2;
    let start = u32::try_from(random % u128::from(hosts)).ok()?;
    (0..hosts)
        .map(|i| Ipv4Addr::from(net + 1 + (start + i) % hosts))
        .find(|a| *a != gateway && !taken.contains(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_stay_in_the_subnet_and_are_free() {
        let gateway: Ipv4Addr = "10.0.0.1".parse().unwrap();
        let mut taken = BTreeSet::new();
        for random in 0..253 {
            let a = pick(gateway, 24, &taken, random * 7919).unwrap();
            assert!(a.octets()[..3] == [10, 0, 0] && !matches!(a.octets()[3], 0 | 1 | 255), "{a}");
            assert!(taken.insert(a));
        }
        assert_eq!(pick(gateway, 24, &taken, 5), None, "a full subnet has none");
        assert_eq!(pick(gateway, 31, &BTreeSet::new(), 5), None);
    }

    #[test]
    fn clearing_keeps_what_is_not_ours() {
        let raw = "lxc.mount.auto = x\nlxc.net.0.ipv4.address = 1.2.3.4/24".to_owned();
        let mut config = Keys::from([("raw.lxc".to_owned(), raw)]);
        clear(&mut config, &mut Devices::new());
        assert_eq!(config["raw.lxc"], "lxc.mount.auto = x");
    }
}
