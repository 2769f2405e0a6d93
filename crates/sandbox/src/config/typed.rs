//! The configuration's sections as types.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use pixels_core::EgressMode;

use super::bases::Base;
use super::keys;
use super::layers::Layers;
use super::value::Value;
use super::{Config, Environ, Secret};

/// `[truenas]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Truenas {
    /// The server.
    pub host: Option<String>,
    /// Its port.
    pub port: u16,
    /// The user.
    pub username: String,
    /// The API key.
    pub api_key: Option<Secret>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}

/// `[incus]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incus {
    /// The daemon's socket.
    pub socket: Option<PathBuf>,
    /// The remote daemon, `https://…`.
    pub remote: Option<String>,
    /// Our certificate.
    pub client_cert: Option<PathBuf>,
    /// Its key.
    pub client_key: Option<PathBuf>,
    /// The remote's certificate or its CA.
    pub server_cert: Option<PathBuf>,
    /// The project.
    pub project: Option<String>,
    /// The image server.
    pub image_server: String,
    /// Its CA.
    pub image_server_ca: Option<PathBuf>,
    /// The guest helper that replaces the built-in one.
    pub guest_binary: Option<PathBuf>,
    /// `[incus.hardening]`.
    pub hardening: Hardening,
}

/// `[incus.hardening]`: each on unless turned off.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hardening {
    /// Uids of its own for every pixel.
    pub isolate_idmap: bool,
    /// No guest API.
    pub disable_guestapi: bool,
    /// The most processes; 0 is no limit.
    pub limit_processes: u64,
    /// A hard limit on memory.
    pub hard_memory_limit: bool,
}

/// `[local]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Local {
    /// Where images and pixels are kept; `None` is the backend's own place.
    pub root: Option<PathBuf>,
    /// Where pixels' addresses come from.
    pub subnet: String,
    /// Whether setuid programs gain nothing.
    pub no_new_privs: bool,
}

/// `[defaults]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Defaults {
    /// The image.
    pub image: String,
    /// CPUs.
    pub cpu: String,
    /// Memory in bytes.
    pub memory: u64,
    /// Root disk in bytes.
    pub disk: Option<u64>,
    /// The root disk's pool.
    pub pool: Option<String>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// The managed network.
    pub network: Option<String>,
    /// The kind of NIC.
    pub nic_type: Option<String>,
    /// The NIC's parent.
    pub parent: Option<String>,
}

/// `[ssh]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ssh {
    /// The user commands run as.
    pub user: String,
    /// The private key.
    pub key: Option<PathBuf>,
    /// Refuse changed host keys.
    pub strict_host_keys: bool,
}

/// `[checkpoint]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Where pixels' datasets are on TrueNAS.
    pub dataset_prefix: Option<String>,
}

/// Which tools are installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Devtools {
    /// All of them.
    All,
    /// None.
    None,
    /// These.
    Some(Vec<String>),
}

/// `[provision]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Provision {
    /// At all.
    pub enabled: bool,
    /// The tools.
    pub devtools: Devtools,
    /// CA certificates.
    pub ca_certs: Vec<PathBuf>,
    /// A script.
    pub script: Option<PathBuf>,
}

/// `[network]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Network {
    /// The mode of pixels made from images.
    pub egress: EgressMode,
    /// Further domains.
    pub allow: Vec<String>,
    /// Upstream name servers of the egress process.
    pub resolvers: Vec<IpAddr>,
}

/// `[mcp]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Mcp {
    /// How its pixels' names begin.
    pub prefix: String,
    /// How bases' names begin.
    pub base_prefix: String,
    /// Its pixels' image; `None` is [`Defaults::image`].
    pub default_image: Option<String>,
    /// Where it listens.
    pub listen_addr: SocketAddr,
    /// Its endpoint's path.
    pub endpoint_path: String,
    /// When idle pixels are stopped.
    pub idle_stop_after: Duration,
    /// When old pixels are destroyed.
    pub hard_destroy_after: Duration,
    /// How often it looks.
    pub reap_interval: Duration,
    /// The longest timeout of a command.
    pub exec_timeout_max: Duration,
    /// Its state; `None` where no home directory is known.
    pub state_file: Option<PathBuf>,
    /// Its lock; `None` where no home directory is known.
    pub pid_file: Option<PathBuf>,
    /// `[mcp.bases.*]`, by name.
    pub bases: Vec<Base>,
}

/// Reads values that were checked when they were laid down. A kind in the table
/// that does not fit the field here gives the type's zero; the test of the
/// defaults sees that.
struct Reader<'a>(&'a Layers);

