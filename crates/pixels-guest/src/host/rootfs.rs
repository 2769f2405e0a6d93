//! A pixel's root: its layers under one overlay, mounted inside the pixel's own
//! user namespace and therefore with no more rights than the pixel has.
//!
//! `userxattr` is what the kernel asks of such a mount
//! (Documentation/filesystems/overlayfs.rst); redirects and metadata-only
//! copies are off with it, so no layer can point at anything outside itself.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::sys::{mount, process};

/// Directories of the host that may be covered in the pixel's own mounts while
/// they still are the host's; any that exists will do.
const SCRATCH: [&str; 4] = ["/tmp", "/mnt", "/run", "/var"];

/// Trees that are mounted nowhere yet.
pub(crate) struct Trees {
    /// The layers, the lowest first.
    pub(crate) layers: Vec<OwnedFd>,
    /// The directory with `tree` and `work`.
    pub(crate) upper: OwnedFd,
}

/// Covers a directory of the host with memory of ours and enters it.
pub(crate) fn scratch() -> io::Result<()> {
    let tmpfs = mount::filesystem(c"tmpfs", &["size=1m", "mode=700"], mount::NOSUID)?;
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for dir in SCRATCH {
        let path = CString::new(dir)?;
        match mount::attach(&tmpfs, &path) {
            Ok(()) => return process::change_directory(&path),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Mounts the overlay and answers it, still detached; in a scratch directory.
///
/// The trees are put in this process's own mounts first: the kernel lets nobody
/// stack detached ones who is not privileged where they were detached.
pub(crate) fn overlay(trees: &Trees, by_fd: bool) -> io::Result<OwnedFd> {
    let mut names = Vec::with_capacity(trees.layers.len());
    for (n, layer) in trees.layers.iter().enumerate() {
        let name = n.to_string();
        fs::create_dir(&name)?;
        mount::attach(layer, &CString::new(name.as_str())?)?;
        names.push(name);
    }
    fs::create_dir("up")?;
    mount::attach(&trees.upper, c"up")?;
    let root = if by_fd { with_fds(&names) } else { with_paths(&names) }?;
    // A work directory that could not be made turns the mount read-only, silently.
    if mount::is_read_only(root.as_raw_fd())? {
        // Why, is what the next one is told who makes something there.
        fs::create_dir("up/work/why")?;
        let why = fs::create_dir("up/work/why/not");
        let _ = fs::remove_dir_all("up/work/why");
        why?;
        return Err(io::Error::from_raw_os_error(libc::EROFS));
    }
    Ok(root)
}

fn with_fds(names: &[String]) -> io::Result<OwnedFd> {
    let open = |path: &str| mount::open_path(libc::AT_FDCWD, &CString::new(path)?);
    let config = mount::Config::open(c"overlay")?;
    config.set(c"source", c"pixels")?;
    config.flag(c"userxattr")?;
    // The highest comes first.
    for name in names.iter().rev() {
        config.set_fd(c"lowerdir+", open(name)?.as_raw_fd())?;
    }
    config.set_fd(c"upperdir", open("up/tree")?.as_raw_fd())?;
    config.set_fd(c"workdir", open("up/work")?.as_raw_fd())?;
    config.mount(mount::NODEV)
}

/// For kernels before 6.13. They take one page of options, so with these short
/// names it ends at about a thousand layers, beyond what overlayfs itself stacks.
fn with_paths(names: &[String]) -> io::Result<OwnedFd> {
    let lower: Vec<&str> = names.iter().rev().map(String::as_str).collect();
    let lower = lower.join(":");
    fs::create_dir("merged")?;
    let options = format!("userxattr,lowerdir={lower},upperdir=up/tree,workdir=up/work");
    mount::mount(c"overlay", c"merged", libc::MS_NODEV, &CString::new(options)?)?;
    mount::clone_tree(libc::AT_FDCWD, c"merged", false)
}

/// Makes the overlay this process's root; nothing of the host's stays mounted.
pub(crate) fn become_root(root: &OwnedFd) -> io::Result<()> {
    fs::create_dir("root")?;
    mount::attach(root, c"root")?;
    process::change_directory(c"root")?;
    mount::pivot_here()
}

/// Whether a directory is there to mount on, made or put in the place of
/// whatever else has the name. Only the pixel's files can be reached here.
pub(crate) fn ensure_dir(path: &str, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(path)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    fs::DirBuilder::new().mode(mode).create(path)
}

/// An empty file to mount a device or a mask on.
pub(crate) fn ensure_file(path: &str) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_symlink() => return Ok(()),
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    let file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    drop(file);
    Ok(())
}
