//! Clones: one request that copies and starts.

use std::collections::BTreeSet;

use pixels_core::{CloneOpts, Error, Instance, Label, Meta, Name, Result, What};
use serde_json::{Value, json};

use crate::Incus;
use crate::address::{self, Placement};
use crate::lifecycle::{fresh_id, is_taken};
use crate::model::{Devices, Keys, Raw, key};
use crate::operation::Operation;
use crate::{maker, spec};

impl Incus {
    /// A copy of a checkpoint, or of the instance as it is: Incus copies a
    /// running one from a snapshot that its storage driver makes and removes
    /// itself, without stopping it and without one that anybody could see.
    pub(crate) async fn clone_instance(
        &self,
        source: &Name,
        label: Option<&Label>,
        name: &Name,
        opts: CloneOpts,
    ) -> Result<Instance> {
        let (from, home) = match label {
            Some(label) => {
                // A checkpoint does not say where it is: its pixel does.
                let both = tokio::join!(
                    self.snapshot_of(source, label),
                    self.raw(source, false),
                    self.look_ahead(),
                );
                let home = both.1?.location;
                (both.0?, home)
            }
            None => {
                let raw = self.raw(source, false).await?;
                let home = raw.location.clone();
                (raw, home)
            }
        };
        // Left to itself a cluster takes the member with the fewest instances,
        // and what would be a snapshot there becomes a copy over the network.
        let target = opts.target.clone().or_else(|| is_member(&home).then_some(home));
        let origin = label.map_or_else(|| source.to_string(), |l| format!("{source}:{l}"));
        let path =
            label.map_or_else(|| source.instance(), |l| format!("{}/{l}", source.instance()));
        // What the source has, its project allows.
        let lowlevel = address::is_lowlevel(&from.config);
        let mut avoid = BTreeSet::new();
        loop {
            let placed = self.place(&from.expanded_devices, &avoid, lowlevel).await;
            let made = self
                .clone_at(&from, &path, &origin, name, &opts, target.as_deref(), placed.as_ref())
                .await;
            self.unclaim(placed.as_ref(), made.is_ok()).await;
            match (made, placed) {
                (Err(e), Some(p)) if is_taken(&e, &p) && avoid.len() < address::TRIES => {
                    avoid.insert(p.address);
                    self.background.drain().await;
                }
                (made, _) => return made,
            }
        }
    }

    /// One try, with the address that was chosen.
    #[allow(clippy::too_many_arguments, reason = "what a clone is made from, as it was found")]
    async fn clone_at(
        &self,
        from: &Raw,
        path: &str,
        origin: &str,
        name: &Name,
        opts: &CloneOpts,
        target: Option<&str>,
        placed: Option<&Placement>,
    ) -> Result<Instance> {
        let id = fresh_id();
        let mut config = self.clone_config(from, opts, origin);
        config.insert(key::ID.into(), id.clone());
        config.insert(key::IDENTITY.into(), id.clone());
        let mut devices = from.devices.clone();
        if let Some(disk) = opts.limits.disk {
            let is_root = |d: &&Keys| d.get("path").is_some_and(|p| p == "/");
            let mut root =
                from.expanded_devices.values().find(is_root).cloned().unwrap_or_default();
            root.insert("size".into(), disk.to_string());
            devices.insert("root".into(), root);
        }
        // MAC and address are the source's own.
        address::clear(&mut config, &mut devices);
        if let Some(placed) = placed {
            placed.apply(&self.config.dns, &mut config, &mut devices);
        }
        let body = json!({
            "name": name.instance(), "start": true, "architecture": from.architecture,
            "profiles": from.profiles, "config": config, "devices": devices,
            "source": {"type": "copy", "source": path, "instance_only": true},
        });
        opts.progress.phase(format!("cloning {origin}"));
        let half = self.half_made(name, &id);
        let made = self.post_instance(&half, target, &body).await?;
        if from.meta_key(key::BOOT_UNIT).is_none() {
            opts.progress.phase("renewing its identity");
            self.renew_identity(name, &id).await?;
            let whole = json!({"config": {key::MAKING: ""}});
            let patched = self.api.patch(Self::at(name), &whole).await;
            patched.map_err(|f| f.about(What::Pixel, name.as_str(), "clone"))?;
        }
        // Where we chose the address everything is known. The daemon would look into
        // the guest for it, which is dear while that boots.
        let instance = if placed.is_some_and(Placement::in_force) {
            born(from, name, &body, &made)
        } else {
            self.raw(name, true).await?.instance()
        };
        let instance = instance.ok_or_else(|| Error::not_found(What::Pixel, name.as_str()))?;
        half.keep();
        Ok(instance)
    }

    async fn snapshot_of(&self, source: &Name, label: &Label) -> Result<Raw> {
        let path = Self::at(source).seg("snapshots").seg(label.as_str());
        match self.api.get(path).await {
            Ok(reply) => reply.parse().map_err(|f| f.during("read the checkpoint")),
            Err(fault) if fault.status() == Some(404) => {
                Err(Error::not_found(What::Checkpoint, format!("{source}:{label}")))
            }
            Err(fault) => Err(fault.during("read the checkpoint")),
        }
    }

    /// The configuration of a clone: the source's without what is the
    /// source's alone. Limits that the source lacks stay absent.
    fn clone_config(&self, from: &Raw, opts: &CloneOpts, origin: &str) -> Keys {
        let mut config: Keys = from
            .config
            .iter()
            .filter(|(k, _)| !k.starts_with("volatile."))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let cpu = opts.limits.cpu.as_deref();
        config.extend(spec::base_config(&self.config, cpu, opts.limits.memory));
        let egress = from.instance().map(|i| i.meta.egress).unwrap_or_default();
        let meta = Meta {
            expires_at: opts.expires_at,
            egress,
            origin: Some(origin.to_owned()),
            owner: opts.owner.clone(),
        };
        spec::meta_config(&meta, &mut config);
        // Without the boot unit it is not whole yet when it starts.
        let alone = from.meta_key(key::BOOT_UNIT).is_some();
        config.insert(key::MAKING.into(), if alone { String::new() } else { maker::current() });
        config.insert(key::CLONING.into(), maker::current());
        config
    }
}

/// The pixel that this request has made of `from`, as it is when it has just started.
fn born(from: &Raw, name: &Name, body: &Value, made: &Operation) -> Option<Instance> {
    let mut raw = from.clone();
    raw.name = name.instance();
    raw.status = "Running".into();
    raw.created_at = made.created_at;
    raw.location.clone_from(&made.location);
    raw.state = None;
    raw.config = serde_json::from_value(body["config"].clone()).ok()?;
    let devices: Devices = serde_json::from_value(body["devices"].clone()).ok()?;
    raw.expanded_devices.extend(devices);
    raw.expanded_config.extend(raw.config.clone());
    raw.instance()
}

/// Whether a location names a member: a daemon that is no cluster says `none`.
fn is_member(location: &str) -> bool {
    !location.is_empty() && location != "none"
}
