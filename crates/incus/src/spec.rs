//! What a new instance is asked to be: config keys, devices, source.

use pixels_core::{CreateOpts, Error, Meta, Result, What};
use serde_json::{Value, json};

use crate::Incus;
use crate::api::Path;
use crate::model::{Devices, Keys, key};
use crate::settings::{Config, Nic};

/// The keys that harden a pixel and bound it.
pub(crate) fn base_config(config: &Config, cpu: Option<&str>, memory: Option<u64>) -> Keys {
    let mut keys = Keys::new();
    let mut set = |key: &str, value: String| keys.insert(key.to_owned(), value);
    if config.disable_guestapi {
        set("security.guestapi", "false".into());
    }
    if config.isolate_idmap {
        set("security.idmap.isolated", "true".into());
    }
    if config.processes > 0 {
        set("limits.processes", config.processes.to_string());
    }
    if let Some(memory) = memory {
        set("limits.memory", memory.to_string());
        let enforce = if config.hard_memory_limit { "hard" } else { "soft" };
        set("limits.memory.enforce", enforce.into());
    }
    if let Some(cpu) = cpu {
        set("limits.cpu", cpu.into());
    }
    keys
}

/// The keys that hold what pixels remembers.
pub(crate) fn meta_config(meta: &Meta, keys: &mut Keys) {
    keys.insert(key::EGRESS.into(), meta.egress.to_string());
    let mut put = |key: &str, value: Option<String>| {
        // An empty value and none are the same to Incus; in a clone it covers the source's.
        keys.insert(key.into(), value.unwrap_or_default());
    };
    put(key::EXPIRES, meta.expires_at.map(|t| t.to_string()));
    put(key::ORIGIN, meta.origin.clone());
    put(key::OWNER, meta.owner.clone());
}

/// The NIC that the configuration asks for; `None` leaves the profile's.
pub(crate) fn nic(config: &Config) -> Option<Keys> {
    let pairs: Vec<(&str, &str)> = match &config.nic {
        Nic::Profile => return None,
        Nic::Network(network) => vec![("network", network)],
        Nic::Parent(kind, parent) => vec![("nictype", kind), ("parent", parent)],
    };
    let fixed = [("type", "nic"), ("name", "eth0")];
    Some(fixed.into_iter().chain(pairs).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

impl Incus {
    /// The devices of a new pixel, checked against what exists: those of its
    /// own, and those with the default profile's beneath.
    pub(crate) async fn devices(&self, disk: Option<u64>) -> Result<(Devices, Devices)> {
        let pool = self.config.pool.as_deref();
        let own_nic = nic(&self.config);
        let network = own_nic.as_ref().and_then(|n| n.get("network"));
        let (profile, (), ()) = tokio::try_join!(
            self.profile_devices(),
            self.check_if(What::Pool, "/1.0/storage-pools", pool),
            self.check_if(What::Network, "/1.0/networks", network.map(String::as_str)),
        )?;
        let mut devices = Devices::new();
        let mut root = profile.values().find(|d| d.get("path").is_some_and(|p| p == "/")).cloned();
        if let Some(pool) = pool {
            let fresh = [("type", "disk"), ("path", "/"), ("pool", pool)];
            root = Some(fresh.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        }
        let mut root = root.ok_or_else(|| {
            Error::not_found(What::Pool, "of the default profile")
                .with_hint("set [defaults] pool: the default profile has no root disk")
        })?;
        if let Some(disk) = disk {
            root.insert("size".into(), disk.to_string());
        }
        if disk.is_some() || pool.is_some() {
            devices.insert("root".into(), root);
        }
        devices.extend(own_nic.map(|nic| ("eth0".to_owned(), nic)));
        let mut all = profile;
        all.extend(devices.clone());
        Ok((devices, all))
    }

    async fn profile_devices(&self) -> Result<Devices> {
        #[derive(serde::Deserialize)]
        struct Profile {
            devices: Devices,
        }
        match self.api.get(Path::new("/1.0/profiles/default")).await {
            Ok(reply) => Ok(reply.parse::<Profile>().map_err(|f| f.during("create"))?.devices),
            Err(fault) => {
                if fault.status() == Some(404) {
                    self.check_project().await?;
                }
                Err(fault.during("read the default profile"))
            }
        }
    }

    async fn check_if(&self, what: What, list: &str, name: Option<&str>) -> Result<()> {
        match name {
            Some(name) => self.check(what, list, name).await,
            None => Ok(()),
        }
    }

    /// That something a pixel is to use exists, before anything is made.
    pub(crate) async fn check(&self, what: What, list: &str, name: &str) -> Result<()> {
        let reply = self.api.get(Path::new(list).seg(name)).await;
        reply.map(drop).map_err(|f| f.about(what, name, "create"))
    }

    /// Where the image comes from. `local:x` is an image of the daemon,
    /// `images:x` one of the image server; a bare name is the daemon's own
    /// where it has it, else the image server's.
    pub(crate) async fn image_source(&self, opts: &CreateOpts) -> Result<Value> {
        let image = opts.image.as_deref().unwrap_or(&self.config.image);
        if image.is_empty() || image.contains(char::is_control) || image.len() > 255 {
            return Err(Error::invalid(
                "image",
                image,
                "an image is an alias such as ubuntu/24.04, local:<alias>, images:<alias> or a fingerprint",
            ));
        }
        if let Some(alias) = image.strip_prefix("images:") {
            return Ok(self.server_source(alias));
        }
        let (alias, only_local) = match image.strip_prefix("local:") {
            Some(alias) => (alias, true),
            None => (image, false),
        };
        let path = Path::new("/1.0/images/aliases").seg(alias);
        match self.api.get(path).await {
            Ok(_) => Ok(json!({"type": "image", "alias": alias})),
            Err(fault) if fault.status() == Some(404) => {
                self.check_project().await?;
                if alias.len() >= 12 && alias.bytes().all(|b| b.is_ascii_hexdigit()) {
                    let path = Path::new("/1.0/images").seg(alias);
                    if self.api.get(path).await.is_ok() {
                        return Ok(json!({"type": "image", "fingerprint": alias}));
                    }
                }
                if only_local {
                    return Err(Error::not_found(What::Image, image));
                }
                Ok(self.server_source(alias))
            }
            Err(fault) => Err(fault.during("look the image up")),
        }
    }

    fn server_source(&self, alias: &str) -> Value {
        let mut source = json!({
            "type": "image", "mode": "pull", "protocol": "simplestreams",
            "server": self.config.image_server, "alias": alias,
        });
        if let Some(ca) = &self.config.image_server_ca {
            source["certificate"] = json!(ca);
        }
        source
    }
}
