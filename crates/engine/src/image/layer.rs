//! The seam to the store of layers: images say what a layer holds, the store
//! writes it with the right owners and keeps it as long as somebody refers to it.

use std::io::Write;

use async_trait::async_trait;
use pixels_core::Result;

/// Where layers are kept.
#[async_trait]
pub(crate) trait LayerStore: Send + Sync {
    /// Begins a new layer.
    async fn begin(&self) -> Result<Box<dyn LayerInProgress>>;

    /// Adds a referrer to a layer that is there; false where it is not (or not
    /// any more).
    async fn hold(&self, layer: &str, referrer: &str) -> Result<bool>;

    /// Takes a referrer back; a layer without any goes. A layer or a reference
    /// that is not there is no error.
    async fn release(&self, layer: &str, referrer: &str) -> Result<()>;
}

/// A layer that is being written. Dropped without [`finish`](Self::finish), it goes.
#[async_trait]
pub(crate) trait LayerInProgress: Send {
    /// The name that the layer will have.
    fn id(&self) -> &str;

    /// Where the tree stream goes (`pixels_guest_api::tree`). Blocking; called
    /// once. A writer that has failed answers `BrokenPipe`: [`finish`](Self::finish) says why.
    fn input(&mut self) -> Box<dyn Write + Send>;

    /// Waits until the layer is written, after the input was dropped, and keeps
    /// it for `referrer`. Answers its size in bytes.
    async fn finish(self: Box<Self>, referrer: &str) -> Result<u64>;
}

/// The name under which an image refers to its layers.
pub(crate) fn referrer(fingerprint: &str) -> String {
    format!("image-{fingerprint}")
}

/// The fingerprint of an image's own referrer.
pub(crate) fn fingerprint_of(referrer: &str) -> Option<&str> {
    referrer.strip_prefix("image-")
}
