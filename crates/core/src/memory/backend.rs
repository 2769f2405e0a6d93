//! The life of pixels: entries in a map.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Checkpoint, IMAGE, KIND, Memory, Pixel, base_tree, give_identity};
use crate::{
    Backend, Capabilities, CloneOpts, CreateOpts, Error, Finding, ImageInfo, Instance, Label,
    Level, Meta, Name, Policy, Result, Snapshot, StopOpts, What,
};

/// There is one machine: the one this runs on.
fn refuse_target(target: Option<&String>) -> Result<()> {
    match target {
        Some(target) => Err(Error::not_found(What::Member, target)),
        None => Ok(()),
    }
}

#[async_trait]
impl Backend for Memory {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn create(&self, opts: CreateOpts) -> Result<Instance> {
        let image = opts.image.as_deref().unwrap_or(IMAGE);
        if image != IMAGE {
            return Err(Error::not_found(What::Image, image));
        }
        refuse_target(opts.target.as_ref())?;
        opts.progress.phase("creating");
        let mut world = self.lock();
        world.refuse_taken(&opts.name)?;
        let machine = world.next_machine();
        let mut tree = base_tree()?;
        give_identity(&mut tree, &opts.name, machine)?;
        let mut pixel = Pixel {
            created_at: Timestamp::now(),
            machine,
            limits: crate::Limits { cpu: opts.cpu, memory: opts.memory, disk: opts.disk },
            policy: Policy { mode: opts.meta.egress, domains: Vec::new() },
            meta: Meta { origin: Some(image.to_owned()), ..opts.meta },
            tree,
            snapshots: Vec::new(),
            power: None,
        };
        pixel.start();
        let instance = pixel.instance(&opts.name);
        world.pixels.insert(opts.name, pixel);
        Ok(instance)
    }

    async fn get(&self, name: &Name) -> Result<Instance> {
        self.lock().pixel(name).map(|p| p.instance(name))
    }

    async fn list(&self) -> Result<Vec<Instance>> {
        Ok(self.lock().pixels.iter().map(|(name, p)| p.instance(name)).collect())
    }

    async fn start(&self, name: &Name) -> Result<()> {
        self.lock().pixel_mut(name)?.start();
        Ok(())
    }

    async fn stop(&self, name: &Name, _: StopOpts) -> Result<()> {
        self.lock().pixel_mut(name)?.power = None;
        Ok(())
    }

    async fn delete(&self, name: &Name) -> Result<()> {
        match self.lock().pixels.remove(name) {
            Some(_) => Ok(()),
            None => Err(Error::not_found(What::Pixel, name.as_str())),
        }
    }

    async fn create_snapshot(&self, name: &Name, label: &Label) -> Result<Snapshot> {
        let mut world = self.lock();
        let pixel = world.pixel_mut(name)?;
        if pixel.snapshot(name, label).is_ok() {
            return Err(Error::exists(What::Checkpoint, format!("{name}:{label}")));
        }
        let checkpoint = Checkpoint {
            label: label.clone(),
            created_at: Timestamp::now(),
            tree: pixel.tree.clone(),
        };
        let snapshot = checkpoint.describe();
        pixel.snapshots.push(checkpoint);
        Ok(snapshot)
    }

    async fn list_snapshots(&self, name: &Name) -> Result<Vec<Snapshot>> {
        Ok(self.lock().pixel(name)?.snapshots.iter().map(Checkpoint::describe).collect())
    }

    async fn delete_snapshot(&self, name: &Name, label: &Label) -> Result<()> {
        let mut world = self.lock();
        let pixel = world.pixel_mut(name)?;
        pixel.snapshot(name, label)?;
        pixel.snapshots.retain(|s| s.label != *label);
        Ok(())
    }

    async fn restore_snapshot(&self, name: &Name, label: &Label) -> Result<()> {
        let mut world = self.lock();
        let pixel = world.pixel_mut(name)?;
        pixel.tree = pixel.snapshot(name, label)?.tree.clone();
        if pixel.power.take().is_some() {
            pixel.start();
        }
        Ok(())
    }

    async fn clone_from(
        &self,
        source: &Name,
        label: Option<&Label>,
        name: &Name,
        opts: CloneOpts,
    ) -> Result<Instance> {
        refuse_target(opts.target.as_ref())?;
        opts.progress.phase("cloning");
        let mut world = self.lock();
        let from = world.pixel(source)?;
        let (mut tree, origin) = match label {
            Some(label) => {
                (from.snapshot(source, label)?.tree.clone(), format!("{source}:{label}"))
            }
            None => (from.tree.clone(), source.to_string()),
        };
        let mut limits = from.limits.clone();
        limits.cpu = opts.limits.cpu.or(limits.cpu);
        limits.memory = opts.limits.memory.or(limits.memory);
        limits.disk = opts.limits.disk.or(limits.disk);
        let policy = from.policy.clone();
        world.refuse_taken(name)?;
        let machine = world.next_machine();
        give_identity(&mut tree, name, machine)?;
        let mut pixel = Pixel {
            created_at: Timestamp::now(),
            machine,
            limits,
            meta: Meta {
                expires_at: opts.expires_at,
                egress: policy.mode,
                origin: Some(origin),
                owner: opts.owner,
            },
            policy,
            tree,
            snapshots: Vec::new(),
            power: None,
        };
        pixel.start();
        let instance = pixel.instance(name);
        world.pixels.insert(name.clone(), pixel);
        Ok(instance)
    }

    async fn list_images(&self) -> Result<Vec<ImageInfo>> {
        Ok(vec![ImageInfo {
            aliases: vec![IMAGE.into()],
            fingerprint: "0".repeat(64),
            description: "an empty machine".into(),
            architecture: std::env::consts::ARCH.into(),
            size: 0,
            created_at: None,
        }])
    }

    async fn sweep(&self) -> Result<Vec<String>> {
        // Every call happens in one step: there is never anything left.
        Ok(Vec::new())
    }

    async fn doctor(&self, _fix: bool) -> Vec<Finding> {
        vec![Finding::new(Level::Ok, "memory", "pixels live as long as this process")]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            snapshots: true,
            clone_from: true,
            clone_live: true,
            egress_control: true,
            restore_keeps_newer: true,
            files_when_stopped: true,
            byte_exact_exec: true,
            cluster: false,
            routable: true,
            notes: BTreeMap::from([(
                "exec".into(),
                "a fixed list of commands is interpreted; there is no Linux inside".into(),
            )]),
        }
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

impl Checkpoint {
    fn describe(&self) -> Snapshot {
        Snapshot {
            label: self.label.clone(),
            size: Some(self.tree.own_bytes()),
            created_at: Some(self.created_at),
        }
    }
}
