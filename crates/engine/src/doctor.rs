//! What works on this machine and what does not, what is lost by that, and the
//! command that mends it. The network's part is in `net::doctor`.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use pixels_core::{Error, Finding, Level, size};
use pixels_guest_api::host::TreeOp;
use rustix::fs::{CWD, Mode, OFlags};

use crate::cgroup::Cgroups;
use crate::engine::{Engine, Ready, kernel};
use crate::ids::{self, Owner};
use crate::image::debootstrap::Machine;
use crate::limits::file_system;
use crate::net::firewall::Firewall;
use crate::net::resolvers::Resolvers;
use crate::net::{self, Network, tool};
use crate::settings::Feature;

/// Overlays in user namespaces (5.11) and `mount_setattr` (5.12).
const OLDEST: (u32, u32) = (5, 12);
/// Less than an image and what is written to it take.
const LITTLE: u64 = 2 << 30;
/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The kernel's settings.
const SYSCTL: &str = "/proc/sys";

impl Engine {
    /// Everything that can be found out; with `fix` what is safe to mend is mended
    /// first: the store's directory and its mode, forwarding and the packet filter.
    pub(crate) async fn findings(&self, fix: bool) -> Vec<Finding> {
        let root = rustix::process::geteuid().is_root();
        let mut out = vec![version(kernel())];
        out.extend(user_namespaces(Path::new(SYSCTL), root));
        out.push(overlay(&read("/proc/filesystems"), &modules()));
        out.push(seccomp(&read("/proc/sys/kernel/seccomp/actions_avail")));
        out.extend(ranges(root));
        if fix {
            out.extend(self.mend(root).await);
        }
        let ready = match self.ready() {
            Ok(ready) => ready,
            Err(e) => {
                // What a user lacks has been told.
                if out.iter().all(|f| f.detail != e.to_string()) {
                    out.push(told("store", &e));
                }
                return out;
            }
        };
        out.push(trial(self, ready).await);
        out.extend(self.layering(ready));
        out.push(control_groups(&ready.cgroups, root, self.config.may(Feature::Cgroups)));
        out.extend(self.storage(ready));
        out.push(server(&self.config.image_server).await);
        out.push(images(&Machine::of_process(), root));
        if self.config.network == Network::Open {
            out.extend(net::doctor::findings(root, &self.config.subnet, &self.config.dns).await);
        } else {
            let detail = "network = \"none\": pixels have nothing but loopback";
            out.push(Finding::new(Level::Ok, "network", detail));
        }
        out
    }

