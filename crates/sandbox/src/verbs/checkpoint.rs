//! Checkpoints: make, list, restore, delete.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pixels_core::{Label, Name, Result, Snapshot};

use crate::Pixels;

/// What restoring a checkpoint will do to newer ones. Shown before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    /// The checkpoint.
    pub snapshot: Snapshot,
    /// Checkpoints made after it, oldest first.
    pub newer: Vec<Label>,
    /// Whether they stay. If not, restoring destroys them.
    pub newer_kept: bool,
}

impl Pixels {
    /// Makes a checkpoint. Without a label it is `px-YYYYMMDD-HHMMSS` in UTC,
    /// with `-2`, `-3`, … if that is taken.
    ///
    /// # Errors
    /// `AlreadyExists` for a label that was given and is taken.
    pub async fn create_checkpoint(&self, name: &Name, label: Option<&Label>) -> Result<Snapshot> {
        if let Some(label) = label {
            return self.backend().create_snapshot(name, label).await;
        }
        let stem = default_label(Timestamp::now());
        let mut tries = 1u32;
        loop {
            let label = match tries {
                1 => Label::new(&stem)?,
                n => Label::new(&format!("{stem}-{n}"))?,
            };
            // Trying beats listing: nobody can take the label in between.
            match self.backend().create_snapshot(name, &label).await {
                Err(e) if e.is_already_exists() && tries < 1000 => tries += 1,
                other => return other,
            }
        }
    }

    /// A pixel's checkpoints, oldest first.
    ///
    /// # Errors
    /// What the backend says.
    pub async fn checkpoints(&self, name: &Name) -> Result<Vec<Snapshot>> {
        self.backend().list_snapshots(name).await
    }

    /// What [`Pixels::restore_checkpoint`] would do. Nothing is changed.
    ///
    /// # Errors
    /// `NotFound` for a pixel or checkpoint that there is not.
    pub async fn restore_plan(&self, name: &Name, label: &Label) -> Result<RestorePlan> {
        let mut all = self.backend().list_snapshots(name).await?;
        let at = all.iter().position(|s| s.label == *label).ok_or_else(|| {
            pixels_core::Error::not_found(pixels_core::What::Checkpoint, format!("{name}:{label}"))
        })?;
        let newer = all.split_off(at + 1).into_iter().map(|s| s.label).collect();
        let newer_kept = self.backend().capabilities().restore_keeps_newer;
        Ok(RestorePlan { snapshot: all.remove(at), newer, newer_kept })
    }

    /// Takes a pixel back to a checkpoint. One that ran runs again; identity and policy stay.
    ///
    /// # Errors
    /// As [`Pixels::restore_plan`].
    pub async fn restore_checkpoint(&self, name: &Name, label: &Label) -> Result<()> {
        self.backend().restore_snapshot(name, label).await
    }

    /// Removes a checkpoint.
    ///
    /// # Errors
    /// `NotFound` for one that there is not.
    pub async fn delete_checkpoint(&self, name: &Name, label: &Label) -> Result<()> {
        self.backend().delete_snapshot(name, label).await
    }
}

/// `px-YYYYMMDD-HHMMSS`, in UTC.
fn default_label(now: Timestamp) -> String {
    let t = now.to_zoned(TimeZone::UTC);
    format!(
        "px-{:04}{:02}{:02}-{:02}{:02}{:02}",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_label_is_utc() {
        let t: jiff::Timestamp = "2026-03-09T23:05:07+02:00".parse().unwrap();
        assert_eq!(super::default_label(t), "px-20260309-210507");
    }
}
