//! What works and what does not, between us and the daemon.

use std::collections::BTreeMap;

use pixels_core::{Error, Finding, Level, What, text};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::{Fault, Path};
use crate::model::{Devices, Keys};
use crate::{Incus, spec};

#[derive(Deserialize)]
struct Server {
    auth: String,
    #[serde(default)]
    api_extensions: Vec<String>,
    #[serde(default)]
    environment: Environment,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Environment {
    server_version: String,
    kernel_version: String,
    architectures: Vec<String>,
    server_clustered: bool,
}

#[derive(Deserialize)]
struct Pool {
    name: String,
    driver: String,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    config: Keys,
    #[serde(default)]
    devices: Devices,
}

#[derive(Deserialize)]
struct Member {
    server_name: String,
    status: String,
}

/// API extensions that this backend cannot do without, and for what.
const NEEDED: [(&str, &str); 3] = [
    ("instances", "pixels"),
    ("container_exec_signal_handling", "signals"),
    ("instance_create_start", "one-request clones"),
];

fn failed(fault: Fault) -> Finding {
    let error = fault.during("incus");
    let finding = Finding::new(Level::Fail, "daemon", error.to_string());
    match error.hint() {
        Some(hint) => finding.with_hint(hint),
        None => finding,
    }
}

impl Incus {
    /// Everything that can be asked, in the order in which a person would.
    pub(crate) async fn findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let server: Server = match self.ask(Path::new("/1.0")).await {
            Ok(server) => server,
            Err(fail) => {
                found.push(fail);
                return found;
            }
        };
        let env = &server.environment;
        found.push(Finding::new(
            Level::Ok,
            "daemon",
            format!(
                "incus {} on linux {}",
                text::clean_short(&env.server_version, 40),
                text::clean_short(&env.kernel_version, 60)
            ),
        ));
        if server.auth != "trusted" {
            found.push(Finding::new(Level::Fail, "trust", "the daemon does not trust this client").with_hint(
                "ask its owner for a token (incus config trust add <name>) and run pixels remote trust <token>",
            ));
            return found;
        }
        found.push(Finding::new(Level::Ok, "trust", "the daemon trusts this client"));
        for (extension, purpose) in NEEDED {
            if !server.api_extensions.iter().any(|e| e == extension) {
                found.push(
                    Finding::new(
                        Level::Fail,
                        "api",
                        format!("it lacks {extension}, needed for {purpose}"),
                    )
                    .with_hint("use incus 6.0 or later"),
                );
            }
        }
        let ours = std::env::consts::ARCH;
        if !env.architectures.iter().any(|a| a == ours) {
            found.push(
                Finding::new(Level::Warn, "guest helper", format!("built for {ours}, the host is {}", env.architectures.join(", ")))
                    .with_hint("build pixels-guest for it and set PIXELS_INCUS_GUEST_BINARY; else exec is plain"),
            );
        }
        found.push(self.project_finding().await);
        found.extend(self.pool_findings().await);
        found.push(self.profile_finding().await);
        if env.server_clustered {
            found.extend(self.member_findings().await);
        }
        found
    }

    async fn ask<T: DeserializeOwned>(&self, path: Path) -> Result<T, Finding> {
        let reply = self.api.get(path).await;
        reply.and_then(|r| r.parse()).map_err(failed)
    }

    /// The pool that new pixels go to.
    async fn pool_in_use(&self) -> Option<Pool> {
        let name = match &self.config.pool {
            Some(pool) => pool.clone(),
            None => {
                let profile: Config = self.ask(Path::new("/1.0/profiles/default")).await.ok()?;
                let is_root = |d: &&Keys| d.get("path").is_some_and(|p| p == "/");
                profile.devices.values().find(is_root)?.get("pool")?.clone()
            }
        };
        self.ask(Path::new("/1.0/storage-pools").seg(&name)).await.ok()
    }

    async fn project_finding(&self) -> Finding {
        let name = self.api.project.as_deref().unwrap_or("default");
        match self.ask::<Config>(Path::new("/1.0/projects").seg(name)).await {
            Ok(project) if project.config.get("restricted").is_some_and(|r| r == "true") => {
                Finding::new(
                    Level::Ok,
                    "project",
                    format!("{name}, restricted: addresses come by dhcp"),
                )
            }
            Ok(_) => Finding::new(Level::Ok, "project", name),
            Err(mut finding) => {
                finding.check = "project".into();
                finding.with_hint("set [incus] project to one of `incus project list`")
            }
        }
    }

