//! Clones: one request that copies and starts.

use pixels_core::{CloneOpts, Error, Instance, Label, Meta, Name, Result, What};
use serde_json::json;

use crate::Incus;
use crate::lifecycle::{MakeError, fresh_id};
use crate::model::{Keys, Raw, key};
use crate::spec;

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
        let from = match label {
            Some(label) => self.snapshot_of(source, label).await?,
            None => self.raw(source, false).await?,
        };
        let origin = label.map_or_else(|| source.to_string(), |l| format!("{source}:{l}"));
        let path = label.map_or_else(
            || source.instance(),
            |l| format!("{}/{l}", source.instance()),
        );
        let id = fresh_id();
        let mut config = self.clone_config(&from, &opts, origin);
        config.insert(key::ID.into(), id.clone());
        config.insert(key::IDENTITY.into(), id.clone());
        let mut devices = from.devices.clone();
        if let Some(disk) = opts.limits.disk {
            let mut root = match devices.remove("root") {
                Some(root) => root,
                None => {
                    let expanded = from.expanded_devices.values();
                    let root = expanded.clone().find(|d| d.get("path").is_some_and(|p| p == "/"));
                    root.cloned().unwrap_or_default()
                }
            };
            root.insert("size".into(), disk.to_string());
            devices.insert("root".into(), root);
        }
        for nic in devices.values_mut().filter(|d| d.get("type").is_some_and(|t| t == "nic")) {
            // The source's own; the clone gets others.
            nic.remove("hwaddr");
            nic.remove("ipv4.address");
            nic.remove("ipv6.address");
        }
        let body = json!({
            "name": name.instance(), "start": true, "architecture": from.architecture,
            "profiles": from.profiles, "config": config, "devices": devices,
            "source": {"type": "copy", "source": path, "instance_only": true},
        });
        opts.progress.phase(format!("cloning {}", config_origin(&config)));
        let half = self.half_made(name, &id);
        self.post_instance(name, &id, opts.target.as_deref(), &body)
            .await
            .map_err(|e| match e {
                MakeError::Error(e) => e,
                MakeError::Other(fault) => fault.during(&format!("clone {source}")),
            })?;
        if from.meta_key(key::BOOT_UNIT).is_none() {
            opts.progress.phase("renewing its identity");
            self.renew_identity(name, &id).await?;
        }
        half.keep();
        pixels_core::Backend::get(self, name).await
    }

    async fn snapshot_of(&self, source: &Name, label: &Label) -> Result<Raw> {
        let path = Self::at(source).seg("snapshots").seg(label.as_str());
        match self.api.get(path).await {
            Ok(reply) => reply.parse().map_err(|f| f.during("read the checkpoint")),
            Err(fault) if fault.status() == Some(404) => {
                self.raw(source, false).await?;
                Err(Error::not_found(What::Checkpoint, format!("{source}:{label}")))
            }
            Err(fault) => Err(fault.during("read the checkpoint")),
        }
    }

    /// The configuration of a clone: the source's without what is the
    /// source's alone. Limits that the source lacks stay absent.
    fn clone_config(&self, from: &Raw, opts: &CloneOpts, origin: String) -> Keys {
        let mut config: Keys =
            from.config.iter().filter(|(k, _)| !k.starts_with("volatile.")).map(|(k, v)| (k.clone(), v.clone())).collect();
        let cpu = opts.limits.cpu.as_deref();
        config.extend(spec::base_config(&self.config, cpu, opts.limits.memory));
        let egress = from.instance().map(|i| i.meta.egress).unwrap_or_default();
        let meta = Meta {
            expires_at: opts.expires_at,
            egress,
            origin: Some(origin),
            owner: opts.owner.clone(),
        };
        spec::meta_config(&meta, &mut config);
        config.insert(key::MAKING.into(), String::new());
        config
    }
}

fn config_origin(config: &Keys) -> &str {
    config.get(key::ORIGIN).map_or("", String::as_str)
}
