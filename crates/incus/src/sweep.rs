//! Removing what interrupted creates left.

use std::time::Duration;

use jiff::Timestamp;
use pixels_core::{Name, Result};

use crate::Incus;
use crate::model::Raw;

/// After this long nobody is still making an instance, whatever machine it was begun on.
const MAKING_LIMIT: Duration = Duration::from_secs(6 * 3600);

impl Incus {
    pub(crate) async fn sweep_leftovers(&self) -> Result<Vec<String>> {
        let all = self.raw_list("1", "gc").await?;
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
    raw.is_half_made()
        && raw
            .created_at
            .is_some_and(|t| Timestamp::now().duration_since(t).unsigned_abs() > MAKING_LIMIT)
}
