//! The traits a backend implements. They are small on purpose: what can be
//! built from them is in [`crate::SandboxExt`].

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Capabilities, CloneOpts, ConsoleOpts, CreateOpts, EgressMode, Error, ExecOpts, FileSession,
    Finding, ImageInfo, Instance, Label, Name, Policy, Process, Progress, Reader, Result, Snapshot,
    StopOpts, Writer,
};

/// The life of pixels and of their checkpoints.
///
/// Every mutation either happens or leaves nothing behind that a second try
/// would trip over. Dropping a call's future interrupts it; what was
/// half-made is then removed in the background or by the next `gc`.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The name the backend is registered under.
    fn kind(&self) -> &'static str;
    /// Makes a pixel from an image and starts it. It returns once exec works
    /// ([`CreateOpts::bare`]: once it is made and started).
    ///
    /// # Errors
    /// `AlreadyExists` for a taken name, `NotFound` for an unknown image, pool, network or member.
    async fn create(&self, opts: CreateOpts) -> Result<Instance>;
    /// One pixel.
    async fn get(&self, name: &Name) -> Result<Instance>;
    /// All pixels, by name.
    async fn list(&self) -> Result<Vec<Instance>>;
    /// Starts a pixel; one that runs is left alone.
    async fn start(&self, name: &Name) -> Result<()>;
    /// Stops a pixel; one that is stopped is left alone.
    async fn stop(&self, name: &Name, opts: StopOpts) -> Result<()>;
    /// Stops a pixel at once and removes it with all its checkpoints.
    async fn delete(&self, name: &Name) -> Result<()>;
    /// Makes a checkpoint of a pixel, running or not, without stopping it.
    async fn create_snapshot(&self, name: &Name, label: &Label) -> Result<Snapshot>;
    /// A pixel's checkpoints, oldest first.
    async fn list_snapshots(&self, name: &Name) -> Result<Vec<Snapshot>>;
    /// Removes a checkpoint.
    async fn delete_snapshot(&self, name: &Name, label: &Label) -> Result<()>;
    /// Takes a pixel back to a checkpoint; one that ran runs again. Identity and policy stay.
    async fn restore_snapshot(&self, name: &Name, label: &Label) -> Result<()>;
    /// Makes and starts a new pixel from a checkpoint, or from the source as it
    /// is now. The source is neither stopped nor changed; the new one has an
    /// identity (machine-id, SSH host keys, MAC, address, hostname) of its own.
    async fn clone_from(
        &self,
        source: &Name,
        label: Option<&Label>,
        name: &Name,
        opts: CloneOpts,
    ) -> Result<Instance>;
    /// The images at hand.
    async fn list_images(&self) -> Result<Vec<ImageInfo>>;
    /// Brings an image in from `source` and calls it `alias`, or what the source
    /// calls it. What was called so before loses the name.
    ///
    /// # Errors
    /// `Unsupported` by a backend whose images are not ours to bring in, which is
    /// what this does unless it is overridden; `Invalid` for what is no image.
    async fn import_image(
        &self,
        source: &str,
        alias: Option<&str>,
        progress: Progress,
    ) -> Result<ImageInfo> {
        let _ = (source, alias, progress);
        Err(Error::unsupported(self.kind(), "importing images"))
    }
    /// Removes an image, by name or fingerprint. Pixels made from it stay.
    ///
    /// # Errors
    /// `Unsupported` as for [`Backend::import_image`]; `NotFound`.
    async fn remove_image(&self, name: &str) -> Result<ImageInfo> {
        let _ = name;
        Err(Error::unsupported(self.kind(), "removing images"))
    }
    /// Removes what interrupted calls of earlier processes left. Returns what it removed, in words.
    async fn sweep(&self) -> Result<Vec<String>>;
    /// Looks at everything this backend needs, and mends what it can if `fix`. A
    /// backend that cannot be reached is a finding, not an error.
    async fn doctor(&self, fix: bool) -> Vec<Finding>;
    /// What this backend can do. No call is made.
    fn capabilities(&self) -> Capabilities;
    /// Finishes what goes on in the background and closes connections.
    async fn close(&self) -> Result<()>;
}

/// Commands inside pixels.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Starts a command. It has been sent when this returns; whether it could be
    /// executed is what [`Process::wait`] says.
    ///
    /// # Errors
    /// `WrongState` for a pixel that does not run.
    async fn spawn(&self, name: &Name, opts: ExecOpts) -> Result<Process>;
    /// Starts the user's login shell (or a command) on a terminal.
    async fn console(&self, name: &Name, opts: ConsoleOpts) -> Result<Process>;
    /// Waits until commands can be run and an address is known.
    ///
    /// # Errors
    /// `Timeout` that says which is missing.
    async fn ready(&self, name: &Name, timeout: Duration) -> Result<Instance>;
    /// Connects to `port` of the pixel's own 127.0.0.1. Shutting the writer down
    /// is the end of what is sent; the other direction goes on.
    ///
    /// # Errors
    /// `WrongState` for a pixel that does not run; `Backend` where nothing
    /// listens; `Unsupported` where the backend has no way in.
    async fn dial(&self, name: &Name, port: u16) -> Result<(Reader, Writer)> {
        let _ = (name, port);
        Err(Error::unsupported("chosen", "connections to ports inside a pixel"))
    }
}

/// Files inside pixels, running or not.
#[async_trait]
pub trait Files: Send + Sync {
    /// Opens a connection for file operations inside one pixel.
    async fn files(&self, name: &Name) -> Result<Box<dyn FileSession>>;
}

/// What pixels may reach.
#[async_trait]
pub trait NetworkPolicy: Send + Sync {
    /// Changes a pixel's egress mode.
    async fn set_egress_mode(&self, name: &Name, mode: EgressMode) -> Result<()>;
    /// Allows one more domain.
    async fn allow_domain(&self, name: &Name, domain: &str) -> Result<()>;
    /// Takes an allowed domain back.
    async fn deny_domain(&self, name: &Name, domain: &str) -> Result<()>;
    /// The policy in force.
    async fn get_policy(&self, name: &Name) -> Result<Policy>;
}

/// All that a backend is.
pub trait Sandbox: Backend + Exec + Files + NetworkPolicy {}
impl<T: Backend + Exec + Files + NetworkPolicy + ?Sized> Sandbox for T {}
