//! Egress policy: this version enforces none, and says so before any call.

use async_trait::async_trait;
use pixels_core::{EgressMode, Error, Name, NetworkPolicy, Policy, Result};

use crate::{Engine, KIND};

/// What asking for a restricted mode gives.
pub(crate) fn unsupported() -> Error {
    Error::unsupported(KIND, "restricted egress modes yet")
        .with_hint("leave [network] egress and --egress at unrestricted")
}

#[async_trait]
impl NetworkPolicy for Engine {
    async fn set_egress_mode(&self, name: &Name, mode: EgressMode) -> Result<()> {
        if mode.is_restricted() {
            return Err(unsupported());
        }
        self.get_pixel(name).map(drop)
    }

    async fn allow_domain(&self, _: &Name, _: &str) -> Result<()> {
        Err(unsupported())
    }

    async fn deny_domain(&self, _: &Name, _: &str) -> Result<()> {
        Err(unsupported())
    }

    async fn get_policy(&self, name: &Name) -> Result<Policy> {
        let mode = self.get_pixel(name)?.meta.egress;
        Ok(Policy { mode, domains: Vec::new() })
    }
}
