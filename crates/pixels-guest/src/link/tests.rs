//! With real namespaces: one that plays the host, one that plays a pixel.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use super::lab::{Namespace, cannot_run, talk};
use super::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 209, 0, 7);
const MAC: [u8; 6] = [2, 0, 0, 7, 0xab, 0xcd];

fn side<'a>(ifname: &'a str, pixel: &'a Namespace, address: Ipv4Addr) -> HostSide<'a> {
    let peer = pixel.fd();
    HostSide { name: ifname.as_bytes(), peer, mac: MAC, address, gateway: GATEWAY, mtu: Some(1400) }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn host_and_pixel_reach_each_other() {
    if cannot_run("host_and_pixel_reach_each_other") {
        return;
    }
    let (host, pixel) = (Namespace::new(), Namespace::new());
    host.enter(|| host_side(&side("pxl7", &pixel, ADDRESS))).unwrap();
    pixel.enter(|| guest_side(ADDRESS, GATEWAY)).unwrap();
    assert_eq!(talk(&host, &pixel, ADDRESS.into()), GATEWAY);
    assert_eq!(talk(&pixel, &host, GATEWAY.into()), ADDRESS);
    // Its own loopback works too.
    assert_eq!(talk(&pixel, &pixel, Ipv4Addr::LOCALHOST.into()), Ipv4Addr::LOCALHOST);
    host.enter(|| {
        for (setting, value) in
            [("rp_filter", "1"), ("proxy_arp", "0"), ("arp_ignore", "1"), ("forwarding", "1")]
        {
            let found = read(&format!("/proc/sys/net/ipv4/conf/pxl7/{setting}"));
            assert_eq!(found, value, "{setting}");
        }
        assert_eq!(read("/proc/sys/net/ipv6/conf/pxl7/disable_ipv6"), "1");
    });
    // Neither end has an IPv6 address, not even a local one.
    for (namespace, name) in [(&host, "pxl7"), (&pixel, "eth0")] {
        let addresses = namespace.enter(|| read("/proc/thread-self/net/if_inet6"));
        assert!(!addresses.contains(name), "{addresses}");
    }
}

#[test]
fn a_taken_name_or_address_is_told_and_leaves_nothing() {
    if cannot_run("a_taken_name_or_address_is_told_and_leaves_nothing") {
        return;
    }
    let (host, one, two) = (Namespace::new(), Namespace::new(), Namespace::new());
    host.enter(|| host_side(&side("pxl7", &one, ADDRESS))).unwrap();
    let taken = host.enter(|| host_side(&side("pxl7", &two, ADDRESS))).unwrap_err();
    assert_eq!((taken.step, errno(&taken.error)), (MAKING, libc::EEXIST), "{taken}");
    let taken = host.enter(|| host_side(&side("pxl8", &two, ADDRESS))).unwrap_err();
    assert_eq!((taken.step, errno(&taken.error)), (ROUTING, libc::EEXIST), "{taken}");
    let links = host.enter(|| read("/proc/thread-self/net/dev"));
    assert!(links.contains("pxl7:") && !links.contains("pxl8:"), "{links}");
    let links = two.enter(|| read("/proc/thread-self/net/dev"));
    assert!(!links.contains("eth0:"), "{links}");
    // The first is untouched by all that.
    one.enter(|| guest_side(ADDRESS, GATEWAY)).unwrap();
    assert_eq!(talk(&host, &one, ADDRESS.into()), GATEWAY);
}

#[test]
fn a_pixel_without_a_network_has_its_loopback() {
    if cannot_run("a_pixel_without_a_network_has_its_loopback") {
        return;
    }
    let pixel = Namespace::new();
    pixel.enter(loopback_only).unwrap();
    assert_eq!(talk(&pixel, &pixel, Ipv4Addr::LOCALHOST.into()), Ipv4Addr::LOCALHOST);
    let failed = pixel.enter(|| guest_side(ADDRESS, GATEWAY)).unwrap_err();
    assert_eq!(failed.to_string(), "asking for the interface: No such device");
}

#[test]
fn closed_destinations_are_closed_to_bound_sockets_too() {
    if cannot_run("closed_destinations_are_closed_to_bound_sockets_too") {
        return;
    }
    let (host, pixel) = (Namespace::new(), Namespace::new());
    host.enter(|| host_side(&side("pxl7", &pixel, ADDRESS))).unwrap();
    let loopback = (Ipv4Addr::new(127, 0, 0, 0), 8);
    pixel.enter(|| {
        guest_side(ADDRESS, GATEWAY).unwrap();
        close(&[loopback, (Ipv4Addr::new(192, 0, 2, 1), 32)]).unwrap();
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        assert!(socket.send_to(b"x", "192.0.2.1:9").is_err());
        assert!(socket.send_to(b"x", "192.0.2.2:9").is_ok());
        assert!(socket.send_to(b"x", "127.0.0.1:9").is_ok());
        let name = c"eth0";
        // SAFETY: `name` is as long as is said.
        let bound = unsafe {
            let (level, option) = (libc::SOL_SOCKET, libc::SO_BINDTODEVICE);
            libc::setsockopt(socket.as_raw_fd(), level, option, name.as_ptr().cast(), 5)
        };
        assert_eq!(bound, 0);
        assert!(socket.send_to(b"x", "127.0.0.1:9").is_err(), "it leaves through eth0");
        assert!(socket.send_to(b"x", "192.0.2.1:9").is_err());
        assert!(socket.send_to(b"x", "192.0.2.2:9").is_ok());
        assert_eq!(close(&[loopback]).unwrap_err().step, "closing destinations");
    });
}
