//! `pixels doctor` against daemons well and ill.

use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::harness::World;
use crate::rest::rest;

/// Its findings as `(level, check, detail, hint)`, and the exit code.
fn examine(world: &World) -> (Vec<[String; 4]>, Option<i32>) {
    let done = world.pixels(["doctor", "--json"]);
    assert_eq!(done.err(), "", "{done:?}");
    let found: Value = serde_json::from_slice(&done.stdout).unwrap();
    let found = found.as_array().unwrap().iter().map(|f| {
        ["level", "check", "detail", "hint"].map(|k| f[k].as_str().unwrap_or("").to_owned())
    });
    (found.collect(), done.code)
}

fn find<'a>(found: &'a [[String; 4]], check: &str) -> &'a [String; 4] {
    found.iter().find(|f| f[1] == check).unwrap_or_else(|| panic!("no {check} in {found:#?}"))
}

#[test]
fn a_healthy_daemon() {
    let world = World::new();
    let pool = world.rig().pool().unwrap();
    world.config_with("", &format!("pool = {pool:?}"), "");
    let (found, code) = examine(&world);
    assert_eq!(code, Some(0), "{found:#?}");
    for check in
        ["configuration", "backend", "daemon", "trust", "project", "storage", "profile", "pixels"]
    {
        assert_eq!(find(&found, check)[0], "ok", "{found:#?}");
    }
    assert!(find(&found, "daemon")[2].starts_with("incus 6"), "{found:#?}");
    assert!(!found.iter().any(|f| f[0] == "fail"), "{found:#?}");
    // For people: a line each.
    let text = world.ok(["doctor"]).text();
    assert!(text.contains("the daemon trusts this client"), "{text}");
}

#[test]
fn a_dead_daemon() {
    let world = World::new();
    let socket = world.home().join("stale.socket");
    drop(UnixListener::bind(&socket).unwrap());
    world.config_whole(&format!("backend = \"incus\"\n[incus]\nsocket = {socket:?}\n"));
    let (found, code) = examine(&world);
    assert_eq!(code, Some(1), "{found:#?}");
    let said = format!("cannot reach incus at {}: connection refused", socket.display());
    let hint = "nothing listens there: start the daemon (systemctl start incus)";
    assert_eq!(*find(&found, "daemon"), ["fail", "daemon", &said, hint]);
    assert_eq!(found.iter().filter(|f| f[0] == "fail").count(), 1, "said once: {found:#?}");
}

fn remote(world: &World, cert: &str, key: &str, project: &str) {
    let rig = world.rig();
    world.config_whole(&format!(
        "backend = \"incus\"\n[incus]\nremote = {:?}\nserver_cert = {:?}\nclient_cert = {:?}\n\
         client_key = {:?}\n{project}\n",
        rig.https().unwrap(),
        rig.server_cert().unwrap(),
        rig.var(cert).unwrap(),
        rig.var(key).unwrap(),
    ));
}

#[test]
fn a_daemon_that_does_not_trust_us() {
    let world = World::new();
    remote(&world, "PIXELS_RIG_UNTRUSTED_CERT", "PIXELS_RIG_UNTRUSTED_KEY", "");
    let (found, code) = examine(&world);
    assert_eq!(code, Some(1), "{found:#?}");
    let trust = find(&found, "trust");
    assert_eq!(trust[0], "fail");
    assert_eq!(trust[2], "the daemon does not trust this client");
    assert!(trust[3].contains("pixels remote trust <token>"), "{trust:?}");
}

#[test]
fn a_restricted_project() {
    let world = World::new();
    let project = world.rig().restricted_project().unwrap();
    let line = format!("project = {project:?}");
    remote(&world, "PIXELS_RIG_RESTRICTED_CERT", "PIXELS_RIG_RESTRICTED_KEY", &line);
    let (found, code) = examine(&world);
    assert_eq!(code, Some(0), "{found:#?}");
    let said = format!("{project}, restricted: addresses come by dhcp");
    assert_eq!(find(&found, "project")[2], said);
    // The same client, without the project.
    remote(&world, "PIXELS_RIG_RESTRICTED_CERT", "PIXELS_RIG_RESTRICTED_KEY", "");
    let (found, code) = examine(&world);
    assert_eq!(code, Some(1), "{found:#?}");
    let project = find(&found, "project");
    assert_eq!(
        project[2],
        "project \"default\": permission denied: this client may use other projects only"
    );
    assert_eq!(project[3], "set [incus] project to one of `incus project list`");
}

/// A storage pool that is gone when the test is.
struct Pool<'a>(&'a World, String);

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        rest(self.0, "DELETE", &format!("/1.0/storage-pools/{}", self.1), &Value::Null);
    }
}

#[test]
fn a_pool_that_copies_every_byte() {
    let world = World::new();
    let pool = Pool(&world, format!("dir-{}", std::process::id()));
    let made =
        rest(&world, "POST", "/1.0/storage-pools", &json!({"name": pool.1, "driver": "dir"}));
    assert_eq!(made["error_code"], 0, "{made}");
    world.config_with("", &format!("pool = {:?}", pool.1), "");
    let (found, code) = examine(&world);
    assert_eq!(code, Some(0), "a warning is no failure: {found:#?}");
    let said = format!(
        "pool {} (dir, created): checkpoints and clones copy every byte, 6 to 40 times slower",
        pool.1
    );
    let hint = "incus storage create fast btrfs, and set [defaults] pool = \"fast\"";
    assert_eq!(*find(&found, "storage"), ["warn", "storage", &said, hint]);
    // One that there is not.
    world.config_with("", "pool = \"nosuch\"", "");
    let (found, code) = examine(&world);
    assert_eq!(code, Some(1), "{found:#?}");
    let said = "pool \"nosuch\" not found";
    let hint = "set [defaults] pool to one of `incus storage list`";
    assert_eq!(*find(&found, "storage"), ["fail", "storage", said, hint]);
}