impl Reader<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        keys::index(key).and_then(|at| self.0.values[at].0.as_ref())
    }
    fn text(&self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
    fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Value::Bool(true)))
    }
    fn path(&self, key: &str) -> Option<PathBuf> {
        match self.get(key)? {
            Value::Path(path) => Some(path.clone()),
            _ => None,
        }
    }
    fn number(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Count(n) | Value::Size(n) => Some(*n),
            _ => None,
        }
    }
    fn duration(&self, key: &str) -> Duration {
        match self.get(key) {
            Some(Value::Duration(d)) => *d,
            _ => Duration::ZERO,
        }
    }
    fn list(&self, key: &str) -> Vec<String> {
        match self.get(key) {
            Some(Value::List(items)) => items.clone(),
            _ => Vec::new(),
        }
    }
    fn addresses(&self, key: &str) -> Vec<IpAddr> {
        self.list(key).iter().filter_map(|a| a.parse().ok()).collect()
    }
}

impl Config {
    pub(super) fn build(mut layers: Layers, environ: Environ, file: Option<PathBuf>) -> Self {
        let mut bases = std::mem::take(&mut layers.bases);
        bases.sort_by(|a, b| a.name.cmp(&b.name));
        let mut vars = std::mem::take(&mut layers.vars);
        vars.sort_by(|a, b| a.name.cmp(&b.name));
        let r = Reader(&layers);
        let text = |key| r.text(key).unwrap_or_default();
        Self {
            backend: r.text("backend"),
            truenas: Truenas {
                host: r.text("truenas.host"),
                port: r.number("truenas.port").and_then(|n| n.try_into().ok()).unwrap_or(443),
                username: text("truenas.username"),
                api_key: r.text("truenas.api_key").map(Secret::new),
                insecure_skip_verify: r.flag("truenas.insecure_skip_verify"),
            },
            incus: Incus {
                socket: r.path("incus.socket"),
                remote: r.text("incus.remote"),
                client_cert: r.path("incus.client_cert"),
                client_key: r.path("incus.client_key"),
                server_cert: r.path("incus.server_cert"),
                project: r.text("incus.project"),
                image_server: text("incus.image_server"),
                image_server_ca: r.path("incus.image_server_ca"),
                guest_binary: r.path("incus.guest_binary"),
                hardening: Hardening {
                    isolate_idmap: r.flag("incus.hardening.isolate_idmap"),
                    disable_guestapi: r.flag("incus.hardening.disable_guestapi"),
                    limit_processes: r.number("incus.hardening.limit_processes").unwrap_or(0),
                    hard_memory_limit: r.flag("incus.hardening.hard_memory_limit"),
                },
            },
            local: Local {
                root: r.path("local.root"),
                subnet: text("local.subnet"),
                no_new_privs: r.flag("local.no_new_privs"),
            },
            defaults: Defaults {
                image: text("defaults.image"),
                cpu: text("defaults.cpu"),
                memory: r.number("defaults.memory").unwrap_or(0),
                disk: r.number("defaults.disk"),
                pool: r.text("defaults.pool"),
                dns: r.addresses("defaults.dns"),
                network: r.text("defaults.network"),
                nic_type: r.text("defaults.nic_type"),
                parent: r.text("defaults.parent"),
            },
            ssh: Ssh {
                user: text("ssh.user"),
                key: r.path("ssh.key"),
                strict_host_keys: r.flag("ssh.strict_host_keys"),
            },
            checkpoint: Checkpoint { dataset_prefix: r.text("checkpoint.dataset_prefix") },
            provision: Provision {
                enabled: r.flag("provision.enabled"),
                devtools: match r.get("provision.devtools") {
                    Some(Value::List(tools)) => Devtools::Some(tools.clone()),
                    Some(Value::Bool(false)) => Devtools::None,
                    _ => Devtools::All,
                },
                ca_certs: match r.get("provision.ca_certs") {
                    Some(Value::Paths(paths)) => paths.clone(),
                    _ => Vec::new(),
                },
                script: r.path("provision.script"),
            },
            network: Network {
                egress: match r.get("network.egress") {
                    Some(Value::Egress(mode)) => *mode,
                    _ => EgressMode::default(),
                },
                allow: r.list("network.allow"),
                resolvers: r.addresses("network.resolvers"),
            },
            mcp: Mcp {
                prefix: text("mcp.prefix"),
                base_prefix: text("mcp.base_prefix"),
                default_image: r.text("mcp.default_image"),
                listen_addr: match r.get("mcp.listen_addr") {
                    Some(Value::Listen(addr)) => *addr,
                    _ => SocketAddr::from(([127, 0, 0, 1], 0)),
                },
                endpoint_path: text("mcp.endpoint_path"),
                idle_stop_after: r.duration("mcp.idle_stop_after"),
                hard_destroy_after: r.duration("mcp.hard_destroy_after"),
                reap_interval: r.duration("mcp.reap_interval"),
                exec_timeout_max: r.duration("mcp.exec_timeout_max"),
                state_file: r.path("mcp.state_file"),
                pid_file: r.path("mcp.pid_file"),
                bases,
            },
            vars,
            environ,
            file,
            layers,
        }
    }
}