    async fn pool_findings(&self) -> Vec<Finding> {
        let path = Path::new("/1.0/storage-pools").query("recursion", "1");
        let pools: Vec<Pool> = match self.api.get(path).await.and_then(|r| r.parse()) {
            Ok(pools) => pools,
            // A client of certain projects may not list pools, only look at one.
            Err(Fault::Api { .. }) => match self.pool_in_use().await {
                Some(pool) => vec![pool],
                None => return Vec::new(),
            },
            Err(fault) => return vec![failed(fault)],
        };
        if pools.is_empty() {
            return vec![
                Finding::new(Level::Fail, "storage", "the daemon has no storage pool")
                    .with_hint("incus storage create default btrfs"),
            ];
        }
        let wanted = |p: &&Pool| self.config.pool.as_ref().is_none_or(|w| *w == p.name);
        if let (Some(name), None) = (&self.config.pool, pools.iter().find(wanted)) {
            let error = Error::not_found(What::Pool, name);
            let missing = Finding::new(Level::Fail, "storage", error.to_string());
            return vec![missing.with_hint(spec::POOLS)];
        }
        let mut found = Vec::new();
        for pool in pools.iter().filter(wanted) {
            found.push(pool_finding(pool));
            if pool.driver == "btrfs" && self.sizes_known(&pool.name).await == Some(false) {
                found.push(
                    Finding::new(
                        Level::Warn,
                        "storage",
                        format!(
                            "sizes of checkpoints are unknown: quotas are off on pool {}",
                            pool.name
                        ),
                    )
                    .with_hint(
                        "btrfs quota enable <where the pool is mounted>, on the daemon's host; \
                         the first pixel with a disk size (--disk, or [defaults] disk) does the same",
                    ),
                );
            }
        }
        found
    }

    /// Whether the pool counts what its volumes hold. A pool does not say; a
    /// volume of it has no usage where it does not. `None` without any volume.
    async fn sizes_known(&self, pool: &str) -> Option<bool> {
        #[derive(Deserialize)]
        struct Volume {
            name: String,
        }
        #[derive(Deserialize)]
        struct State {
            #[serde(default)]
            usage: Option<Usage>,
        }
        #[derive(Deserialize)]
        struct Usage {
            #[serde(default)]
            used: u64,
        }
        let path = Path::new("/1.0/storage-pools").seg(pool).seg("volumes").seg("container");
        let volumes: Vec<Volume> = self.ask(path.clone().query("recursion", "1")).await.ok()?;
        // Snapshots are in the list too, as `volume/snapshot`.
        let first = volumes.iter().find(|v| !v.name.contains('/'))?;
        let state: State = self.ask(path.seg(&first.name).seg("state")).await.ok()?;
        Some(state.usage.is_some_and(|u| u.used > 0))
    }

    async fn profile_finding(&self) -> Finding {
        let profile: Config = match self.ask(Path::new("/1.0/profiles/default")).await {
            Ok(profile) => profile,
            Err(finding) => return finding,
        };
        let has =
            |kind: &str| profile.devices.values().any(|d| d.get("type").is_some_and(|t| t == kind));
        let lacks: BTreeMap<&str, &str> = [
            ("disk", "set [defaults] pool, or incus profile device add default root disk path=/ pool=<pool>"),
            ("nic", "set [defaults] network, or incus profile device add default eth0 nic network=<network>"),
        ]
        .into_iter()
        .filter(|(kind, _)| !has(kind))
        .filter(|(kind, _)| match *kind {
            "disk" => self.config.pool.is_none(),
            _ => spec::nic(&self.config).is_none(),
        })
        .collect();
        match lacks.into_iter().next() {
            None => {
                Finding::new(Level::Ok, "profile", "the default profile has a root disk and a nic")
            }
            Some(("disk", hint)) => {
                Finding::new(Level::Fail, "profile", "the default profile has no root disk")
                    .with_hint(hint)
            }
            Some((_, hint)) => Finding::new(
                Level::Warn,
                "profile",
                "the default profile has no nic: pixels have no network",
            )
            .with_hint(hint),
        }
    }

    async fn member_findings(&self) -> Vec<Finding> {
        let path = Path::new("/1.0/cluster/members").query("recursion", "1");
        match self.ask::<Vec<Member>>(path).await {
            Ok(members) => members
                .iter()
                .map(|m| {
                    let level = if m.status == "Online" { Level::Ok } else { Level::Warn };
                    Finding::new(
                        level,
                        "cluster",
                        format!("member {} is {}", m.server_name, m.status.to_lowercase()),
                    )
                })
                .collect(),
            Err(finding) => vec![finding],
        }
    }
}

fn pool_finding(pool: &Pool) -> Finding {
    let detail = format!("pool {} ({}, {})", pool.name, pool.driver, pool.status.to_lowercase());
    match pool.driver.as_str() {
        "dir" => Finding::new(
            Level::Warn,
            "storage",
            format!("{detail}: checkpoints and clones copy every byte, 6 to 40 times slower"),
        )
        .with_hint("incus storage create fast btrfs, and set [defaults] pool = \"fast\""),
        "zfs" => Finding::new(
            Level::Ok,
            "storage",
            format!("{detail}: restoring past newer checkpoints is refused"),
        ),
        _ => Finding::new(Level::Ok, "storage", detail),
    }
}
