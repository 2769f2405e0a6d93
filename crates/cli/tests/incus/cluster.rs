//! A real cluster of three members, always asked through the first one.
//!
//! One smoke test runs everywhere; the faults want `PIXELS_FULL=1`.

use std::fs::File;
use std::process::Command;

use pixels_testkit::rig::Rig;
use serde_json::Value;

use crate::harness::{Own, PATIENCE, Running, World};

/// A world whose configuration names the cluster's first member. The pixels
/// of its prefix are gone when it is dropped.
struct Cluster {
    world: Own,
    rig: &'static Rig,
    /// Members are killed here: one test at a time, also of several processes.
    _turn: File,
}

impl Cluster {
    fn new() -> Self {
        let rig = Rig::cluster().unwrap_or_else(|e| {
            panic!(
                "these tests need a cluster: {e:#}\nhint: rig/up cluster brings one up (as root)"
            )
        });
        let id = rig.var("PIXELS_RIG_ID").unwrap_or("default");
        let turn =
            File::create(std::env::temp_dir().join(format!("pixels-cluster-{id}.lock"))).unwrap();
        turn.lock().unwrap();
        let world = World::new();
        let file = |path: std::path::PathBuf| format!("{path:?}");
        world.config_whole(&format!(
            "[incus]\nremote = {:?}\nclient_cert = {}\nclient_key = {}\nserver_cert = {}\n\
             [defaults]\nimage = {:?}\nmemory = 512\n",
            rig.member_https(1).unwrap(),
            file(rig.client_cert().unwrap()),
            file(rig.client_key().unwrap()),
            file(rig.server_cert().unwrap()),
            rig.image().unwrap(),
        ));
        Self { world, rig, _turn: turn }
    }

    /// What `list` says of a pixel.
    fn listed(&self, name: &str) -> Option<Value> {
        let list: Value =
            serde_json::from_slice(&self.world.ok(["list", "--json"]).stdout).unwrap();
        list.as_array().unwrap().iter().find(|p| p["name"] == name).cloned()
    }

    fn location(&self, name: &str) -> String {
        let found = self.listed(name).unwrap_or_else(|| panic!("{name} is not listed"));
        found["location"].as_str().unwrap_or_default().to_owned()
    }

    /// `rig/up cluster-kill n3` and the like.
    fn rig_up(&self, args: &[&str]) {
        let mut command = Command::new(self.rig.var("PIXELS_RIG_UP").unwrap());
        command.args(args);
        for var in ["PIXELS_RIG_ID", "PIXELS_RIG_DIR"] {
            command.env(var, self.rig.var(var).unwrap());
        }
        let done = Running::start(command).wait(PATIENCE);
        assert_eq!(done.code, Some(0), "rig/up {args:?}: {done:?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let list = self.world.pixels(["list", "--json"]);
        let list: Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
        let ours: Vec<&str> = list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|pixel| pixel["name"].as_str())
            .filter(|name| name.starts_with(self.world.prefix()))
            .collect();
        if !ours.is_empty() {
            let _ = self.world.pixels(["destroy", "--force"].into_iter().chain(ours));
        }
    }
}

