//! The face `launch`: makes a pixel's first process and hands it what it is to
//! be built of. Then it stays as the pixel's supervisor, which only watches:
//! when the pixel has ended it takes its control groups away. Killing it harms
//! nothing.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pixels_guest_api::host::{Answer, GO, LaunchSpec, Net, Purpose, Range};

use super::child::{self, Child};
use super::tree::{empty, remove};
use super::{Call, Failed, Step, answer, cgroup, fail, failed, malformed, receive, store, watch};
use crate::init;
use crate::link::{self, HostSide};
use crate::sys::process::{self, Fork, Pid};
use crate::sys::{fd, mount, ns, signal, socket};

/// How little of a candidate init is when memory has run out (proc(5)).
const LAST: &str = "-900";

/// Runs the face; answers the exit code of the process that was started, which
/// is over as soon as the supervisor has a life of its own.
pub(crate) fn run() -> i32 {
    let call = match receive() {
        Ok(call) => call,
        Err(failed) => {
            fd::complain(&String::from_utf8_lossy(&failed.encode()[4..]));
            return 1;
        }
    };
    let Call { socket, spec, fds } = call;
    let started = LaunchSpec::decode(&spec).map_err(malformed).and_then(|spec| {
        fail::set(&spec.fail);
        if let Some(ids) = &spec.store {
            store::enter(ids)?;
        }
        Ok(spec)
    });
    let spec = match started {
        Ok(spec) => spec,
        Err(failed) => {
            let _ = answer(&socket, Answer::Failed, &failed.encode());
            return 1;
        }
    };
    match process::fork() {
        Ok(Fork::Child) => process::exit_now(supervise(&spec, socket, Vec::from(fds))),
        Ok(Fork::Parent(_)) => 0,
        Err(e) => {
            let failed = Failed { step: "fork".into(), error: e };
            let _ = answer(&socket, Answer::Failed, &failed.encode());
            1
        }
    }
}

/// The supervisor's life.
fn supervise(spec: &LaunchSpec, socket: OwnedFd, mut fds: Vec<OwnedFd>) -> i32 {
    // A session of its own: no terminal's signals reach it.
    let _ = process::new_session();
    signal::set_default(libc::SIGCHLD);
    signal::set_ignored(libc::SIGPIPE);
    fail::at("launch-forked");
    let (files, lock) = match spec.purpose {
        Purpose::Files(_) if !fds.is_empty() => (Some(fds.remove(0)), None),
        Purpose::Boot if !fds.is_empty() => (None, Some(fds.remove(0))),
        _ => (None, None),
    };
    let mut born = None;
    let result = make(spec, &socket, files, &mut born);
    fail::at("launch-up");
    let up = match result {
        Ok(()) => answer(&socket, Answer::Done, &[]).is_ok(),
        Err(failed) => {
            end(spec, born.take());
            let _ = answer(&socket, Answer::Failed, &failed.encode());
            false
        }
    };
    drop(socket);
    if !up {
        // Whoever asked is gone before it knew that the pixel is there.
        end(spec, born.take());
        return 1;
    }
    // Whoever has the lock from now on finds the pixel running.
    drop(lock);
    let Some((pid, pidfd)) = born else { return 1 };
    watch::until_end(&pidfd, &spec.cgroups);
    process::wait(pid, true);
    0
}

/// Ends a pixel that did not come up; nothing of it is left when this returns.
fn end(spec: &LaunchSpec, born: Option<(Pid, OwnedFd)>) {
    if let Some((pid, pidfd)) = born {
        let _ = ns::pidfd_kill(&pidfd, libc::SIGKILL);
        process::wait(pid, true);
    }
    cgroup::kill(&spec.cgroups);
    cgroup::remove(&spec.cgroups);
}

