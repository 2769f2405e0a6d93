//! A pixel's whole life.

use crate::harness::World;
use crate::running::PATIENCE;

#[test]
fn from_create_to_destroy() {
    let world = World::new();
    let a = world.create("a");
    let b = world.name("b");

    let listed = world.ok(["list", "--json"]).json();
    let listed = listed.as_array().unwrap().clone();
    let mine = listed.iter().find(|i| i["name"] == a.as_str()).unwrap();
    assert_eq!((&mine["status"], &mine["backend"]), (&"running".into(), &"local".into()));
    assert_eq!(mine["limits"]["memory"], 512 << 20);
    assert_eq!(mine["meta"]["origin"], pixels_testkit::engine::IMAGE);
    assert_eq!(mine["addresses"].as_array().map(Vec::len), Some(1));

    world.sh(&a, "echo kept >/var/tmp/note");
    let made = world.ok(["checkpoint", "create", &a, "--label", "ready", "--json"]).json();
    assert_eq!(made["label"], "ready", "{made}");
    world.sh(&a, "rm -r /var/tmp/note /usr/bin/apt");
    world.ok(["checkpoint", "create", &a, "--label", "broken"]);

    world.ok(["create", &b, "--from", &format!("{a}:ready")]);
    assert_eq!(world.sh(&b, "cat /var/tmp/note; hostname"), format!("kept\n{b}\n"));
    let ids = [&a, &b].map(|name| world.sh(name, "cat /etc/machine-id"));
    assert_ne!(ids[0], ids[1]);

    world.ok(["checkpoint", "restore", &a, "ready"]);
    assert_eq!(world.sh(&a, "cat /var/tmp/note; test -e /usr/bin/apt && echo apt"), "kept\napt\n");
    // The newer one is still there.
    let labels = world.ok(["checkpoint", "list", &a, "--json"]).json();
    let labels: Vec<_> = labels.as_array().unwrap().iter().map(|c| c["label"].clone()).collect();
    assert_eq!(labels, ["ready", "broken"]);
    world.ok(["checkpoint", "delete", &a, "broken"]);

    world.ok(["stop", &a]);
    world.ok(["stop", &a]);
    world.fails(["forward", &a, "0:22"], "error: pixel");
    world.ok(["start", &a]);
    assert_eq!(world.sh(&a, "cat /var/tmp/note"), "kept\n");
    world.ok(["restart", "--force", &a]);

    world.ok(["destroy", "--force", &a, &b]);
    let left = world.ok(["list", "--json"]).text();
    assert!(!left.contains(&a) && !left.contains(&b), "{left}");
    world.ok(["destroy", "--force", &a]);
}

#[test]
fn a_run_leaves_nothing() {
    let world = World::new();
    let name = world.name("once");
    let done = world.pixels(["run", "--name", &name, "--", "sh", "-c", "echo out; exit 9"]);
    assert_eq!((done.code, done.text().as_str()), (Some(9), "out\n"), "{done:?}");
    let listed = world.ok(["list", "--json"]).text();
    assert!(!listed.contains(&name));
}

#[test]
fn a_console_has_the_terminals_size_and_follows_it() {
    let world = World::new();
    let a = world.create("a");
    world.ok(["stop", &a]);
    // A stopped one is started.
    let mut pty = world.pty(["console", &a]);
    pty.send(b"echo he''re\r").unwrap();
    pty.expect(b"here\r\n", PATIENCE).unwrap();
    pty.send(b"stty size\r").unwrap();
    pty.expect(b"24 80\r\n", PATIENCE).unwrap();
    pty.resize(133, 50).unwrap();
    pty.send(b"until [ \"$(stty size)\" = '50 133' ]; do sleep 0.05; done; echo fol''lowed\r")
        .unwrap();
    pty.expect(b"followed\r\n", PATIENCE).unwrap();
    pty.send(b"exit 42\r").unwrap();
    assert_eq!(pty.wait(PATIENCE).unwrap().code(), Some(42));
}

#[test]
fn a_port_of_its_loopback_is_forwarded() {
    use std::io::{Read, Write};
    let world = World::new();
    let a = world.create("a");
    // An echo that ends after one connection; perl is in every Debian.
    let echo = "perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(Listen => 1, LocalAddr => \
                q(127.0.0.1), LocalPort => 7777) or die; open F, q(>/run/up); close F; \
                $c = $l->accept; while (sysread $c, $b, 999) { syswrite $c, $b }'";
    let server = world.spawn(["exec", "--root", &a, "--", "sh", "-c", echo]);
    world.until(&a, "test -e /run/up");
    let forward = world.spawn(["forward", &a, "0:7777"]);
    let line = forward.line();
    let mut stream = std::net::TcpStream::connect(line.trim()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"through").unwrap();
    let mut back = [0; 7];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"through");
    drop(stream);
    assert_eq!(server.wait(PATIENCE).code, Some(0));
    forward.signal(rustix::process::Signal::INT);
    assert_eq!(forward.wait(PATIENCE).code, Some(0));
}
