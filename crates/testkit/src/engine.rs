//! Where tests of the embedded engine keep its store, and the image in it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use pixels_core::{Backend, Progress};

/// What the tests' image is called.
pub const IMAGE: &str = "debian-test";

/// Where the rig keeps the images that it builds.
const CACHE: &str = "/var/lib/pixels-rig/cache";

/// A place for a test store.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store. It is kept from run to run: unpacking the image takes longest.
    pub root: PathBuf,
    /// The root file system of the image: a tarball or squashfs.
    pub rootfs: PathBuf,
    /// The setting `network`, where it is not the default.
    pub network: Option<String>,
}

/// Whether this process is root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| {
        use std::os::unix::fs::MetadataExt;
        m.uid() == 0
    })
}

/// The store of whoever runs the tests: `PIXELS_TEST_ENGINE_ROOT`, else a directory
/// of root's, or of the user's home. `PIXELS_TEST_ROOTFS` names another image,
/// `PIXELS_TEST_NETWORK` another network.
///
/// # Errors
/// There is no image: `rig/up` builds one.
pub fn place() -> Result<Place> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let root = match set("PIXELS_TEST_ENGINE_ROOT") {
        Some(root) => root,
        None if is_root() => "/var/lib/pixels-rig/engine".into(),
        None => set("HOME").context("HOME is not set")?.join(".local/share/pixels-test/engine"),
    };
    let rootfs = match set("PIXELS_TEST_ROOTFS") {
        Some(path) => path,
        None => newest()?,
    };
    let network = std::env::var("PIXELS_TEST_NETWORK").ok().filter(|n| !n.is_empty());
    Ok(Place { root, rootfs, network })
}

/// The newest image that the rig has built.
fn newest() -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(CACHE).into_iter().flatten().flatten() {
        let Ok(built) = entry.path().join("complete").metadata().and_then(|m| m.modified()) else {
            continue;
        };
        let mut dirs = vec![entry.path().join("streams-root/images")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                let name = entry.file_name().to_string_lossy().into_owned();
                if path.is_dir() {
                    dirs.push(path);
                } else if name.starts_with("rootfs.") || name.starts_with("root.") {
                    found.push((built, path));
                }
            }
        }
    }
    found.sort();
    match found.pop() {
        Some((_, path)) => Ok(path),
        None => bail!(
            "there is no image to test with in {CACHE}\nhint: rig/up builds one, or set PIXELS_TEST_ROOTFS"
        ),
    }
}

/// Sees to it that the store has the tests' image.
///
/// # Errors
/// What importing it failed with.
pub async fn have_image(backend: &dyn Backend, place: &Place) -> Result<()> {
    let named = |images: Vec<pixels_core::ImageInfo>| {
        images.iter().any(|i| i.aliases.iter().any(|a| a == IMAGE))
    };
    if named(backend.list_images().await?) {
        return Ok(());
    }
    let source = place.rootfs.to_str().context("the image's path is UTF-8")?;
    backend.import_image(source, Some(IMAGE), Progress::default()).await?;
    Ok(())
}