/// Makes the pixel; returns when it is up.
fn make(
    spec: &LaunchSpec,
    socket: &OwnedFd,
    files: Option<OwnedFd>,
    born: &mut Option<(Pid, OwnedFd)>,
) -> Result<(), Failed> {
    let upper = Path::new(OsStr::from_bytes(&spec.upper));
    if !upper.join("work").is_dir() {
        // One that was being made when its maker was killed.
        remove(upper).step("clear the writable layer")?;
        empty(upper, spec.disk_root, spec.quota, spec.subvolumes)
            .step("make the writable layer")?;
    }
    fail::at("launch-upper");
    let binary = fs::File::open("/proc/self/exe").step("open this program")?;
    let (orders, theirs) = socket::pair().step("make a socket")?;
    let (status, told) = fd::pipe().step("make a pipe")?;
    let group = cgroup::unified(&spec.cgroups).step("open the control group")?;
    let forked = ns::fork_into(ns::PIXEL, group.as_ref());
    let (fork, pidfd) = forked.step("make the namespaces")?;
    let (pid, pidfd) = match (fork, pidfd) {
        (Fork::Parent(pid), Some(pidfd)) => (pid, pidfd),
        _ => {
            drop((orders, status));
            let child = Child { spec, orders: theirs, status: told, binary: binary.into(), files };
            process::exit_now(child.run())
        }
    };
    drop((theirs, told, files, binary));
    let (_, pidfd) = born.insert((pid, pidfd));
    fail::at("launch-cloned");
    map(pid, "uid_map", spec.uids).step("map user ids")?;
    map(pid, "gid_map", spec.gids).step("map group ids")?;
    fail::at("launch-mapped");
    // A pixel that runs out of memory loses other processes first.
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), LAST);
    if let Net::Veth { host, mac, address, gateway, mtu } = &spec.net {
        let peer = fs::File::open(format!("/proc/{pid}/ns/net")).step("open the network")?;
        let side = HostSide {
            name: host,
            peer: peer.as_raw_fd(),
            mac: *mac,
            address: *address,
            gateway: *gateway,
            mtu: *mtu,
        };
        link::host_side(&side).step("make the network interface")?;
        fail::at("launch-linked");
    }
    let (layers, upper) = trees(spec, pid)?;
    let mut payload = pid.cast_unsigned().to_be_bytes().to_vec();
    payload.extend_from_slice(&start_time(pid).step("read the start time")?.to_be_bytes());
    answer(socket, Answer::Born, &payload).step("tell of the process")?;
    fail::at("launch-born");
    wait_for_go(socket, pidfd)?;
    for some in layers.chunks(socket::MAX_FDS) {
        let raw = socket::raw(some);
        socket::send(orders.as_raw_fd(), &[child::LAYERS], &raw).step("hand the layers over")?;
    }
    let raw = [upper.as_raw_fd()];
    socket::send(orders.as_raw_fd(), &[child::UPPER], &raw).step("hand the layers over")?;
    drop((layers, upper, orders));
    fail::at("launch-ordered");
    hear(&status)
}

fn map(pid: Pid, file: &str, range: Range) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/{file}"), format!("0 {} {}\n", range.base, range.count))
}

/// Detached copies of the mounts that the layers lie on, mapped where asked.
fn trees(spec: &LaunchSpec, pid: Pid) -> Result<(Vec<OwnedFd>, OwnedFd), Failed> {
    let namespace: OwnedFd =
        fs::File::open(format!("/proc/{pid}/ns/user")).step("open the user namespace")?.into();
    let open = |path: &[u8], attributes: u64| -> io::Result<OwnedFd> {
        let tree = mount::clone_tree(libc::AT_FDCWD, &CString::new(path)?, false)?;
        if spec.idmap {
            mount::map_ids(&tree, &namespace)?;
        }
        mount::restrict(&tree, attributes)?;
        Ok(tree)
    };
    let mut layers = Vec::with_capacity(spec.layers.len());
    for path in &spec.layers {
        layers.push(open(path, mount::RDONLY | mount::NODEV).step("open a layer")?);
    }
    let upper = open(&spec.upper, mount::NODEV).step("open the writable layer")?;
    Ok((layers, upper))
}

/// The library has written down who the pixel is.
fn wait_for_go(socket: &OwnedFd, pidfd: &OwnedFd) -> Result<(), Failed> {
    let mut fds =
        [fd::watch(socket.as_raw_fd(), libc::POLLIN), fd::watch(pidfd.as_raw_fd(), libc::POLLIN)];
    while fd::poll(&mut fds, None).step("wait")? == 0 {}
    let mut byte = [0];
    match fd::read(socket.as_raw_fd(), &mut byte) {
        Ok(1) if byte[0] == GO && fds[0].revents != 0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::ECANCELED)).step("wait for the start"),
    }
}

/// What the child says of itself.
fn hear(status: &OwnedFd) -> Result<(), Failed> {
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match fd::read(status.as_raw_fd(), &mut chunk).step("hear the pixel")? {
            0 => break,
            n => said.extend_from_slice(&chunk[..n]),
        }
        if said.first() == Some(&init::READY) {
            return Ok(());
        }
    }
    match said.split_first() {
        Some((&init::FAILED, rest)) => Err(Failed::decode(rest)),
        _ => Err(failed(
            "start the pixel",
            io::Error::other("its first process ended without a word"),
        )),
    }
}

/// A descriptor of a pixel's first process. It is that process's for good: if the
/// start time is right once it is open, it is the pixel's.
pub(crate) fn find(pid: u32, started: u64) -> Result<OwnedFd, Failed> {
    let pid = Pid::try_from(pid).unwrap_or(-1);
    let pidfd = ns::pidfd_open(pid).step("find the pixel")?;
    let same = start_time(pid).step("find the pixel")? == started;
    let found = if same { Ok(pidfd) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    found.step("find the pixel")
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5)).
fn start_time(pid: Pid) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    // The name may hold anything, so what counts is behind the last parenthesis.
    let at = stat.iter().rposition(|b| *b == b')').ok_or(io::ErrorKind::InvalidData)?;
    let rest = String::from_utf8_lossy(&stat[at + 1..]);
    let field = rest.split_ascii_whitespace().nth(19);
    field.and_then(|f| f.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
