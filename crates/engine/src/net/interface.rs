//! The host's ends of pixels' links: which there are, and removing one.

use pixels_core::{Error, Result};

use super::{netlink, subnet};

/// Removes the link of a slot at once. Without that it goes when the pixel's
/// network namespace does, which the kernel sees to some time after the last
/// process has ended. One that is gone is no error. It takes the
/// kernel some 20 ms: in the path of a destroy, leave it to the namespace's end.
///
/// # Errors
/// What the kernel said.
pub fn remove(slot: u32) -> Result<()> {
    let name = subnet::interface(slot);
    netlink::remove_interface(&name)
        .map(drop)
        .map_err(|e| Error::backend(format!("removing the interface {name}"), e.to_string()))
}

/// The slots that have a link on this host, whosever pixels they are of: what a
/// new pixel's slot must not be.
pub fn slots() -> Vec<u32> {
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let name = |line: &str| line.split_once(':').map(|(name, _)| name.trim().to_owned());
    devices.lines().filter_map(name).filter_map(|name| subnet::slot_of(&name)).collect()
}
