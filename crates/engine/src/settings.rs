//! What the backend is told, checked.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use pixels_core::{Error, Result, Settings};

/// Processes a pixel may have unless configured otherwise.
const PROCESSES: u64 = 8192;

/// What the engine does better where it can and can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feature {
    /// Layers go to the overlay by descriptor (Linux 6.13).
    FdLayers,
    /// Layers are mapped to a pixel's ids when they are mounted (Linux 5.19).
    Idmap,
    /// Copies share content with their source (btrfs, xfs).
    Reflink,
    /// Layers are subvolumes (btrfs).
    Subvolumes,
    /// Control groups.
    Cgroups,
}

impl Feature {
    const ALL: [(&'static str, Self); 5] = [
        ("fd-layers", Self::FdLayers),
        ("idmap", Self::Idmap),
        ("reflink", Self::Reflink),
        ("subvolumes", Self::Subvolumes),
        ("cgroups", Self::Cgroups),
    ];
}

/// The settings, parsed.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where everything is kept.
    pub(crate) root: PathBuf,
    /// The default image.
    pub(crate) image: String,
    /// The user that commands run as where the pixel has it.
    pub(crate) user: String,
    pub(crate) cpu: Option<String>,
    pub(crate) memory: Option<u64>,
    pub(crate) disk: Option<u64>,
    /// 0 is no limit.
    pub(crate) processes: u64,
    /// Name servers of pixels; none is the host's own.
    pub(crate) dns: Vec<IpAddr>,
    /// Whether pixels have an interface besides loopback.
    pub(crate) network: bool,
    /// Whether setuid programs gain nothing.
    pub(crate) no_new_privs: bool,
    /// What is not to be used although it could be.
    pub(crate) disabled: BTreeSet<Feature>,
}

impl Config {
    /// Reads the settings.
    pub(crate) fn parse(settings: &Settings) -> Result<Self> {
        let get = |key: &str| settings.get(key).map(String::as_str).filter(|v| !v.is_empty());
        let owned = |key: &str| get(key).map(str::to_owned);
        let network = match get("network") {
            None => true,
            Some("none") => false,
            Some(other) => {
                return Err(Error::invalid(
                    "network",
                    other,
                    "on the local backend a network is \"none\" or not set",
                ));
            }
        };
        let mut disabled = BTreeSet::new();
        for name in get("disable").unwrap_or_default().split(',').map(str::trim) {
            match Feature::ALL.iter().find(|(known, _)| *known == name) {
                Some((_, feature)) => drop(disabled.insert(*feature)),
                None if name.is_empty() => {}
                None => {
                    let known: Vec<_> = Feature::ALL.iter().map(|(name, _)| *name).collect();
                    let rule = format!("what can be disabled is: {}", known.join(", "));
                    return Err(Error::invalid("PIXELS_ENGINE_DISABLE", name, &rule));
                }
            }
        }
        Ok(Self {
            root: match get("root") {
                Some(root) => PathBuf::from(root),
                None => default_root()?,
            },
            image: owned("default_image").unwrap_or_else(|| "ubuntu/24.04".into()),
            user: owned("user").unwrap_or_else(|| "pixel".into()),
            cpu: owned("cpu"),
            memory: number(settings, "memory")?,
            disk: number(settings, "disk")?,
            processes: number(settings, "limit_processes")?.unwrap_or(PROCESSES),
            dns: addresses(settings)?,
            network,
            no_new_privs: get("no_new_privs") == Some("true"),
            disabled,
        })
    }

    /// Whether a feature may be used.
    pub(crate) fn may(&self, feature: Feature) -> bool {
        !self.disabled.contains(&feature)
    }
}

/// The machine's store for root, the user's own for everybody else.
fn default_root() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/pixels/engine".into());
    }
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").filter(|p| p.is_absolute());
    let home = set("HOME").map(|home| home.join(".local/share"));
    match data.or(home) {
        Some(dir) => Ok(dir.join("pixels/engine")),
        None => Err(Error::invalid("HOME", "", "the local backend keeps its pixels below it")),
    }
}

fn number(settings: &Settings, key: &str) -> Result<Option<u64>> {
    match settings.get(key).filter(|v| !v.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(Error::invalid(key, text, "it is a whole number")),
        },
    }
}

fn addresses(settings: &Settings) -> Result<Vec<IpAddr>> {
    let list = settings.get("dns").map(String::as_str).unwrap_or_default();
    list.split(',')
        .map(str::trim)
        .filter(|a| !a.is_empty())
        .map(|a| a.parse().map_err(|_| Error::invalid("dns", a, "a name server is an IP address")))
        .collect()
}
