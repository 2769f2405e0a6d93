//! What a new pixel is to be: the options that `create` and `run` share.

use std::time::Duration;

use clap::Args;
use pixels_core::{EgressMode, Name, Progress};
use pixels_sandbox::{CreateRequest, Origin};

use super::values::{self, EnvVar};
use crate::context::Key;

/// What a new pixel is to be.
#[derive(Debug, Args)]
pub struct Shape {
    /// The image to make it from [default: defaults.image of the configuration]
    #[arg(long, value_name = "IMAGE", conflicts_with = "from")]
    pub image: Option<String>,
    /// Clone a pixel as it is now (NAME), or a checkpoint of it (NAME:LABEL)
    #[arg(long, value_name = "NAME[:LABEL]")]
    pub from: Option<Origin>,
    /// CPUs: a number, or a set such as 0-3
    #[arg(long, value_name = "N")]
    pub cpu: Option<String>,
    /// Memory in MiB, or with a suffix (4GiB)
    #[arg(long, value_name = "SIZE", value_parser = values::memory)]
    pub memory: Option<u64>,
    /// Root disk in MiB, or with a suffix (20GiB)
    #[arg(long, value_name = "SIZE", value_parser = values::disk)]
    pub disk: Option<u64>,
    /// What it may reach: unrestricted, agent or allowlist
    #[arg(long, value_name = "MODE")]
    pub egress: Option<EgressMode>,
    /// One more domain that it may reach
    #[arg(long, value_name = "DOMAIN")]
    pub allow: Vec<String>,
    /// The network that it is on, or none [default: defaults.network of the configuration]
    #[arg(long, value_name = "NETWORK", conflicts_with = "from")]
    pub network: Option<String>,
    /// Change nothing inside it
    #[arg(long)]
    pub no_provision: bool,
    /// The cluster member to put it on
    #[arg(long, value_name = "MEMBER")]
    pub target: Option<String>,
    /// How long it is to live (90m, 2d); gc destroys it after that
    #[arg(long, value_name = "DURATION", value_parser = values::ttl)]
    pub ttl: Option<Duration>,
    /// A variable for everything that runs in it; K alone takes the value that it has here
    #[arg(long, value_name = "K=V", value_parser = EnvVar::parser())]
    pub env: Vec<EnvVar>,
}

impl Shape {
    /// The keys of the configuration that options set: key, option, value.
    pub fn keys(&self) -> Vec<Key> {
        let network = self.network.clone();
        network.map(|value| ("defaults.network", "--network", value)).into_iter().collect()
    }

    /// The request for pixels of these names.
    pub fn request(self, names: Vec<Name>, progress: Progress) -> CreateRequest {
        let mut request = CreateRequest::new(names);
        request.from = self.from;
        request.image = self.image;
        request.cpu = self.cpu;
        request.memory = self.memory;
        request.disk = self.disk;
        request.egress = self.egress;
        request.allow = self.allow;
        request.ttl = self.ttl;
        request.target = self.target;
        request.no_provision = self.no_provision;
        request.env = EnvVar::resolve(self.env);
        request.progress = progress;
        request
    }
}
