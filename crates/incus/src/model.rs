//! Instances and snapshots as the daemon writes them, and what they are to us.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use pixels_core::{EgressMode, Instance, Label, Limits, Meta, Name, Snapshot, Status, size};
use serde::{Deserialize, Deserializer};

/// Config keys and devices as the API has them.
pub(crate) type Keys = BTreeMap<String, String>;
/// Devices by name.
pub(crate) type Devices = BTreeMap<String, Keys>;

/// Keys of a pixel's metadata. There is no other store.
pub(crate) mod key {
    /// The pixel's id: random, of the create that made it.
    pub const ID: &str = "user.pixels.id";
    /// Present while it is being made: `<boot id>/<pid>/<start time>` of the maker.
    pub const MAKING: &str = "user.pixels.making";
    /// As [`MAKING`], of a clone. One request makes it whole, so nothing takes this
    /// away again: it counts only until the clone has been started once.
    pub const CLONING: &str = "user.pixels.cloning";
    /// The daemon's own: whether it ran when it was last looked at. Absent until
    /// the first start; never copied.
    pub const POWER: &str = "volatile.last_state.power";
    /// `1` where the guest renews its own identity at boot.
    pub const BOOT_UNIT: &str = "user.pixels.boot-unit";
    /// When it may be destroyed, RFC 3339.
    pub const EXPIRES: &str = "user.pixels.expires-at";
    /// The egress mode.
    pub const EGRESS: &str = "user.pixels.egress";
    /// The image or `pixel:label` it was made from.
    pub const ORIGIN: &str = "user.pixels.origin";
    /// Who asked for it.
    pub const OWNER: &str = "user.pixels.owner";
    /// The identity token in PID 1's environment; see the guest's `identity` face.
    pub const IDENTITY: &str = "environment.PIXELS_IDENTITY";
}

/// An instance, with its state where it was asked for.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Raw {
    pub name: String,
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub location: String,
    #[serde(default, deserialize_with = "nullable")]
    pub profiles: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub config: Keys,
    #[serde(default, deserialize_with = "nullable")]
    pub expanded_config: Keys,
    #[serde(default, deserialize_with = "nullable")]
    pub devices: Devices,
    #[serde(default, deserialize_with = "nullable")]
    pub expanded_devices: Devices,
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    #[serde(default)]
    pub state: Option<State>,
}

/// The part of an instance's state that we read.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct State {
    #[serde(default)]
    pub network: Option<BTreeMap<String, Interface>>,
}

/// One interface of an instance.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Interface {
    #[serde(default, deserialize_with = "nullable")]
    pub addresses: Vec<Address>,
}

/// One address of an interface.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Address {
    pub address: String,
    pub scope: String,
}

/// A snapshot.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RawSnapshot {
    pub name: String,
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    #[serde(default)]
    pub size: i64,
}

/// An instance on its way in or out has null where others have a map.
fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Raw {
    /// Whether commands can be run in it.
    pub fn status(&self) -> Status {
        status(&self.status)
    }

    /// The value of a metadata key.
    pub fn meta_key(&self, key: &str) -> Option<&str> {
        self.config.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Whether it has been started once: a clone is whole from then on.
    pub fn was_started(&self) -> bool {
        self.status().is_running() || self.meta_key(key::POWER).is_some()
    }

    /// Whether somebody is making it, or was.
    pub fn is_half_made(&self) -> bool {
        self.meta_key(key::MAKING).is_some()
            || (!self.was_started() && self.meta_key(key::CLONING).is_some())
    }

    /// Whether it has a NIC at all.
    pub fn has_nic(&self) -> bool {
        self.expanded_devices.values().any(|d| d.get("type").is_some_and(|t| t == "nic"))
    }

    /// The pixel; `None` if the instance is none of ours.
    pub fn instance(&self) -> Option<Instance> {
        let name = Name::from_instance(&self.name)?;
        let limit = |key: &str| self.expanded_config.get(key).filter(|v| !v.is_empty());
        let root = self.expanded_devices.values().find(|d| d.get("path").is_some_and(|p| p == "/"));
        Some(Instance {
            name,
            status: self.status(),
            addresses: self.addresses(),
            created_at: self.created_at.filter(|t| *t > Timestamp::UNIX_EPOCH),
            location: Some(self.location.clone()).filter(|l| !l.is_empty() && l != "none"),
            limits: Limits {
                cpu: limit("limits.cpu").cloned(),
                memory: limit("limits.memory").and_then(|m| bytes(m)),
                disk: root.and_then(|d| d.get("size")).and_then(|s| bytes(s)),
            },
            meta: Meta {
                expires_at: self.meta_key(key::EXPIRES).and_then(|t| t.parse().ok()),
                egress: self
                    .meta_key(key::EGRESS)
                    .and_then(|m| m.parse().ok())
                    .unwrap_or(EgressMode::Unrestricted),
                origin: self.meta_key(key::ORIGIN).map(str::to_owned),
                owner: self.meta_key(key::OWNER).map(str::to_owned),
            },
        })
    }

    /// Global addresses, IPv4 first. The one a NIC is pinned to is a running
    /// pixel's from the start, also before the guest has taken it.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut found: Vec<IpAddr> = self
            .state
            .iter()
            .flat_map(|s| s.network.iter().flatten())
            .filter(|(name, _)| *name != "lo")
            .flat_map(|(_, i)| &i.addresses)
            .filter(|a| a.scope == "global")
            .filter_map(|a| a.address.parse().ok())
            .collect();
        let pinned = self.status().is_running().then_some(&self.expanded_devices);
        found.extend(
            pinned
                .into_iter()
                .flatten()
                .map(|(_, device)| device)
                .filter_map(|d| d.get("ipv4.address"))
                .filter_map(|a| a.parse::<IpAddr>().ok()),
        );
        found.sort_by_key(IpAddr::is_ipv6);
        let mut seen = BTreeSet::new();
        found.retain(|a| seen.insert(*a));
        found
    }
}

impl RawSnapshot {
    /// The checkpoint; `None` for one whose name cannot be a label (nothing of ours).
    pub fn snapshot(&self) -> Option<Snapshot> {
        // The name may come as `instance/label`.
        let label = self.name.rsplit('/').next().unwrap_or_default();
        Some(Snapshot {
            label: Label::new(label).ok()?,
            size: u64::try_from(self.size).ok(),
            created_at: self.created_at.filter(|t| *t > Timestamp::UNIX_EPOCH),
        })
    }
}

fn status(raw: &str) -> Status {
    match raw {
        "Running" => Status::Running,
        "Stopped" => Status::Stopped,
        "Frozen" | "Freezing" | "Thawed" => Status::Frozen,
        "Starting" => Status::Starting,
        "Stopping" | "Aborting" => Status::Stopping,
        "Error" => Status::Error,
        _ => Status::Unknown,
    }
}

/// Incus sizes: a number of bytes or one with a suffix. Percentages are none.
fn bytes(raw: &str) -> Option<u64> {
    size::parse("size", raw, 1).ok()
}
