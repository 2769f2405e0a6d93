//! The pixel's first process, from its birth in new namespaces until it becomes
//! init: it builds the root from what the launcher hands it and locks itself down.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use pixels_guest_api::host::{LaunchSpec, Net, Purpose};

use super::rootfs::{self, Trees};
use super::{Failed, Step, cgroup, door, fail, lockdown, mounts};
use crate::sys::{fd, mount, ns, process, socket};
use crate::{init, link};

/// What the launcher says with the descriptors it sends.
pub(crate) const LAYERS: u8 = b'L';
/// The upper directory; the last message before the start.
pub(crate) const UPPER: u8 = b'U';

/// The first line of files that are written anew at every start.
const OURS: &str = "# written at each start; take this line out to keep changes";
/// Made at the first start: from then on files without our line are the user's.
const STARTED: &str = "/var/lib/pixels/identity";

/// What the child holds.
pub(crate) struct Child<'a> {
    pub(crate) spec: &'a LaunchSpec,
    /// To the launcher.
    pub(crate) orders: OwnedFd,
    /// Where failures and readiness are told.
    pub(crate) status: OwnedFd,
    /// This binary.
    pub(crate) binary: OwnedFd,
    /// File operations are served here, for that purpose.
    pub(crate) files: Option<OwnedFd>,
}

impl Child<'_> {
    /// Does everything; returns only if it failed, or when file operations are over.
    pub(crate) fn run(self) -> i32 {
        let told = fd::dup_from(self.status.as_raw_fd(), fd::STDERR + 1);
        match (self.become_pixel(), told) {
            (Ok(code), _) => code,
            (Err(failed), Ok(told)) => {
                let frame = [&[init::FAILED][..], &failed.encode()].concat();
                let _ = fd::write_all(told.as_raw_fd(), &frame);
                1
            }
            (Err(_), Err(_)) => 1,
        }
    }

    fn become_pixel(self) -> Result<i32, Failed> {
        // Until it is a pixel it goes where its launcher goes.
        ns::die_with_parent(libc::SIGKILL).step("tie to the launcher")?;
        // While this process still is the host's for the file system.
        cgroup::join_first(&self.spec.cgroups).step("join the control groups")?;
        fail::at("child-started");
        let trees = self.trees()?;
        process::forbid_tracing().step("forbid tracing")?;
        process::become_user(0, 0, &[]).step("become root of the pixel")?;
        ns::unshare(libc::CLONE_NEWCGROUP).step("make the control group namespace")?;
        mount::isolate(false).step("cut mounts off")?;
        let boot = self.spec.purpose == Purpose::Boot;
        let prepared = boot.then(mounts::prepare).transpose().step("make file systems")?;
        rootfs::scratch().step("make a place for the root")?;
        let root = rootfs::overlay(&trees, self.spec.fd_layers).step("mount the layers")?;
        drop(trees);
        fail::at("child-mounted");
        rootfs::become_root(&root).step("change the root")?;
        drop(root);
        process::set_umask(0o022);
        fail::at("child-rooted");
        if let Some(prepared) = prepared {
            prepared.place(self.spec.memory).step("mount file systems")?;
            mounts::cgroups();
            self.network()?;
            prepared.hide().step("hide the host")?;
            ns::set_hostname(&self.spec.hostname).step("set the host name")?;
            self.settings();
        }
        self.finish()
    }

    /// Waits for the trees, which come when this process's ids are mapped.
    fn trees(&self) -> Result<Trees, Failed> {
        let mut layers = Vec::new();
        loop {
            let mut order = [0];
            let received = socket::receive(self.orders.as_raw_fd(), &mut order);
            let (n, mut fds) = received.step("hear the launcher")?;
            match (n, order[0], fds.len()) {
                (1, LAYERS, _) => layers.append(&mut fds),
                (1, UPPER, 1) => return Ok(Trees { layers, upper: fds.remove(0) }),
                _ => {
                    return Err(io::Error::from_raw_os_error(libc::EPIPE))
                        .step("hear the launcher");
                }
            }
        }
    }

    fn network(&self) -> Result<(), Failed> {
        // Anybody may ping, and services may use any port: it is their machine.
        for (key, value) in
            [("net/ipv4/ping_group_range", "0 65535"), ("net/ipv4/ip_unprivileged_port_start", "0")]
        {
            let _ = fs::write(format!("/proc/sys/{key}"), value);
        }
        match &self.spec.net {
            Net::External { closed } => {
                link::close(closed).step("close the host's addresses")?;
                link::loopback_only().step("set the loopback interface up")
            }
            Net::None => link::loopback_only().step("set the loopback interface up"),
            Net::Veth { address, gateway, .. } => {
                link::guest_side(*address, *gateway).step("set the network up")
            }
        }
    }

    /// Files that name this machine and its network. A full or read-only disk, or
    /// what the guest has put in their places, keeps no pixel from starting.
    fn settings(&self) {
        let first = fs::symlink_metadata(STARTED).is_err();
        let hostname = [&self.spec.hostname[..], b"\n"].concat();
        let _ = write("/etc/hostname", &hostname);
        for (path, content) in
            [("/etc/hosts", &self.spec.hosts), ("/etc/resolv.conf", &self.spec.resolv)]
        {
            let ours = fd::read_file(path, 1 << 20).is_ok_and(|t| t.starts_with(OURS.as_bytes()));
            if first || ours || fs::metadata(path).is_err() {
                let text = [OURS.as_bytes(), b"\n", content].concat();
                let _ = write(path, &text);
            }
        }
    }

    /// The last steps with rights; then init, or the service of files.
    fn finish(self) -> Result<i32, Failed> {
        if let Purpose::Files(idle) = self.spec.purpose {
            let door = self.files.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF));
            let door = door.step("take the files' socket")?;
            lockdown::apply(&self.spec.lockdown).step("lock down")?;
            fd::write_all(self.status.as_raw_fd(), &[init::READY]).step("say that it is ready")?;
            drop(self.status);
            return Ok(door::open(&door, Duration::from_millis(idle.into())));
        }
        lockdown::apply(&self.spec.lockdown).step("lock down")?;
        fail::at("child-locked");
        // From here on it outlives its launcher.
        ns::die_with_parent(0).step("let go of the launcher")?;
        let status = self.status.into_raw_fd();
        fd::close_all_on_exec();
        fd::dup_onto(status, init::STATUS).step("keep the status pipe")?;
        let env: Vec<CString> =
            self.spec.env.iter().filter_map(|v| CString::new(&v[..]).ok()).collect();
        let argv = [c"pixels-guest".to_owned(), c"init".to_owned()];
        Err(process::execute_fd(&self.binary, &argv, &env)).step("become init")
    }
}

/// Replaces a file whole, whatever is in its place but a directory.
fn write(path: &str, content: &[u8]) -> io::Result<()> {
    if fd::read_file(path, 1 << 20).is_ok_and(|now| now == content)
        && fs::symlink_metadata(path).is_ok_and(|m| m.is_file())
    {
        return Ok(());
    }
    let new = format!("{path}.pixels-new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    file.write_all(content)?;
    fs::rename(&new, path)
}
