//! list, start, stop, restart, destroy.

use std::time::Duration;

use pixels_core::{Error, ImageInfo, Instance, Name, Progress, Result, StopOpts, What};

use crate::{Outcome, Pixels, Targets};

/// Whether it is the pixel that is missing, and not what it would be in.
fn is_no_pixel(e: &Error) -> bool {
    matches!(e.kind(), Error::NotFound { what: What::Pixel, .. })
}

/// How long a pixel may take until commands can be run in it and its address is known.
pub(crate) const READY: Duration = Duration::from_secs(120);

impl Pixels {
    /// All pixels, by name.
    ///
    /// # Errors
    /// What the backend says.
    pub async fn list(&self) -> Result<Vec<Instance>> {
        self.backend().list().await
    }

    /// One pixel.
    ///
    /// # Errors
    /// `NotFound` for one that there is not.
    pub async fn get(&self, name: &Name) -> Result<Instance> {
        self.backend().get(name).await
    }

    /// The images at hand.
    ///
    /// # Errors
    /// What the backend says.
    pub async fn images(&self) -> Result<Vec<ImageInfo>> {
        self.backend().list_images().await
    }

    /// Brings an image in: a name of the image server, `docker:IMAGE`,
    /// `oci:DIRECTORY`, `debootstrap:SUITE`, or the path of a tarball, a squashfs
    /// or a directory.
    ///
    /// # Errors
    /// `Unsupported` where the backend has images of its own.
    pub async fn import_image(
        &self,
        source: &str,
        alias: Option<&str>,
        progress: Progress,
    ) -> Result<ImageInfo> {
        self.backend().import_image(source, alias, progress).await
    }

    /// Removes an image, by name or fingerprint. Pixels made from it stay.
    ///
    /// # Errors
    /// `NotFound` for one that there is not; as [`Pixels::import_image`].
    pub async fn remove_image(&self, name: &str) -> Result<ImageInfo> {
        self.backend().remove_image(name).await
    }

    /// Starts pixels and waits until exec works in them and their addresses are
    /// known. One that runs is left alone.
    ///
    /// # Errors
    /// Outside the outcomes only where `Targets::All` cannot be listed.
    pub async fn start(&self, targets: &Targets) -> Result<Vec<Outcome<Instance>>> {
        let names = self.resolve(targets).await?;
        Ok(self.each(names, |name| async move { self.start_one(&name).await }).await)
    }

    /// Stops pixels. One that is stopped is left alone.
    ///
    /// # Errors
    /// As [`Pixels::start`].
    pub async fn stop(&self, targets: &Targets, opts: StopOpts) -> Result<Vec<Outcome<()>>> {
        let (names, opts) = (self.resolve(targets).await?, &opts);
        let stop = |name: Name| async move { self.backend().stop(&name, opts.clone()).await };
        Ok(self.each(names, stop).await)
    }

    /// Stops pixels and starts them again, as [`Pixels::start`] does.
    ///
    /// # Errors
    /// As [`Pixels::start`].
    pub async fn restart(
        &self,
        targets: &Targets,
        opts: StopOpts,
    ) -> Result<Vec<Outcome<Instance>>> {
        let (names, opts) = (self.resolve(targets).await?, &opts);
        let restart = |name: Name| async move {
            self.backend().stop(&name, opts.clone()).await?;
            self.start_one(&name).await
        };
        Ok(self.each(names, restart).await)
    }

    /// Removes pixels with all their checkpoints. `missing_ok` makes a pixel
    /// that there is not a success: the outcome says whether there was one.
    ///
    /// # Errors
    /// As [`Pixels::start`].
    pub async fn destroy(&self, targets: &Targets, missing_ok: bool) -> Result<Vec<Outcome<bool>>> {
        let names = self.resolve(targets).await?;
        // One that is gone since `--all` listed it is what was asked for.
        let missing_ok = missing_ok || *targets == Targets::All;
        let destroy = |name: Name| async move {
            match self.backend().delete(&name).await {
                Ok(()) => Ok(true),
                Err(e) if missing_ok && is_no_pixel(&e) => Ok(false),
                Err(e) => Err(e),
            }
        };
        Ok(self.each(names, destroy).await)
    }

    pub(crate) async fn start_one(&self, name: &Name) -> Result<Instance> {
        self.backend().start(name).await?;
        self.backend().ready(name, READY).await
    }
}