    /// Does what is safe; says what could not be done.
    async fn mend(&self, root: bool) -> Vec<Finding> {
        let mut out = Vec::new();
        let dir = &self.config.root;
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)));
        if let Err(e) = made {
            out.push(Finding::new(Level::Fail, "store", format!("{}: {e}", dir.display())));
        }
        // Without nft there is nothing to set: a finding of its own says so.
        if root && self.config.network == Network::Open && tool::find("nft").is_some() {
            let resolvers = Resolvers::choose(&self.config.dns);
            if let Err(e) = Firewall::new(crate::network::RULES).ensure(&resolvers.servers).await {
                out.push(told("packet filter", &e));
            }
        }
        out
    }

    /// How layers are mounted, and what that costs.
    fn layering(&self, ready: &Ready) -> Vec<Finding> {
        let check = "layers";
        let mut out = Vec::new();
        let forced = |feature| match self.config.may(feature) {
            true => "",
            false => " (PIXELS_ENGINE_DISABLE)",
        };
        if ready.owner == Owner::Root && !ready.idmap {
            let detail = format!(
                "no idmapped mounts{}: every pixel gets a copy of its image with ids of its own",
                forced(Feature::Idmap)
            );
            out.push(Finding::new(Level::Warn, check, detail).with_hint("use Linux 5.19 or later"));
        }
        if !ready.fd_layers {
            let detail = format!(
                "layers are mounted by path{}: nothing is lost but a few milliseconds",
                forced(Feature::FdLayers)
            );
            out.push(Finding::new(Level::Ok, check, detail));
        }
        if out.is_empty() {
            out.push(Finding::new(Level::Ok, check, "shared by all pixels, mounted by descriptor"));
        }
        out
    }

    /// Where everything is kept.
    fn storage(&self, ready: &Ready) -> Vec<Finding> {
        let dir = &self.config.root;
        let kind = file_system(dir).unwrap_or_else(|| "an unknown file system".into());
        let mut out = vec![place(dir, &kind)];
        let copies = if kind == "btrfs" && self.config.may(Feature::Subvolumes) {
            Finding::new(Level::Ok, "checkpoints", "of running pixels are snapshots of subvolumes")
        } else if self.config.may(Feature::Reflink) && reflinks(&dir.join("tmp")) {
            Finding::new(Level::Ok, "checkpoints", "of running pixels share content (reflink)")
        } else {
            let detail = "of running pixels copy what the pixel has written; stopped ones and clones copy nothing";
            Finding::new(Level::Warn, "checkpoints", detail)
                .with_hint("a store on btrfs or xfs does not copy: PIXELS_LOCAL_ROOT")
        };
        out.push(copies);
        out.push(match self.no_disk_limit(ready) {
            None => Finding::new(Level::Ok, "disk limits", "kept by btrfs"),
            Some(why) => {
                let detail = format!("--disk is refused: {why}");
                Finding::new(Level::Warn, "disk limits", detail)
                    .with_hint("as root with a store on btrfs there are limits: PIXELS_LOCAL_ROOT")
            }
        });
        if let Ok(stat) = rustix::fs::statvfs(dir) {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let detail = format!("{} free", size::human(free));
            out.push(match free < LITTLE {
                false => Finding::new(Level::Ok, "space", detail),
                true => Finding::new(Level::Warn, "space", detail).with_hint(
                    "pixels gc removes what is left over, pixels image remove <image> an image",
                ),
            });
        }
        out
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// An error as a finding.
fn told(check: &str, error: &Error) -> Finding {
    let finding = Finding::new(Level::Fail, check, error.to_string());
    match error.hint() {
        Some(hint) => finding.with_hint(hint),
        None => finding,
    }
}

fn version((major, minor): (u32, u32)) -> Finding {
    let detail = format!("Linux {major}.{minor}");
    if (major, minor) >= OLDEST {
        return Finding::new(Level::Ok, "kernel", detail);
    }
    let detail = format!("{detail}: pixels need overlays in user namespaces");
    Finding::new(Level::Fail, "kernel", detail).with_hint("use Linux 5.12 or later")
}

/// What keeps user namespaces from being made, or from being of use.
fn user_namespaces(sysctl: &Path, root: bool) -> Vec<Finding> {
    let check = "user namespaces";
    let get = |name: &str| {
        let text = fs::read_to_string(sysctl.join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let mut out = Vec::new();
    match get("user/max_user_namespaces") {
        None => out.push(
            Finding::new(Level::Fail, check, "this kernel has none")
                .with_hint("use a kernel with CONFIG_USER_NS"),
        ),
        Some(0) => out.push(
            Finding::new(Level::Fail, check, "user.max_user_namespaces is 0")
                .with_hint("sysctl -w user.max_user_namespaces=65536"),
        ),
        Some(_) => {}
    }
    // What follows restricts ordinary users alone.
    if !root && get("kernel/unprivileged_userns_clone") == Some(0) {
        out.push(
            Finding::new(
                Level::Fail,
                check,
                "kernel.unprivileged_userns_clone is 0: root alone may make them",
            )
            .with_hint("as root: sysctl -w kernel.unprivileged_userns_clone=1"),
        );
    }
    if !root && get("kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        out.push(
            Finding::new(
                Level::Fail,
                check,
                "AppArmor takes every right away in those of ordinary users (kernel.apparmor_restrict_unprivileged_userns is 1)",
            )
            .with_hint("as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
        );
    }
    if out.is_empty() {
        out.push(Finding::new(Level::Ok, check, "can be made"));
    }
    out
}

/// The names of modules that could be loaded.
fn modules() -> String {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let dir = Path::new("/lib/modules").join(release);
    let names = ["modules.dep", "modules.builtin"].map(|file| fs::read_to_string(dir.join(file)));
    names.into_iter().flatten().collect()
}

fn overlay(filesystems: &str, modules: &str) -> Finding {
    let check = "overlayfs";
    let has = filesystems.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay");
    if has {
        return Finding::new(Level::Ok, check, "there");
    }
    if modules.contains("/overlay.ko") {
        return Finding::new(Level::Ok, check, "a module, loaded when it is needed");
    }
    Finding::new(Level::Fail, check, "this kernel has none").with_hint("modprobe overlay")
}

fn seccomp(actions: &str) -> Finding {
    if actions.split_ascii_whitespace().any(|a| a == "errno") {
        return Finding::new(Level::Ok, "seccomp", "system calls are filtered");
    }
    Finding::new(Level::Fail, "seccomp", "this kernel cannot filter system calls")
        .with_hint("use a kernel with CONFIG_SECCOMP_FILTER")
}

/// The user ids of pixels, and who else has them.
fn ranges(root: bool) -> Vec<Finding> {
    let check = "user ids";
    if root {
        let taken = ids::overlaps(&read("/etc/subuid"), &read("/etc/passwd"));
        let (first, last) = ids::of_root();
        return vec![match taken {
            None => {
                Finding::new(Level::Ok, check, format!("{first} to {last}, 65536 for each pixel"))
            }
            Some(who) => Finding::new(
                Level::Warn,
                check,
                format!("{first} to {last} are pixels', and {who} has some of them too"),
            )
            .with_hint("give it others in /etc/subuid and /etc/subgid"),
        }];
    }
    let mut out = Vec::new();
    match Owner::current() {
        Ok(owner) => {
            let range = owner.store().map(|ids| (ids.subuid.base, ids.subuid.count));
            let (base, count) = range.unwrap_or_default();
            let detail = format!("{count} from {base} on, which all your pixels share");
            out.push(Finding::new(Level::Ok, check, detail));
        }
        Err(e) => out.push(told(check, &e)),
    }
    for program in ["newuidmap", "newgidmap"] {
        if tool::find(program).is_none() {
            let detail = format!("{program} is missing: ordinary users cannot have pixels");
            out.push(
                Finding::new(Level::Fail, check, detail).with_hint("as root: apt install uidmap"),
            );
        }
    }
    out
}

/// Lets the helper process do nothing, in the store's user namespace where it has one.
async fn trial(engine: &Engine, ready: &Ready) -> Finding {
    let check = "helper process";
    let nothing = ready.tree(&engine.config, TreeOp::Remove { dirs: Vec::new() });
    match ready.launcher.tree(&nothing, &[]).await {
        Ok(_) => Finding::new(Level::Ok, check, "starts, and has the ids of the store"),
        Err(e) => {
            // The hint of an error here names this command.
            let finding = Finding::new(Level::Fail, check, e.to_string());
            match e.hint().filter(|hint| !hint.starts_with("pixels doctor")) {
                Some(hint) => finding.with_hint(hint),
                None => finding,
            }
        }
    }
}

fn control_groups(groups: &Cgroups, root: bool, allowed: bool) -> Finding {
    let check = "limits";
    let version = format!("control groups: {}", groups.version());
    let lacks = groups.lacks();
    if lacks.is_empty() {
        return Finding::new(Level::Ok, check, version);
    }
    let detail = format!("{version}: not limited are {}", lacks.join(", "));
    let finding = Finding::new(Level::Warn, check, detail);
    let second = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    finding.with_hint(match (allowed, root, second) {
        (false, _, _) => "unset PIXELS_ENGINE_DISABLE=cgroups",
        (_, true, _) => "boot with these controllers: cgroup_enable=memory",
        (_, false, true) => {
            "run it in a scope of its own: systemd-run --user --scope -p Delegate=yes pixels …"
        }
        (_, false, false) => {
            "ordinary users need version 2: boot with systemd.unified_cgroup_hierarchy=1"
        }
    })
}

/// The store's directory and what it lies on.
fn place(dir: &Path, kind: &str) -> Finding {
    let detail = format!("{} on {kind}", dir.display());
    match kind {
        // An overlay cannot write to another one, and mapped mounts are no network's.
        "overlay" | "nfs" | "nfs4" | "cifs" | "9p" | "fuse" | "vfat" | "exfat" => {
            Finding::new(Level::Fail, "store", format!("{detail}, which pixels cannot be kept on"))
                .with_hint("put it on a local disk with ext4, xfs or btrfs: PIXELS_LOCAL_ROOT")
        }
        "tmpfs" | "ramfs" => {
            Finding::new(Level::Warn, "store", format!("{detail}: it is gone after a reboot"))
                .with_hint("put it on a disk: PIXELS_LOCAL_ROOT")
        }
        _ => Finding::new(Level::Ok, "store", detail),
    }
}

/// Whether copies share content here: tried with files that never have a name.
fn reflinks(dir: &Path) -> bool {
    let file = || {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR)
    };
    let (Ok(from), Ok(to)) = (file(), file()) else { return false };
    rustix::io::write(&from, &[1; 4096]).is_ok() && rustix::fs::ioctl_ficlone(&to, &from).is_ok()
}

/// Whether somebody answers where images come from.
async fn server(url: &str) -> Finding {
    let check = "image server";
    let parsed = url::Url::parse(url).ok();
    let place = parsed.as_ref().and_then(|u| Some((u.host_str()?, u.port_or_known_default()?)));
    let Some(place) = place else {
        return Finding::new(Level::Fail, check, format!("{url} is no address"));
    };
    let why = match tokio::time::timeout(ANSWER, tokio::net::TcpStream::connect(place)).await {
        Ok(Ok(_)) => return Finding::new(Level::Ok, check, format!("{url} answers")),
        Ok(Err(e)) => e.to_string(),
        Err(_) => "it does not answer".to_owned(),
    };
    Finding::new(Level::Warn, check, format!("{url} is out of reach: {why}")).with_hint(
        "pixels image import takes docker:IMAGE, debootstrap:SUITE, archives and directories too",
    )
}

fn images(machine: &Machine, root: bool) -> Finding {
    let check = "image fallback";
    let Some(suite) = machine.suite() else {
        let detail = "none: without the image server there are local archives alone";
        return Finding::new(Level::Ok, check, detail);
    };
    match machine.plan(&suite, root) {
        Ok(_) => {
            let detail = format!("debootstrap:{suite} where the image server is out of reach");
            Finding::new(Level::Ok, check, detail)
        }
        Err(e) => {
            let detail = format!("none where the image server is out of reach: {e}");
            let finding = Finding::new(Level::Warn, check, detail);
            match e.hint() {
                Some(hint) => finding.with_hint(hint),
                None => finding,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysctl(values: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in values {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
        dir
    }

    #[test]
    fn what_restricts_users_does_not_restrict_root() {
        let dir = sysctl(&[
            ("user/max_user_namespaces", "4096"),
            ("kernel/unprivileged_userns_clone", "0"),
            ("kernel/apparmor_restrict_unprivileged_userns", "1"),
        ]);
        let as_root = user_namespaces(dir.path(), true);
        assert!(as_root.iter().all(|f| f.level == Level::Ok), "{as_root:?}");
        let as_user = user_namespaces(dir.path(), false);
        assert_eq!(as_user.len(), 2);
        assert!(as_user[1].detail.contains("AppArmor"), "{as_user:?}");
        assert!(as_user.iter().all(|f| f.hint.as_deref().unwrap_or("").contains("sysctl -w")));
        let none = sysctl(&[("user/max_user_namespaces", "0")]);
        assert_eq!(user_namespaces(none.path(), true)[0].level, Level::Fail);
    }

    #[test]
    fn kernels_and_what_they_lack() {
        assert_eq!(version((5, 10)).level, Level::Fail);
        assert_eq!(version((6, 1)).level, Level::Ok);
        assert_eq!(overlay("nodev\tsysfs\nnodev\toverlay\n", "").level, Level::Ok);
        assert_eq!(
            overlay("nodev\tsysfs\n", "kernel/fs/overlayfs/overlay.ko.xz:\n").level,
            Level::Ok
        );
        assert_eq!(overlay("", "").level, Level::Fail);
        assert_eq!(seccomp("kill_process errno allow\n").level, Level::Ok);
        assert_eq!(seccomp("").level, Level::Fail);
    }

    #[test]
    fn every_loss_comes_with_what_mends_it() {
        let dir = Path::new("/store");
        for finding in [
            place(dir, "overlay"),
            place(dir, "tmpfs"),
            control_groups(&Cgroups::default(), true, true),
            control_groups(&Cgroups::default(), false, true),
            control_groups(&Cgroups::default(), true, false),
        ] {
            assert!(finding.level > Level::Ok && finding.hint.is_some(), "{finding:?}");
        }
        assert_eq!(place(dir, "ext4").level, Level::Ok);
    }
}
