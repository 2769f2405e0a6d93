//! Making, starting, stopping, listing and removing pixels.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pixels_core::{CreateOpts, Error, Exec, Instance, Name, Result, Status, StopOpts, What};
use serde_json::{Value, json};

use crate::Incus;
use crate::address::{self, Placement};
use crate::api::{Fault, Path};
use crate::half::HalfMade;
use crate::maker;
use crate::model::{Devices, Raw, key};
use crate::operation::Operation;
use crate::{policy, spec};

/// How long a new pixel may take to boot and get an address.
const READY: Duration = Duration::from_secs(60);
/// After how many seconds a guest is asked again to shut down: an init that is
/// still booting loses the signal that asks it.
const ASK_AGAIN: u64 = 10;

impl Incus {
    /// An instance's path.
    pub(crate) fn at(name: &Name) -> Path {
        Path::new("/1.0/instances").seg(&name.instance())
    }

    pub(crate) async fn create_instance(&self, opts: CreateOpts) -> Result<Instance> {
        if opts.meta.egress.is_restricted() {
            return Err(policy::unsupported());
        }
        opts.progress.phase("looking the image up");
        let disk = opts.disk.or(self.config.disk);
        let (source, devices) = tokio::try_join!(self.image_source(&opts), self.devices(disk))?;
        let mut avoid = BTreeSet::new();
        loop {
            let placed = self.place(&devices.1, &avoid, false).await;
            let made = self.create_at(&opts, &source, devices.0.clone(), placed.as_ref()).await;
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
    async fn create_at(
        &self,
        opts: &CreateOpts,
        source: &Value,
        mut devices: Devices,
        placed: Option<&Placement>,
    ) -> Result<Instance> {
        let progress = &opts.progress;
        let cpu = opts.cpu.as_deref().or(self.config.cpu.as_deref());
        let memory = opts.memory.or(self.config.memory);
        let id = fresh_id();
        let mut meta = opts.meta.clone();
        let image = opts.image.as_deref().unwrap_or(&self.config.image);
        meta.origin.get_or_insert_with(|| image.to_owned());
        let mut config = spec::base_config(&self.config, cpu, memory);
        spec::meta_config(&meta, &mut config);
        config.insert(key::ID.into(), id.clone());
        config.insert(key::IDENTITY.into(), id.clone());
        config.insert(key::MAKING.into(), maker::current());
        if let Some(placed) = placed {
            placed.apply(&self.config.dns, &mut config, &mut devices);
        }
        let body = json!({
            "name": opts.name.instance(), "type": "container", "start": false,
            "source": source, "config": config, "devices": devices,
        });
        progress.phase(format!("creating from {image}"));
        let half = self.half_made(&opts.name, &id);
        self.post_instance(&half, opts.target.as_deref(), &body)
            .await
            .map_err(|e| spec::image_error(e, image, &self.config.image_server))?;
        progress.phase("installing the guest helper");
        let boot_unit = self.install_guest(&opts.name, &id).await?;
        let mut done = json!({"config": {key::MAKING: ""}});
        if boot_unit {
            done["config"][key::BOOT_UNIT] = json!("1");
        }
        progress.phase("starting");
        let start = json!({"action": "start", "timeout": -1});
        if let Err(e) = self.set_state(&opts.name, start).await {
            return Err(self.start_error(e).await);
        }
        // Last: until then whoever finds it knows that it is not whole.
        self.api
            .patch(Self::at(&opts.name), &done)
            .await
            .map_err(|f| f.about(What::Pixel, opts.name.as_str(), "create"))?;
        let instance = if opts.bare {
            pixels_core::Backend::get(self, &opts.name).await?
        } else {
            progress.phase("waiting for the network");
            self.ready(&opts.name, READY).await?
        };
        half.keep();
        Ok(instance)
    }

    /// Sends the request that makes an instance and waits for it.
    ///
    /// # Errors
    /// `AlreadyExists` if the name belongs to an instance with another id.
    pub(crate) async fn post_instance(
        &self,
        half: &HalfMade,
        target: Option<&str>,
        body: &Value,
    ) -> Result<Operation, MakeError> {
        let (name, id) = (&half.name, half.id.as_str());
        for attempt in 0.. {
            let mut path = Path::new("/1.0/instances");
            if let Some(target) = target {
                path = path.query("target", target);
            }
            let fault = match half.post(path, body).await {
                Ok(reply) => match self.api.wait(reply).await {
                    Ok(done) => return Ok(done),
                    Err(fault) => fault,
                },
                Err(fault) => fault,
            };
            if matches!(fault, Fault::Wire(_)) {
                return Err(MakeError::Other(fault));
            }
            // Why it failed is text alone; whether the name is taken can be asked.
            match self.raw(name, false).await {
                Ok(there) if there.meta_key(key::ID) != Some(id) => {
                    if attempt == 0 && self.is_abandoned(&there) {
                        tracing::info!(
                            name = name.as_str(),
                            "removing what an interrupted create left"
                        );
                        self.remove_if(name, |raw| self.is_abandoned(raw))
                            .await
                            .map_err(MakeError::Error)?;
                        continue;
                    }
                    return Err(MakeError::Error(Error::exists(What::Pixel, name.as_str())));
                }
                // Somebody else's create of that name, too young to be seen, is in the way.
                Err(e) if e.is_not_found() && attempt < 3 && self.is_being_made(name).await => {}
                _ => return Err(self.missing(fault, target).await),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Whether somebody is making an instance of that name, or has by now: waits
    /// for it.
    async fn is_being_made(&self, name: &Name) -> bool {
        let under_way = self.api.tasks_on(&name.instance()).await.unwrap_or_default();
        if !under_way.is_empty() {
            self.settled(name).await;
            return true;
        }
        self.raw(name, false).await.is_ok()
    }

    /// Tells a missing project or member from other failures of a create.
    async fn missing(&self, fault: Fault, target: Option<&str>) -> MakeError {
        if let Err(e) = self.check_project().await {
            return MakeError::Error(e);
        }
        if let Some(target) = target {
            // A daemon that is no cluster has another status for it, and no members.
            let path = Path::new("/1.0/cluster/members").seg(target);
            if let Err(Fault::Api { .. }) = self.api.get(path).await {
                let error = Error::not_found(What::Member, target);
                return MakeError::Error(
                    error.with_hint("`incus cluster list` shows what there is"),
                );
            }
            // A member that is gone is online for some time yet, and what is said
            // of it is the text of a dial that failed: its state is its own to tell.
            let state = Path::new("/1.0/cluster/members").seg(target).seg("state");
            if let Err(Fault::Api { status: 500.., .. }) = self.api.get(state).await {
                let error = Error::Unreachable {
                    target: format!("cluster member {target}"),
                    reason: "it does not answer".into(),
                };
                return MakeError::Error(error.with_hint(
                    "start its daemon, or leave --target out: `incus cluster list` shows what there is",
                ));
            }
        }
        MakeError::Other(fault)
    }

    pub(crate) async fn list_instances(&self) -> Result<Vec<Instance>> {
        let all = self.raw_list("2", "list").await?;
        let mut pixels: Vec<_> = all.iter().filter_map(Raw::instance).collect();
        pixels.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pixels)
    }

    pub(crate) async fn start_instance(&self, name: &Name) -> Result<()> {
        let result = self.set_state(name, json!({"action": "start", "timeout": -1})).await;
        match result {
            Ok(()) => Ok(()),
            // A frozen pixel is thawed; a running one is left alone.
            Err(e) => match self.raw(name, false).await?.status() {
                Status::Running => Ok(()),
                Status::Frozen => {
                    self.set_state(name, json!({"action": "unfreeze", "timeout": -1})).await
                }
                _ => Err(e),
            },
        }
    }

    pub(crate) async fn stop_instance(&self, name: &Name, opts: StopOpts) -> Result<()> {
        let mut left = opts.timeout.as_secs().max(1);
        loop {
            let step = if opts.force { left } else { left.min(ASK_AGAIN) };
            let begun = Instant::now();
            let body = json!({"action": "stop", "timeout": step, "force": opts.force});
            let Err(e) = self.set_state(name, body).await else { return Ok(()) };
            match self.raw(name, false).await?.status() {
                Status::Stopped => return Ok(()),
                _ if opts.force || !matches!(e.kind(), Error::Backend { .. }) => return Err(e),
                _ => {}
            }
            left = left.saturating_sub(step);
            if left == 0 {
                return Err(Error::Timeout {
                    what: format!("clean shutdown of {name}"),
                    after: opts.timeout,
                }
                .with_hint(format!("pixels stop --force {name} kills it")));
            }
            // Refused sooner than asked for: that is no matter of patience.
            if begun.elapsed().as_secs() + 1 < step {
                return Err(e);
            }
        }
    }

    pub(crate) async fn delete_instance(&self, name: &Name) -> Result<()> {
        self.remove_if(name, |_| true)
            .await?
            .then_some(())
            .ok_or_else(|| Error::not_found(What::Pixel, name.as_str()))
    }

    /// Removes an instance that `wanted` agrees to, running or not. Says
    /// whether there was one.
    pub(crate) async fn remove_if(
        &self,
        name: &Name,
        wanted: impl Fn(&Raw) -> bool,
    ) -> Result<bool> {
        // Between our stop and our delete somebody else may start it, or remove it.
        for _ in 0..5 {
            let raw = match self.raw(name, false).await {
                Ok(raw) if wanted(&raw) => raw,
                Ok(_) => return Ok(false),
                Err(e) if is_no_pixel(&e) => return Ok(false),
                Err(e) => return Err(e),
            };
            if raw.status() != Status::Stopped {
                let body = json!({"action": "stop", "timeout": -1, "force": true});
                if let Err(e) = self.set_state(name, body).await {
                    tracing::debug!(error = %e, "stop before delete");
                }
            }
            let done = match self.api.delete(Self::at(name)).await {
                Ok(reply) => self.api.wait(reply).await.map(drop),
                Err(fault) => Err(fault),
            };
            match done {
                Ok(()) => return Ok(true),
                Err(fault) if fault.status() == Some(404) => return Ok(true),
                Err(fault @ Fault::Wire(_)) => return Err(fault.during("destroy")),
                Err(fault) => tracing::debug!(?fault, "delete"),
            }
            // The daemon may still be making it for a client that is gone.
            self.settle(name).await;
        }
        Err(Error::backend(
            format!("destroy {name}"),
            "it is started again and again by somebody else",
        ))
    }

    /// Changes an instance's state and waits for it.
    pub(crate) async fn set_state(&self, name: &Name, body: Value) -> Result<()> {
        let op = body["action"].as_str().unwrap_or("change").to_owned();
        let about = |f: Fault| f.about(What::Pixel, name.as_str(), &format!("{op} {name}"));
        match self.api.put(Self::at(name).seg("state"), &body).await {
            Ok(reply) => self.api.wait(reply).await.map(drop).map_err(about),
            Err(fault) if fault.status() == Some(404) => {
                self.check_project().await?;
                Err(about(fault))
            }
            Err(fault) => Err(about(fault)),
        }
    }

    /// Whether an instance is one that a create left half-made and that
    /// nobody is making any more.
    pub(crate) fn is_abandoned(&self, raw: &Raw) -> bool {
        let gone = |key| raw.meta_key(key).is_some_and(maker::is_gone);
        gone(key::MAKING) || (!raw.was_started() && gone(key::CLONING))
    }
}

/// Why no instance was made.
pub(crate) enum MakeError {
    /// It is known why.
    Error(Error),
    /// The daemon says something that depends on what was asked.
    Other(Fault),
}

impl From<MakeError> for Error {
    fn from(e: MakeError) -> Self {
        match e {
            MakeError::Error(e) => e,
            MakeError::Other(fault) => fault.during("create"),
        }
    }
}

/// Whether it is the pixel that is missing, and not the project around it.
fn is_no_pixel(e: &Error) -> bool {
    matches!(e.kind(), Error::NotFound { what: What::Pixel, .. })
}

/// Whether a create failed because somebody else has the address. There is no
/// code for it: the text names the address.
pub(crate) fn is_taken(e: &Error, placed: &Placement) -> bool {
    matches!(e.kind(), Error::Backend { message, .. } if message.contains(&placed.address.to_string()))
}

/// Sixteen random bytes in hexadecimal.
pub(crate) fn fresh_id() -> String {
    random().iter().map(|b| format!("{b:02x}")).collect()
}

/// Sixteen bytes of the system's random generator.
pub(crate) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has a random generator");
    bytes
}
