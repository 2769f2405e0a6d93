//! The network of rootless pixels: `pasta` (of passt), one process a pixel, which
//! turns the pixel's packets into sockets of the user who runs it.
//!
//! What pasta sends comes from the host itself, so that it would reach what
//! listens on the host's own addresses. Two things are against that, and both
//! are the launcher's to do: what [`closed`] says is closed inside the pixel,
//! and there is no `CAP_NET_RAW` in there, because packets made by hand ask no policy
//! (pasta of 2023 passes one to 127.0.0.1 on to the host's loopback).

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use pixels_core::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::routes::{self, Network};
use super::tool;

const WHAT: &str = "connecting the pixel with pasta";
const TUN: &str = "/dev/net/tun";
/// How long the kernel is given to end what was killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running pasta, told from a later process with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pasta {
    /// Its process.
    pub pid: i32,
    /// When that was started, in the kernel's ticks since the boot.
    pub starttime: u64,
}

/// Connects the network namespace of the process `init` (and its user namespace),
/// as `eth0` with the host's IP address and this MAC address. It works when this returns: pasta goes
/// into the background once it is set up. `dir` takes a file for a moment.
///
/// # Errors
/// `Unsupported` without pasta; what it said.
pub async fn attach(init: i32, mac: [u8; 6], dir: &Path) -> Result<Pasta> {
    let program = tool::need("pasta", "passt", "a network for ordinary users")?;
    let file = dir.join(format!("pasta-{init}.pid"));
    let mut command = Command::new(program);
    command
        .args(["--config-net", "--ns-ifname", "eth0", "--ipv4-only", "--no-map-gw"])
        .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--quiet"])
        .arg("--pid")
        .arg(&file)
        .args(["--ns-mac-addr", &mac.map(|byte| format!("{byte:02x}")).join(":")])
        .args(["--userns", &format!("/proc/{init}/ns/user")])
        .args(["--netns", &format!("/proc/{init}/ns/net")]);
    let started = tool::run(command, WHAT, &[]).await;
    let pid = std::fs::read_to_string(&file);
    let _ = std::fs::remove_file(&file);
    started.map_err(explain)?;
    let pid = pid.ok().and_then(|text| text.trim().parse().ok());
    let gone = || Error::backend(WHAT, "it ended at once");
    let pid: i32 = pid.ok_or_else(gone)?;
    let starttime = starttime(pid).ok_or_else(gone)?;
    Ok(Pasta { pid, starttime })
}

/// What is to be closed inside a pixel that pasta connects: the host's
/// loopback and its own addresses, as they are now. The name servers given to
/// the pixel stay open; the address that the pixel gets is its own in there.
pub fn closed(resolvers: &[IpAddr]) -> Vec<Network> {
    let own = routes::own_addresses().into_iter();
    let open = |ip: &Ipv4Addr| resolvers.contains(&IpAddr::V4(*ip));
    let loopback = Network { base: Ipv4Addr::new(127, 0, 0, 0), len: 8 };
    let own = own.filter(|ip| !open(ip)).map(Network::single);
    std::iter::once(loopback).chain(own).collect()
}

impl Pasta {
    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        starttime(self.pid) == Some(self.starttime)
    }

    /// Ends it. It does not end by itself when the pixel does: it holds the
    /// pixel's network namespace. One that has ended is no error.
    ///
    /// # Errors
    /// What the kernel said; `Timeout`.
    pub async fn stop(&self) -> Result<()> {
        let failed = |e: std::io::Error| Error::backend("ending pasta", e.to_string());
        let Some(process) = self.open() else { return Ok(()) };
        match pidfd_send_signal(&process, Signal::KILL) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(e) => return Err(failed(e.into())),
        }
        let ended = tokio::task::spawn_blocking(move || {
            let time = Timespec::try_from(PATIENCE).expect("some seconds");
            loop {
                match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&time)) {
                    Err(rustix::io::Errno::INTR) => {}
                    ended => break ended,
                }
            }
        });
        match ended.await {
            Ok(Ok(0)) => Err(Error::Timeout { what: "ending pasta".into(), after: PATIENCE }),
            Ok(Err(e)) => Err(failed(e.into())),
            _ => Ok(()),
        }
    }

    /// A descriptor of the very process; looked at again once it is held.
    fn open(&self) -> Option<OwnedFd> {
        let process = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        self.runs().then_some(process)
    }
}

/// When a process was started; `None` once it is gone or a zombie.
fn starttime(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    // The name before it may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18)?.parse().ok())?
}

/// Takes what old versions say of the missing log out, and says what mends it.
fn explain(error: Error) -> Error {
    let Error::Backend { what, message, source } = error else { return error };
    let words: Vec<_> = message.split("Failed to send ").collect();
    let noise = |part: &str| part.split_once(" bytes to syslog").map(|(_, rest)| rest.to_owned());
    let message: String = words
        .iter()
        .enumerate()
        .map(|(at, part)| match noise(part).filter(|_| at > 0) {
            Some(rest) => rest,
            None => (*part).to_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ");
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let error = Error::Backend { what, message, source };
    if tun_is_open() { error } else { error.with_hint(format!("as root: chmod 666 {TUN}")) }
}

/// Whether this user may make network devices for namespaces of its own.
pub(super) fn tun_is_open() -> bool {
    std::fs::File::options().read(true).write(true).open(TUN).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_start() {
        let own = i32::try_from(std::process::id()).unwrap();
        let starttime = starttime(own).unwrap();
        assert!(Pasta { pid: own, starttime }.runs());
        assert!(!Pasta { pid: own, starttime: starttime + 1 }.runs());
    }

    #[test]
    fn the_log_that_is_missing_is_left_out() {
        let error = Error::backend(
            "x",
            "Failed to send 45 bytes to syslog Failed to open tun socket in namespace ",
        );
        assert_eq!(explain(error).to_string(), "x: Failed to open tun socket in namespace");
    }

    #[test]
    fn name_servers_stay_open() {
        let all = closed(&[]);
        assert_eq!(all[0].to_string(), "127.0.0.0/8");
        for own in &all[1..] {
            assert!(!closed(&[own.base.into()]).contains(own));
        }
    }
}
