//! gc: what is past its time, and what was left behind.

use jiff::Timestamp;
use pixels_core::{Name, Result};

use crate::{Outcome, Pixels};

/// What [`Pixels::gc`] did.
#[derive(Debug, Default)]
pub struct GcReport {
    /// Pixels past their time to live, and what came of removing them.
    pub expired: Vec<Outcome<()>>,
    /// What else was removed, in words.
    pub swept: Vec<String>,
}

impl Pixels {
    /// Removes pixels whose time to live ended at or before `now`, and what
    /// interrupted calls of other processes left.
    ///
    /// # Errors
    /// What keeps it from looking; what keeps a pixel from being removed is in the report.
    pub async fn gc(&self, now: Timestamp) -> Result<GcReport> {
        let swept = self.backend().sweep().await?;
        let due: Vec<Name> = self
            .backend()
            .list()
            .await?
            .into_iter()
            .filter(|i| i.meta.expires_at.is_some_and(|at| at <= now))
            .map(|i| i.name)
            .collect();
        let expired = self
            .each(due, |name| async move {
                // Its life may have been extended since it was listed.
                match self.backend().get(&name).await {
                    Ok(i) if i.meta.expires_at.is_none_or(|at| at > now) => return Ok(()),
                    Err(e) if e.is_not_found() => return Ok(()),
                    Ok(_) => {}
                    Err(e) => return Err(e),
                }
                match self.backend().delete(&name).await {
                    Err(e) if e.is_not_found() => Ok(()),
                    other => other,
                }
            })
            .await;
        Ok(GcReport { expired, swept })
    }
}