#[test]
fn a_whole_life_on_another_member() {
    let cluster = Cluster::new();
    let world: &World = &cluster.world;
    let name = world.name("far");
    world.ok(["create", &name, "--target", "n2"]);
    let listed = cluster.listed(&name).unwrap();
    assert_eq!(listed["location"], "n2", "{listed}");
    assert!(listed["addresses"][0].is_string(), "{listed}");

    // Exec: the operation and its sockets are another member's.
    let done = world.feed(["exec", &name, "--", "sh", "-c", "cat; echo apart >&2; exit 7"], "in");
    assert_eq!((done.code, done.text().as_str(), done.err().as_str()), (Some(7), "in", "apart\n"));
    let mut console = world.pty(["console", &name]);
    console.expect(b"# ", PATIENCE).unwrap();
    console.send(b"echo a$((20+3))b; exit 5\r").unwrap();
    console.expect(b"a23b", PATIENCE).unwrap();
    assert_eq!(console.wait(PATIENCE).unwrap().code(), Some(5));

    // Files, both ways.
    let (there, back) = (world.home().join("there"), world.home().join("back"));
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&there, &content).unwrap();
    let at = format!("{name}:/root/file");
    world.ok(["push", there.to_str().unwrap(), &at]);
    world.ok(["pull", &at, back.to_str().unwrap()]);
    assert!(std::fs::read(&back).unwrap() == content);

    // A checkpoint, clones of it here and on a third member, and back to it.
    world.ok(["checkpoint", "create", &name, "ready"]);
    world.sh(&name, "rm /root/file; touch /root/later");
    let from = format!("{name}:ready");
    let (near, third) = (world.name("near"), world.name("third"));
    world.ok(["create", &near, "--from", &from]);
    assert_eq!(cluster.location(&near), "n2", "a clone stays where its data is");
    world.ok(["create", &third, "--from", &from, "--target", "n3"]);
    assert_eq!(cluster.location(&third), "n3");
    let ids: Vec<String> = [&name, &near, &third]
        .iter()
        .map(|pixel| world.sh(pixel, "cat /etc/machine-id; cat /sys/class/net/eth0/address"))
        .collect();
    for (at, id) in ids.iter().enumerate() {
        assert!(
            ids[at + 1..]
                .iter()
                .all(|other| { other.lines().zip(id.lines()).all(|(a, b)| a != b) }),
            "{ids:?}"
        );
    }
    for clone in [&near, &third] {
        world.sh(clone, "test -e /root/file && ! test -e /root/later");
    }
    world.ok(["checkpoint", "restore", &name, "ready"]);
    world.sh(&name, "test -e /root/file && ! test -e /root/later");
    world.ok(["stop", &name]);
    world.ok(["start", &name]);
    world.ok(["destroy", "--force", &name, &near, &third]);
    assert!(cluster.listed(&name).is_none());

    let done = world.pixels(["create", &world.name("no"), "--target", "n9"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(
        done.err(),
        "error: cluster member \"n9\" not found\nhint: `incus cluster list` shows what there is\n"
    );
}

fn full() -> bool {
    if std::env::var_os("PIXELS_FULL").is_some_and(|v| v == "1") {
        return true;
    }
    eprintln!("left out: it takes minutes and runs with PIXELS_FULL=1");
    false
}

#[test]
fn full_a_running_pixel_is_cloned_to_another_member() {
    if !full() {
        return;
    }
    let cluster = Cluster::new();
    let world: &World = &cluster.world;
    let (name, copy) = (world.name("run"), world.name("copy"));
    world.ok(["create", &name, "--target", "n2"]);
    world.sh(&name, "echo kept >/root/kept; sync");
    let began = world.sh(&name, "cat /proc/1/stat | cut -d' ' -f22");
    world.ok(["create", &copy, "--from", &name, "--target", "n3"]);
    assert_eq!(cluster.location(&copy), "n3");
    assert_eq!(world.sh(&copy, "cat /root/kept"), "kept\n");
    assert_eq!(world.sh(&name, "cat /proc/1/stat | cut -d' ' -f22"), began, "it was stopped");
}

#[test]
fn full_a_member_that_is_down() {
    if !full() {
        return;
    }
    let cluster = Cluster::new();
    let world: &World = &cluster.world;
    let (near, far, none) = (world.name("near"), world.name("far"), world.name("none"));
    world.ok(["create", &near, "--target", "n2"]);
    world.ok(["create", &far, "--target", "n3"]);
    cluster.rig_up(&["cluster-kill", "n3"]);
    let up = Up(&cluster);

    let done = world.pixels(["create", &none, "--target", "n3"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(
        done.err(),
        "error: cannot reach cluster member n3: it does not answer\n\
         hint: start its daemon, or leave --target out: `incus cluster list` shows what there is\n"
    );
    assert!(cluster.listed(&none).is_none(), "something is left");
    // The others go on, and the list still has the one that cannot be asked.
    assert_eq!(world.ok(["exec", &near, "--", "echo", "here"]).text(), "here\n");
    let other = world.name("other");
    world.ok(["create", &other, "--target", "n1"]);
    let lost = cluster.listed(&far).expect("it is still known");
    assert_eq!((&lost["location"], &lost["status"]), (&"n3".into(), &"error".into()), "{lost}");
    let done = world.pixels(["exec", &far, "--", "true"]);
    assert_eq!(done.code, Some(125), "{done:?}");
    world.ok(["destroy", "--force", &near, &other]);

    drop(up);
    assert!(cluster.listed(&none).is_none(), "something is left");
    assert_eq!(world.ok(["exec", &far, "--", "echo", "back"]).text(), "back\n");
}

/// Brings the member up again, whatever came of the test.
struct Up<'a>(&'a Cluster);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.rig_up(&["cluster-start", "n3"]);
    }
}
