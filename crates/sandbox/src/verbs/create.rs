//! create: from an image, or as a clone.

use std::time::Duration;

use jiff::Timestamp;
use pixels_core::{
    Bytes, CloneOpts, CreateOpts, EgressMode, Error, Event, Instance, Limits, Meta, Name, Progress,
    Result,
};

use super::environment;
use crate::config::Source;
use crate::facade::Leftover;
use crate::{Origin, Outcome, Pixels};

/// What to make. [`CreateRequest::new`] asks for what the configuration says.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The names; several make several pixels, in parallel.
    pub names: Vec<Name>,
    /// Clone this instead of using an image.
    pub from: Option<Origin>,
    /// The image; `None` is the configured one. Not together with `from`.
    pub image: Option<String>,
    /// CPUs; `None` is the configured value, for a clone the source's.
    pub cpu: Option<String>,
    /// Memory in bytes; `None` as with `cpu`.
    pub memory: Option<u64>,
    /// Root disk in bytes; `None` as with `cpu`.
    pub disk: Option<u64>,
    /// The egress mode; `None` is the configured one, for a clone the source's.
    pub egress: Option<EgressMode>,
    /// Allowed domains; they replace the configured ones, for a clone the source's.
    pub allow: Vec<String>,
    /// Let `gc` destroy it this long after it was made.
    pub ttl: Option<Duration>,
    /// The cluster member to put it on.
    pub target: Option<String>,
    /// Change nothing inside the pixel.
    pub no_provision: bool,
    /// Variables for its `/etc/environment`, after those of `[env]`.
    pub env: Vec<(Bytes, Bytes)>,
    /// Who asks; `cli` where nothing is said.
    pub owner: Option<String>,
    /// Where progress goes. With several names every phase begins with the name it is about.
    pub progress: Progress,
}

impl CreateRequest {
    /// Pixels of these names, as the configuration says.
    pub fn new(names: impl IntoIterator<Item = Name>) -> Self {
        Self {
            names: names.into_iter().collect(),
            from: None,
            image: None,
            cpu: None,
            memory: None,
            disk: None,
            egress: None,
            allow: Vec::new(),
            ttl: None,
            target: None,
            no_provision: false,
            env: Vec::new(),
            owner: None,
            progress: Progress::default(),
        }
    }

    /// Clones of `origin`.
    #[must_use]
    pub fn from(mut self, origin: Origin) -> Self {
        self.from = Some(origin);
        self
    }
}

/// A request that may be carried out, with the configuration worked in.
struct Plan<'a> {
    req: &'a CreateRequest,
    mode: EgressMode,
    /// Domains to allow once the pixel is there.
    allow: Vec<String>,
    /// Whether a clone's policy is replaced.
    replace_policy: bool,
    environment: Vec<(Bytes, Bytes)>,
    expires_at: Option<Timestamp>,
}

impl Pixels {
    /// Makes pixels and waits until exec works in them and their addresses are known.
    ///
    /// # Errors
    /// Outside the outcomes: what is refused before any call is made, such as a
    /// restricted egress mode that the backend cannot enforce.
    pub async fn create(&self, req: CreateRequest) -> Result<Vec<Outcome<Instance>>> {
        let plan = &self.plan(&req)?;
        let several = req.names.len() > 1;
        let make = |name: Name| async move {
            let progress =
                if several { named(&name, &plan.req.progress) } else { plan.req.progress.clone() };
            self.create_one(plan, name, progress).await
        };
        Ok(self.each(req.names.clone(), make).await)
    }

    /// Makes the first of the names, for verbs that need one.
    pub(super) async fn create_single(&self, req: &CreateRequest) -> Result<Instance> {
        let plan = self.plan(req)?;
        let name = req.names[0].clone();
        self.create_one(&plan, name, req.progress.clone()).await
    }

