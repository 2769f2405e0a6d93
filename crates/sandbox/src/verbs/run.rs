//! run: a pixel for one command.

use std::future::Future;
use std::hash::{BuildHasher, Hasher};

use pixels_core::{ExecOpts, Name, Process, Result};

use crate::facade::Leftover;
use crate::{CreateRequest, Pixels};

/// A one-shot: what to make, and what to run in it.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// What to make. Without a name it gets one: `run-` and twelve hexadecimal digits.
    pub create: CreateRequest,
    /// What to run.
    pub exec: ExecOpts,
}

impl Pixels {
    /// Makes a pixel, starts a command in it, lets `drive` see to its streams
    /// and end, and destroys the pixel whatever came of it.
    ///
    /// Dropping the future kills the command; [`Pixels::close`] then removes the pixel.
    ///
    /// # Errors
    /// What keeps the pixel from being made, the command from starting, what
    /// `drive` says, or what keeps the pixel from being removed; the first of these.
    pub async fn run<T, F, Fut>(&self, req: RunRequest, drive: F) -> Result<T>
    where
        F: FnOnce(Name, Process) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let RunRequest { mut create, exec } = req;
        if create.names.is_empty() {
            create.names.push(random_name()?);
        }
        let name = self.create_single(&create).await?.name;
        let guard = self.guard(Leftover::Pixel(name.clone()));
        let done = async {
            let process = self.exec(&name, exec).await?;
            drive(name.clone(), process).await
        }
        .await;
        let removed = match self.backend().delete(&name).await {
            Err(e) if e.is_not_found() => Ok(()),
            other => other,
        };
        if removed.is_ok() {
            guard.disarm();
        }
        let value = done?;
        removed.map(|()| value)
    }
}

/// A name that nobody else has. The standard library's hash keys come from the
/// system's random numbers; a name needs no more than that.
fn random_name() -> Result<Name> {
    let number = std::hash::RandomState::new().build_hasher().finish();
    Name::new(&format!("run-{:012x}", number & 0xffff_ffff_ffff))
}
