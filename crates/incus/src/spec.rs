//! What a new instance is asked to be: config keys, devices, source.

use pixels_core::{CreateOpts, Error, Meta, Result, What};
use serde_json::{Value, json};

use crate::Incus;
use crate::api::Path;
use crate::lifecycle::MakeError;
use crate::model::{Devices, Keys, key};
use crate::settings::{Config, Nic};

/// The next step where a pool is missing.
pub(crate) const POOLS: &str = "set [defaults] pool to one of `incus storage list`";

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
        reply.map(drop).map_err(|fault| {
            let error = fault.about(what, name, "create");
            match (error.kind(), what) {
                (Error::NotFound { .. }, What::Pool) => error.with_hint(POOLS),
                (Error::NotFound { .. }, What::Network) => {
                    error.with_hint("set [defaults] network to one of `incus network list`")
                }
                _ => error,
            }
        })
    }

    /// Why a new instance does not start, where the configured parent of its
    /// NIC is why. It cannot be asked for before: another member of a cluster
    /// may have it.
    pub(crate) async fn start_error(&self, error: Error) -> Error {
        let Nic::Parent(_, parent) = &self.config.nic else { return error };
        if !matches!(error.kind(), Error::Backend { .. }) {
            return error;
        }
        match self.api.get(Path::new("/1.0/networks").seg(parent)).await {
            Err(fault) if fault.status() == Some(404) => Error::not_found(What::Network, parent)
                .with_hint("set [defaults] parent to an interface of the daemon's host"),
            _ => error,
        }
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

/// An image that the image server does not have, and a server that is not
/// reached, have no code: the text is that of the daemon's own client.
pub(crate) fn image_error(e: MakeError, image: &str, server: &str) -> Error {
    let MakeError::Other(fault) = &e else { return e.into() };
    let message = fault.message().to_owned();
    let lower = message.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if says(&["couldn't be found", "image not found", "couldn't find"]) {
        let who = match image.strip_prefix("images:") {
            Some(_) => format!("{server} does not have it"),
            None => format!("neither the daemon nor {server} has it"),
        };
        return Error::not_found(What::Image, image)
            .with_hint(format!("{who}: pixels image list shows what is at hand"));
    }
    let asked = format!("get \"{}", server.trim_end_matches('/').to_ascii_lowercase());
    // The third is what it is through another member of a cluster.
    if says(&[
        "failed getting remote image info",
        "failed remote image download",
        "failed parsing stream",
        &asked,
    ]) {
        let (reason, hint) = unreached(&lower).unwrap_or((&message, SERVER));
        tracing::debug!(message, "image server");
        let target = format!("image server {server}");
        return Error::Unreachable { target, reason: reason.to_owned() }.with_hint(hint);
    }
    e.into()
}

const SERVER: &str =
    "set [incus] image_server to one that the daemon reaches, or use an image that it has";
const SERVER_CA: &str = "set [incus] image_server_ca to the certificate of the server's CA";

/// Why an image server is not reached and what to do, from the daemon's words
/// in lower case.
fn unreached(lower: &str) -> Option<(&'static str, &'static str)> {
    [
        (
            "certificate signed by unknown authority",
            "its certificate is not signed by a CA that the daemon trusts",
            SERVER_CA,
        ),
        ("certificate has expired", "its certificate is not valid at this time", SERVER),
        ("failed to verify certificate", "its certificate is for another name", SERVER),
        ("connection refused", "connection refused", SERVER),
        ("no such host", "its name does not resolve", SERVER),
        ("server misbehaving", "its name does not resolve", SERVER),
        ("timeout", "it does not answer in time", SERVER),
        ("deadline exceeded", "it does not answer in time", SERVER),
    ]
    .into_iter()
    .find_map(|(text, reason, hint)| lower.contains(text).then_some((reason, hint)))
}