    fn plan<'a>(&self, req: &'a CreateRequest) -> Result<Plan<'a>> {
        if req.names.is_empty() {
            return Err(Error::invalid("name", "", "create needs at least one"));
        }
        for (at, name) in req.names.iter().enumerate() {
            if req.names[..at].contains(name) {
                return Err(Error::invalid("name", name.as_str(), "it is given twice"));
            }
        }
        if req.from.is_some() && req.image.is_some() {
            let image = req.image.as_deref().unwrap_or_default();
            return Err(Error::invalid(
                "image",
                image,
                "a clone has its source's; choose one of the two",
            ));
        }
        let (mode, allow, replace_policy) = self.policy(req)?;
        let environment = environment::wanted(self.config(), req)?;
        let expires_at = match req.ttl {
            None => None,
            Some(ttl) => Some(expiry(ttl)?),
        };
        Ok(Plan { req, mode, allow, replace_policy, environment, expires_at })
    }

    /// The mode and domains asked for, refused where the backend could not hold them.
    fn policy(&self, req: &CreateRequest) -> Result<(EgressMode, Vec<String>, bool)> {
        let network = &self.config().network;
        let clone = req.from.is_some();
        let explicit = req.egress.is_some() || !req.allow.is_empty();
        let mode = match (req.egress, clone) {
            (Some(mode), _) => mode,
            // A clone's own mode is not known here; domains alone mean a restricted one.
            (None, true) if explicit => EgressMode::Allowlist,
            (None, true) => EgressMode::Unrestricted,
            (None, false) => network.egress,
        };
        if mode.is_restricted() && !self.backend().capabilities().egress_control {
            let op = match req.egress {
                None if clone => "allowed domains (--allow) yet".to_owned(),
                _ => format!("the egress mode {mode} yet"),
            };
            let hint = if explicit {
                "leave --egress and --allow out: the pixel is then unrestricted".to_owned()
            } else {
                let from = self.config().source("network.egress");
                let from = from.map_or_else(String::new, |s| format!(" (now set by {s})"));
                format!("network.egress = \"unrestricted\"{from}, or --egress unrestricted")
            };
            return Err(Error::unsupported(self.backend().kind(), op).with_hint(hint));
        }
        if !mode.is_restricted() {
            if let Some(domain) = req.allow.first() {
                return Err(Error::invalid(
                    "domain",
                    domain,
                    "an unrestricted pixel has no list of allowed domains",
                )
                .with_hint("--egress allowlist or --egress agent has one"));
            }
            return Ok((mode, Vec::new(), req.egress.is_some()));
        }
        let allow =
            if req.allow.is_empty() && !clone { network.allow.clone() } else { req.allow.clone() };
        Ok((mode, allow, explicit))
    }

    async fn create_one(
        &self,
        plan: &Plan<'_>,
        name: Name,
        progress: Progress,
    ) -> Result<Instance> {
        self.warn_of_limits(plan.req, &progress);
        let instance = match &plan.req.from {
            Some(origin) => self.clone_one(plan, origin, &name, progress.clone()).await?,
            None => self.image_one(plan, &name, progress.clone()).await?,
        };
        if plan.allow.is_empty() && plan.environment.is_empty() && !plan.replaces() {
            return Ok(instance);
        }
        let guard = self.guard(Leftover::Pixel(name.clone()));
        match self.finish(plan, &name, &progress).await {
            Ok(()) => {
                guard.disarm();
                Ok(instance)
            }
            Err(e) => {
                // The first failure is the one to tell; close() tries again.
                if self.backend().delete(&name).await.is_ok() {
                    guard.disarm();
                }
                Err(e)
            }
        }
    }

    /// Limits that somebody asked for and this machine cannot keep; that the
    /// defaults are not kept is in `doctor`.
    fn warn_of_limits(&self, req: &CreateRequest, progress: &Progress) {
        let set = |key| !matches!(self.config().source(key), Some(Source::Default) | None);
        let image = req.from.is_none();
        let asked = req.cpu.is_some()
            || req.memory.is_some()
            || (image && (set("defaults.cpu") || set("defaults.memory")));
        let capabilities = self.backend().capabilities();
        if let Some(note) = capabilities.notes.get("limits").filter(|_| asked) {
            progress.warn(format!("{note}; pixels doctor says how that can be mended"));
        }
    }

    async fn image_one(
        &self,
        plan: &Plan<'_>,
        name: &Name,
        progress: Progress,
    ) -> Result<Instance> {
        let (req, defaults) = (plan.req, &self.config().defaults);
        let image = req.image.clone().or_else(|| self.default_image());
        let mut opts = CreateOpts::new(name.clone());
        opts.cpu = Some(req.cpu.clone().unwrap_or_else(|| defaults.cpu.clone()));
        opts.memory = Some(req.memory.unwrap_or(defaults.memory));
        opts.disk = req.disk.or(defaults.disk);
        opts.target = req.target.clone();
        opts.meta = Meta {
            expires_at: plan.expires_at,
            egress: plan.mode,
            origin: image.clone(),
            owner: Some(req.owner.clone().unwrap_or_else(|| "cli".into())),
        };
        opts.image = image;
        opts.progress = progress;
        self.backend().create(opts).await
    }

    async fn clone_one(
        &self,
        plan: &Plan<'_>,
        origin: &Origin,
        name: &Name,
        progress: Progress,
    ) -> Result<Instance> {
        let req = plan.req;
        let opts = CloneOpts {
            limits: Limits { cpu: req.cpu.clone(), memory: req.memory, disk: req.disk },
            target: req.target.clone(),
            expires_at: plan.expires_at,
            owner: Some(req.owner.clone().unwrap_or_else(|| "cli".into())),
            progress,
        };
        self.backend().as_ref().clone_from(&origin.name, origin.label.as_ref(), name, opts).await
    }

    /// What the backend's own create does not do.
    async fn finish(&self, plan: &Plan<'_>, name: &Name, progress: &Progress) -> Result<()> {
        if plan.replaces() {
            let old = self.backend().get_policy(name).await?;
            if old.mode != plan.mode {
                self.backend().set_egress_mode(name, plan.mode).await?;
            }
            for domain in old.domains.iter().filter(|d| !plan.allow.contains(d)) {
                self.backend().deny_domain(name, domain).await?;
            }
        }
        for domain in &plan.allow {
            self.backend().allow_domain(name, domain).await?;
        }
        if !plan.environment.is_empty() {
            progress.phase("writing its environment");
            environment::write(self.backend().as_ref(), name, &plan.environment).await?;
        }
        Ok(())
    }
}

impl Plan<'_> {
    /// Whether a clone's inherited policy is to be replaced.
    fn replaces(&self) -> bool {
        self.req.from.is_some() && self.replace_policy
    }
}

/// When a pixel made now with `ttl` may go.
fn expiry(ttl: Duration) -> Result<Timestamp> {
    let refuse = || {
        Error::invalid(
            "ttl",
            &crate::duration::format(ttl),
            "a pixel's life is above zero and ends in this calendar",
        )
    };
    if ttl.is_zero() {
        return Err(refuse());
    }
    Timestamp::now().checked_add(ttl).map_err(|_| refuse())
}

/// `progress` with the pixel's name before every phase and warning.
fn named(name: &Name, progress: &Progress) -> Progress {
    let (name, progress) = (name.clone(), progress.clone());
    Progress::new(move |event| {
        progress.emit(match event {
            Event::Phase(text) => Event::Phase(format!("{name}: {text}")),
            Event::Warning(text) => Event::Warning(format!("{name}: {text}")),
            other => other,
        });
    })
}
