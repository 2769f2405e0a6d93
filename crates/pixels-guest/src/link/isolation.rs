//! What pixels reach and what they do not: the links of this file's parent
//! under the rules of the engine, on a host that is a namespace, with somebody outside.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pixels_engine::net::firewall::{Firewall, Rules};
use pixels_engine::net::{GATEWAY, interface, subnet};

use super::lab::{Namespace, cannot_run, talk};
use super::{HostSide, guest_side, host_side};

/// The host's address towards the outside, and the one that it finds there.
const UPLINK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// For what must not work: all is on this machine, where what works takes microseconds.
const BLOCKED: Duration = Duration::from_millis(400);

/// A host with two pixels and somebody outside, under the rules.
struct World {
    host: Namespace,
    outside: Namespace,
    pixels: [Namespace; 2],
    state: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            host: Namespace::new(),
            outside: Namespace::new(),
            pixels: [Namespace::new(), Namespace::new()],
            state: tempfile::tempdir().unwrap(),
        };
        world.host.enter(super::loopback_only).unwrap();
        world.attach("up0", &world.outside, OUTSIDE, UPLINK);
        // An uplink's address has the whole world as its scope, unlike a gateway's:
        // the host sends under no other.
        let uplink = format!("{UPLINK}/32");
        let outside = format!("{OUTSIDE}/32");
        for change in [
            ["address", "del", &uplink, "dev", "up0"],
            ["address", "add", &uplink, "dev", "up0"],
            // It went with the only address.
            ["route", "add", &outside, "dev", "up0"],
        ] {
            let ip = || Command::new("ip").args(change).status();
            assert!(world.host.enter(ip).unwrap().success());
        }
        for slot in 0..2 {
            let (name, pixel) = (subnet::interface(slot), &world.pixels[slot as usize]);
            world.attach(&name, pixel, address(slot), GATEWAY);
        }
        world.ensure(&[]);
        world
    }

    fn attach(&self, ifname: &str, to: &Namespace, address: Ipv4Addr, gateway: Ipv4Addr) {
        let (name, mac) = (ifname.as_bytes(), subnet::mac(u32::from(address), b"id"));
        let side = HostSide { name, peer: to.fd(), mac, address, gateway, mtu: None };
        self.host.enter(|| host_side(&side)).unwrap();
        to.enter(|| guest_side(address, gateway)).unwrap();
    }

    /// Has the engine set its rules on this host.
    fn ensure(&self, resolvers: &[Ipv4Addr]) {
        let resolvers: Vec<IpAddr> = resolvers.iter().copied().map(IpAddr::V4).collect();
        self.host.enter(|| block_on(Firewall::new(self.state.path()).ensure(&resolvers))).unwrap();
    }

    fn nft(&self, args: &[&str]) -> String {
        let output = self.host.enter(|| Command::new("nft").args(args).output()).unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn address(slot: u32) -> Ipv4Addr {
    subnet::Subnet::default().address(slot).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Whether `from` can connect to a port of `to`, by that address of its.
fn reaches(from: &Namespace, to: &Namespace, at: Ipv4Addr, port: u16) -> bool {
    let listener = to.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    let at = SocketAddr::from((at, listener.local_addr().unwrap().port()));
    from.enter(|| TcpStream::connect_timeout(&at, BLOCKED)).is_ok()
}

/// Whether a datagram from `from` with the source address `source` arrives at `to`.
fn arrives(from: &Namespace, source: Ipv4Addr, to: &Namespace, at: Ipv4Addr) -> bool {
    let receiver = to.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    receiver.set_read_timeout(Some(BLOCKED)).unwrap();
    let port = receiver.local_addr().unwrap().port();
    from.enter(|| {
        let sender = UdpSocket::bind((source, 0)).unwrap();
        // A refusal that comes back is as good as silence.
        let _ = sender.send_to(b"x", (at, port));
    });
    receiver.recv(&mut [0]).is_ok()
}

#[test]
fn the_rules_are_accepted_by_nft() {
    if cannot_run("the_rules_are_accepted_by_nft") {
        return;
    }
    let host = Namespace::new();
    for resolvers in [BTreeSet::new(), BTreeSet::from([UPLINK, OUTSIDE])] {
        let rules = Rules::new(&resolvers);
        let output = host.enter(|| {
            let mut command = Command::new("nft");
            command.args(["-c", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("nft is installed");
            child.stdin.take().unwrap().write_all(rules.text().as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn pixels_reach_the_outside_and_the_host_reaches_them() {
    if cannot_run("pixels_reach_the_outside_and_the_host_reaches_them") {
        return;
    }
    let world = World::new();
    for (slot, pixel) in world.pixels.iter().enumerate() {
        let own = address(slot as u32);
        assert_eq!(talk(&world.host, pixel, own.into()), GATEWAY);
        // It is seen under the host's address.
        assert_eq!(talk(pixel, &world.outside, OUTSIDE.into()), UPLINK);
        assert!(arrives(pixel, own, &world.outside, OUTSIDE));
    }
}

#[test]
fn pixels_reach_neither_each_other_nor_the_host() {
    if cannot_run("pixels_reach_neither_each_other_nor_the_host") {
        return;
    }
    let world = World::new();
    let ([a, b], host) = (&world.pixels, &world.host);
    assert!(!reaches(a, b, address(1), 0), "another pixel");
    assert!(!arrives(a, address(0), b, address(1)), "another pixel");
    for at in [GATEWAY, UPLINK, address(0)] {
        // The last is its own, where nobody listens.
        assert!(!reaches(a, host, at, 0), "the host as {at}");
        assert!(!arrives(a, address(0), host, at), "the host as {at}");
    }
    assert!(!reaches(&world.outside, a, address(0), 0), "from outside");
    assert!(!arrives(&world.outside, OUTSIDE, a, address(0)), "from outside");
    assert!(!reaches(a, host, UPLINK, 53), "the host's name server, which no pixel was given");
    // What is dropped above is dropped by the rules.
    world.nft(&["flush", "ruleset"]);
    assert!(reaches(a, b, address(1), 0) && reaches(a, host, UPLINK, 0));
    assert!(reaches(&world.outside, a, address(0), 0));
    // And is so again before the next pixel starts.
    world.ensure(&[]);
    assert!(!reaches(a, b, address(1), 0) && !reaches(a, host, UPLINK, 0));
    assert!(!reaches(&world.outside, a, address(0), 0));
}

#[test]
fn a_name_server_on_the_host_answers_pixels_and_nothing_else_there() {
    if cannot_run("a_name_server_on_the_host_answers_pixels_and_nothing_else_there") {
        return;
    }
    let world = World::new();
    let (pixel, host) = (&world.pixels[0], &world.host);
    world.ensure(&[UPLINK]);
    assert!(reaches(pixel, host, UPLINK, 53));
    assert!(!reaches(pixel, host, UPLINK, 54) && !reaches(pixel, host, GATEWAY, 53));
    // Somebody with other settings does not take it away.
    world.ensure(&[OUTSIDE]);
    assert!(reaches(pixel, host, UPLINK, 53));
}

#[test]
fn forged_addresses_are_dropped() {
    if cannot_run("forged_addresses_are_dropped") {
        return;
    }
    let world = World::new();
    let pixel = &world.pixels[0];
    let (neighbour, nobody) = (address(1), address(9));
    let stranger = Ipv4Addr::new(203, 0, 113, 5);
    for forged in [neighbour, nobody, stranger] {
        let own = format!("{forged}/32");
        let add = || Command::new("ip").args(["address", "add", &own, "dev", "eth0"]).status();
        assert!(pixel.enter(add).unwrap().success());
    }
    // The host's own filter may be switched off by its administrator: the rules do not need it.
    for filter in ["1", "0"] {
        for conf in ["all", "pxl0"] {
            let file = format!("/proc/sys/net/ipv4/conf/{conf}/rp_filter");
            world.host.enter(|| std::fs::write(file, filter)).unwrap();
        }
        assert!(arrives(pixel, address(0), &world.outside, OUTSIDE));
        for forged in [neighbour, nobody, stranger] {
            assert!(!arrives(pixel, forged, &world.outside, OUTSIDE), "{forged}, filter {filter}");
        }
    }
}

#[test]
fn rules_are_written_once_and_again_after_any_change() {
    if cannot_run("rules_are_written_once_and_again_after_any_change") {
        return;
    }
    let world = World::new();
    let handles = || world.nft(&["-a", "list", "table", "inet", "pixels"]);
    let first = handles();
    world.ensure(&[]);
    assert_eq!(handles(), first, "nothing was changed, nothing is written");
    // What an administrator may do to a table by accident.
    for accident in [
        &["flush", "chain", "inet", "pixels", "forward"][..],
        &["flush", "table", "inet", "pixels"],
        &["delete", "table", "inet", "pixels"],
        &["insert", "rule", "inet", "pixels", "forward", "accept"],
    ] {
        world.nft(accident);
        world.ensure(&[]);
        let rules = world.nft(&["list", "table", "inet", "pixels"]);
        assert!(rules.contains("iifname \"pxl*\" oifname \"pxl*\" drop"), "{accident:?}: {rules}");
        assert!(!rules.contains("\t\taccept\n"), "{accident:?}: {rules}");
    }
    let before = handles();
    world.ensure(&[]);
    assert_eq!(handles(), before);
    // Rules of others stay.
    world.nft(&["add", "table", "ip", "theirs"]);
    world.ensure(&[]);
    assert!(world.nft(&["list", "tables"]).contains("table ip theirs"));
}

#[test]
fn several_at_once_set_the_same_rules() {
    if cannot_run("several_at_once_set_the_same_rules") {
        return;
    }
    let world = World::new();
    world.nft(&["flush", "ruleset"]);
    std::thread::scope(|scope| {
        for last in 0..8 {
            let world = &world;
            scope.spawn(move || world.ensure(&[Ipv4Addr::new(192, 0, 2, last)]));
        }
    });
    let rules = world.nft(&["list", "table", "inet", "pixels"]);
    for last in 0..8 {
        assert!(rules.contains(&format!("192.0.2.{last}")), "{rules}");
    }
    assert!(!reaches(&world.pixels[0], &world.host, GATEWAY, 0));
    // Taken away as a whole.
    world.host.enter(|| block_on(Firewall::new(world.state.path()).remove())).unwrap();
    assert!(!world.nft(&["list", "tables"]).contains("pixels"));
}

#[test]
fn a_link_is_removed_at_once() {
    if cannot_run("a_link_is_removed_at_once") {
        return;
    }
    let world = World::new();
    world.host.enter(|| {
        assert_eq!(interface::slots(), [0, 1]);
        interface::remove(1).unwrap();
        assert_eq!(interface::slots(), [0]);
        interface::remove(1).unwrap();
        let gone = Path::new("/proc/sys/net/ipv4/conf/pxl1");
        assert!(!gone.exists());
    });
    let links = world.pixels[1].enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
    assert!(!links.unwrap().contains("eth0"));
}
