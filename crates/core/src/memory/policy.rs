//! Egress policies: kept, and true, because nothing in here reaches anything.

use async_trait::async_trait;

use super::Memory;
use crate::{EgressMode, Error, Name, NetworkPolicy, Policy, Result, What};

/// A domain in lower case, without the dot at its end.
fn canonical(raw: &str) -> Result<String> {
    let domain = raw.strip_suffix('.').unwrap_or(raw).to_ascii_lowercase();
    let ok = !domain.is_empty()
        && domain.len() <= 253
        && domain.bytes().all(|b| b.is_ascii_alphanumeric() || b".-*:/".contains(&b));
    match ok {
        true => Ok(domain),
        false => Err(Error::invalid(
            "domain",
            raw,
            "a domain is a host name, a *.wildcard or an address range, with an optional :port",
        )),
    }
}

#[async_trait]
impl NetworkPolicy for Memory {
    async fn set_egress_mode(&self, name: &Name, mode: EgressMode) -> Result<()> {
        self.lock().pixel_mut(name)?.policy.mode = mode;
        Ok(())
    }

    async fn allow_domain(&self, name: &Name, domain: &str) -> Result<()> {
        let domain = canonical(domain)?;
        let mut world = self.lock();
        let policy = &mut world.pixel_mut(name)?.policy;
        if !policy.mode.is_restricted() {
            return Err(Error::Denied {
                what: format!("allow {domain}"),
                reason: format!("pixel {name} is unrestricted, everything is allowed"),
            }
            .with_hint(format!("pixels network set {name} allowlist restricts it")));
        }
        if !policy.domains.contains(&domain) {
            policy.domains.push(domain);
        }
        Ok(())
    }

    async fn deny_domain(&self, name: &Name, domain: &str) -> Result<()> {
        let domain = canonical(domain)?;
        let mut world = self.lock();
        let policy = &mut world.pixel_mut(name)?.policy;
        match policy.domains.iter().position(|d| *d == domain) {
            Some(at) => {
                policy.domains.remove(at);
                Ok(())
            }
            None => Err(Error::not_found(What::Domain, domain)),
        }
    }

    async fn get_policy(&self, name: &Name) -> Result<Policy> {
        Ok(self.lock().pixel(name)?.policy.clone())
    }
}
