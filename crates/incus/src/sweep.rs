//! Removing what interrupted creates left.

use std::time::Duration;

use jiff::Timestamp;
use pixels_core::{Name, Result};

use crate::Incus;
use crate::api::Path;
use crate::model::{Raw, key};

/// After this long nobody is still making an instance, whatever machine it was begun on.
const MAKING_LIMIT: Duration = Duration::from_secs(6 * 3600);

impl Incus {
    pub(crate) async fn sweep_leftovers(&self) -> Result<Vec<String>> {
        let path = Path::new("/1.0/instances").query("recursion", "1");
        let all: Vec<Raw> = match self.api.get(path).await {
            Ok(reply) => reply.parse().map_err(|f| f.during("gc"))?,
            Err(fault) => {
                self.check_project().await?;
                return Err(fault.during("gc"));
            }
        };
        let mut removed = Vec::new();
        for raw in &all {
            let Some(name) = Name::from_instance(&raw.name) else { continue };
            let left = |raw: &Raw| self.is_abandoned(raw) || is_stale(raw);
            if left(raw) && self.remove_if(&name, left).await? {
                removed.push(format!("pixel {name}, left half-made by an interrupted create"));
            }
        }
        Ok(removed)
    }
}

fn is_stale(raw: &Raw) -> bool {
    raw.meta_key(key::MAKING).is_some()
        && raw
            .created_at
            .is_some_and(|t| Timestamp::now().duration_since(t).unsigned_abs() > MAKING_LIMIT)
}
