//! Clones and checkpoints: machines of their own, sources left alone, and
//! nothing left behind by a client that is killed.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Running, World};

/// Longer than anything here takes on a busy machine, shorter than a hang.
const SOON: Duration = Duration::from_secs(100);

/// What makes a machine itself, a line each.
const IDENTITY: &str = "hostname; cat /etc/machine-id; cat /sys/class/net/eth0/address; \
    ip -4 -o address show dev eth0 scope global | tr -s ' ' | cut -d' ' -f4 | cut -d/ -f1; \
    cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2";
const PARTS: [&str; 5] = ["hostname", "machine-id", "MAC", "address", "host key"];

fn identity(world: &World, pixel: &str) -> Vec<String> {
    let lines: Vec<String> = world.sh(pixel, IDENTITY).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), PARTS.len(), "{lines:?}");
    assert!(lines.iter().all(|l| !l.is_empty()), "{lines:?}");
    lines
}

fn all_differ(machines: &[&Vec<String>]) {
    for (at, part) in PARTS.iter().enumerate() {
        let values: BTreeSet<&str> = machines.iter().map(|m| m[at].as_str()).collect();
        assert_eq!(values.len(), machines.len(), "{part}: {machines:#?}");
    }
}

/// A running pixel with host keys and a machine id.
fn source(world: &World, name: &str) -> String {
    let pixel = world.create(name);
    world.until(&pixel, "[ -s /etc/machine-id ] && ssh-keygen -A >/dev/null && [ -s /etc/ssh/ssh_host_ed25519_key.pub ]");
    pixel
}

fn listed(world: &World, pixel: &str) -> Option<Value> {
    let list: Value = serde_json::from_slice(&world.ok(["list", "--json"]).stdout).unwrap();
    list.as_array().unwrap().iter().find(|p| p["name"] == pixel).cloned()
}

fn labels(world: &World, pixel: &str) -> Vec<String> {
    let list = world.ok(["checkpoint", "list", pixel, "--json"]).stdout;
    let list: Value = serde_json::from_slice(&list).unwrap();
    let label = |s: &Value| s["label"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(label).collect()
}

/// Waits until a command runs in a pixel that another client may still be making.
fn until_whole(world: &World, pixel: &str) {
    let until = std::time::Instant::now() + SOON;
    loop {
        let done = world.pixels(["exec", "--root", pixel, "--", "true"]);
        if done.code == Some(0) {
            return;
        }
        assert!(std::time::Instant::now() < until, "{done:?}");
        let _ = world.pixels(["start", pixel]);
    }
}

#[test]
fn clones_are_machines_of_their_own() {
    let world = World::new();
    let origin = source(&world, "origin");
    let counter = "setsid sh -c 'while echo x >>/root/count; do sleep 0.05; done' >/dev/null 2>&1 </dev/null &";
    world.sh(&origin, counter);
    world.until(&origin, "[ -s /root/count ]");
    // Field 22 of its stat: when pid 1 started.
    let started = || world.sh(&origin, "cut -d' ' -f22 /proc/1/stat");
    let (before, first) = (started(), identity(&world, &origin));
    world.ok(["checkpoint", "create", &origin, "ready"]);
    let (a, b) = (world.name("a"), world.name("b"));
    world.ok(["create", "--from", &format!("{origin}:ready"), &a, &b]);
    // The very first command in each sees the new identity.
    let (one, two) = (identity(&world, &a), identity(&world, &b));
    let live = world.name("live");
    world.ok(["create", "--from", &origin, &live]);
    let three = identity(&world, &live);
    assert_eq!(labels(&world, &origin), ["ready"], "no temporary checkpoint");
    let second = world.name("second");
    world.ok(["create", "--from", &a, &second]);
    let four = identity(&world, &second);
    all_differ(&[&first, &one, &two, &three, &four]);
    assert_eq!(one[0], format!("px-{a}"), "the hostname is the instance's name");
    for (pixel, machine) in [(&origin, &first), (&a, &one), (&live, &three), (&second, &four)] {
        let row = listed(&world, pixel).unwrap();
        assert_eq!(row["addresses"][0], machine[3].as_str(), "{row}");
        assert_eq!(identity(&world, pixel), *machine, "and it stays");
    }
    let keys = world.sh(&a, "ls /etc/ssh/ | grep ^ssh_host_");
    let want = "ssh_host_ed25519_key\nssh_host_ed25519_key.pub\n";
    assert_eq!(keys, want, "one of its own, and none of the source's is left");
    // The source ran on.
    assert_eq!(started(), before);
    let count = world.sh(&origin, "wc -c </root/count");
    world.until(&origin, &format!("[ $(wc -c </root/count) -gt {} ]", count.trim()));
    assert_eq!(world.sh(&a, "cat /root/count | tr -d 'x\\n' | wc -c").trim(), "0");

    // A stopped source, with other limits; the clone runs.
    world.ok(["stop", "--force", &b]);
    let small = world.name("small");
    world.ok(["create", "--from", &b, "--cpu", "1", "--memory", "300", "--ttl", "1h", &small]);
    all_differ(&[&two, &identity(&world, &small)]);
    let row = listed(&world, &small).unwrap();
    assert_eq!(
        (&row["limits"]["cpu"], &row["limits"]["memory"]),
        (&"1".into(), &(300u64 << 20).into()),
        "{row}"
    );
    assert!(row["meta"]["expires_at"].is_string(), "{row}");
    assert_eq!(row["meta"]["origin"], b.as_str());
    assert_eq!(world.sh(&small, "nproc").trim(), "1");
    let row = listed(&world, &origin).unwrap();
    assert!(row["meta"]["expires_at"].is_null(), "{row}");
}

#[test]
fn restoring_keeps_identity_lifetime_and_newer_checkpoints() {
    let world = World::new();
    let pixel = world.name("kept");
    world.ok(["create", "--ttl", "5h", &pixel]);
    world.until(&pixel, "[ -s /etc/machine-id ] && ssh-keygen -A >/dev/null");
    let before = (identity(&world, &pixel), listed(&world, &pixel).unwrap()["meta"].clone());
    for label in ["one", "two", "three"] {
        world.sh(&pixel, &format!("echo {label} >/root/state"));
        world.ok(["checkpoint", "create", &pixel, label]);
    }
    let done = world.ok(["checkpoint", "restore", &pixel, "one"]);
    let said = format!("restored {pixel} to one; newer checkpoints are kept: two, three\n");
    assert_eq!(done.err(), said);
    assert_eq!(world.sh(&pixel, "cat /root/state"), "one\n");
    let after = (identity(&world, &pixel), listed(&world, &pixel).unwrap()["meta"].clone());
    assert_eq!(after, before);
    assert_eq!(labels(&world, &pixel), ["one", "two", "three"]);
    // Forward again, from a stopped pixel, which stays stopped.
    world.ok(["stop", "--force", &pixel]);
    let done = world.ok(["checkpoint", "restore", &pixel, "three"]);
    assert_eq!(done.err(), format!("restored {pixel} to three\n"));
    assert_eq!(listed(&world, &pixel).unwrap()["status"], "stopped");
    world.ok(["start", &pixel]);
    assert_eq!(world.sh(&pixel, "cat /root/state"), "three\n");
    assert_eq!(identity(&world, &pixel), before.0);

    // Killed half-way: the daemon ends what it began, and a rerun works.
    for label in ["one", "two"] {
        let restoring = world.spawn(["checkpoint", "restore", &pixel, label]);
        until_stopping(&world, &pixel, &restoring);
        restoring.signal(Signal::KILL);
        restoring.wait(SOON);
    }
    world.ok(["checkpoint", "restore", &pixel, "one"]);
    assert_eq!(world.sh(&pixel, "cat /root/state"), "one\n");
    assert_eq!(listed(&world, &pixel).unwrap()["meta"], before.1);
    assert_eq!(identity(&world, &pixel), before.0);
}

/// Waits until a restore has begun to stop the pixel, or has ended.
fn until_stopping(world: &World, pixel: &str, restoring: &Running) {
    let proc = format!("/proc/{}/stat", restoring.pid());
    let runs = || std::fs::read_to_string(&proc).is_ok_and(|s| !s.contains(") Z "));
    while runs() && listed(world, pixel).is_some_and(|row| row["status"] == "running") {}
}

#[test]
fn ttl_is_kept_and_gc_ends_it() {
    // Any other test's gc would take what is past its time first.
    let world = World::alone();
    let (short, long) = (world.name("short"), world.name("long"));
    world.ok(["create", "--ttl", "1s", &short]);
    world.ok(["create", "--from", &short, "--ttl", "5h", &long]);
    // The daemon's own clock says when: a second in the guest is one here.
    world.sh(&long, "sleep 1");
    let done = world.ok(["gc"]);
    assert!(done.text().contains(&format!("destroyed {short}\n")), "{done:?}");
    assert!(!done.text().contains(&long), "{done:?}");
    assert!(listed(&world, &short).is_none() && listed(&world, &long).is_some());
}

#[test]
fn killed_clones_leave_nothing_that_a_rerun_trips_over() {
    let world = World::new();
    let origin = source(&world, "origin");
    let first = identity(&world, &origin);
    let name = world.name("clone");
    let create = || world.spawn(["create", "--from", &origin, &name]);
    // How long a whole one takes here today: kill points are spread over that.
    let whole = create().wait(SOON);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    world.ok(["destroy", "--force", &name]);
    for tenths in [0, 2, 3, 4, 5, 6, 7, 8] {
        let creating = create();
        // Not to wait for something, but to be at some point in the middle of it.
        std::thread::sleep(whole.took * tenths / 10);
        creating.signal(Signal::KILL);
        creating.wait(SOON);
        let again = create().wait(SOON);
        match again.code {
            Some(0) => {}
            Some(1) => {
                assert!(
                    again.err().starts_with(&format!("error: pixel \"{name}\" already exists")),
                    "{again:?}"
                );
                until_whole(&world, &name);
            }
            _ => panic!("at {tenths}: {again:?}"),
        }
        all_differ(&[&first, &identity(&world, &name)]);
        assert_eq!(labels(&world, &origin), [""; 0], "at {tenths}");
        world.ok(["destroy", "--force", &name]);
    }
    world.ok(["gc"]);
    assert!(listed(&world, &name).is_none());
}

#[test]
fn killed_creates_leave_nothing_that_a_rerun_trips_over() {
    let world = World::new();
    let name = world.name("new");
    let create = || world.spawn(["create", &name]);
    let whole = create().wait(SOON);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    world.ok(["destroy", "--force", &name]);
    for tenths in 0..10 {
        let creating = create();
        std::thread::sleep(whole.took * tenths / 10);
        creating.signal(Signal::KILL);
        creating.wait(SOON);
        if tenths % 2 == 0 {
            world.ok(["gc"]);
            // What is still there is whole.
            if listed(&world, &name).is_some() {
                until_whole(&world, &name);
                world.ok(["destroy", "--force", &name]);
            }
            continue;
        }
        let again = create().wait(SOON);
        if again.code != Some(0) {
            assert!(
                again.err().starts_with(&format!("error: pixel \"{name}\" already exists")),
                "{again:?}"
            );
            until_whole(&world, &name);
        }
        world.sh(&name, "test -s /etc/hostname");
        world.ok(["destroy", "--force", &name]);
    }
    world.ok(["gc"]);
    assert!(listed(&world, &name).is_none());
}

#[test]
fn many_at_once_get_addresses_of_their_own() {
    let world = World::new();
    let origin = source(&world, "origin");
    world.ok(["checkpoint", "create", &origin, "c"]);
    let from = format!("{origin}:c");
    let names: Vec<String> = (0..10).map(|n| world.name(&format!("n{n}"))).collect();
    let begin = |names: &[String]| {
        let args = ["create", "--from", &from].into_iter().map(str::to_owned);
        world.spawn(args.chain(names.iter().cloned()))
    };
    // Two processes that know nothing of each other.
    let (left, right) = (begin(&names[..5]), begin(&names[5..]));
    for done in [left.wait(SOON), right.wait(SOON)] {
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    let address = |name: &String| world.sh(name, "hostname -I").trim().to_owned();
    let addresses: BTreeSet<String> = names.iter().map(address).collect();
    assert_eq!(addresses.len(), 10, "{addresses:?}");
    for name in &names {
        let row = listed(&world, name).unwrap();
        assert!(addresses.contains(row["addresses"][0].as_str().unwrap()), "{row}");
    }
    let done = world.ok(["destroy", "--force"].into_iter().chain(names.iter().map(String::as_str)));
    assert_eq!(done.code, Some(0));
    // One process, ten at once.
    let done = begin(&names).wait(SOON);
    assert_eq!(done.code, Some(0), "{done:?}");
    let addresses: BTreeSet<String> = names.iter().map(address).collect();
    assert_eq!(addresses.len(), 10, "{addresses:?}");
}

#[test]
fn a_clone_without_systemd() {
    let world = World::new();
    let image = world.rig().var("PIXELS_RIG_DISTROLESS_IMAGE").unwrap();
    let (a, b) = (world.name("bare"), world.name("bare2"));
    world.ok(["create", "--image", image, &a]);
    world.ok(["create", "--from", &a, &b]);
    let rows = [listed(&world, &a).unwrap(), listed(&world, &b).unwrap()];
    assert!(rows.iter().all(|r| r["status"] == "running"), "{rows:?}");
    assert_ne!(rows[0]["addresses"], rows[1]["addresses"]);
}

#[test]
fn checkpoints_have_real_sizes_where_the_pool_counts() {
    let world = World::new();
    let (pixel, dir) = (world.name("sized"), tempfile::tempdir().unwrap());
    let image = world.rig().var("PIXELS_RIG_DISTROLESS_IMAGE").unwrap();
    // A disk size turns the pool's quotas on.
    let pool = world.rig().var("PIXELS_RIG_SMALL_POOL").unwrap();
    world.config_with("", &format!("pool = {pool:?}"), "");
    world.ok(["create", "--image", image, "--disk", "100MiB", &pixel]);
    let file = dir.path().join("file");
    let random: Vec<u8> = {
        use std::io::Read;
        let mut bytes = Vec::new();
        std::fs::File::open("/dev/urandom").unwrap().take(8 << 20).read_to_end(&mut bytes).unwrap();
        bytes
    };
    std::fs::write(&file, random).unwrap();
    let to = format!("{pixel}:/file");
    world.ok(["push", file.to_str().unwrap(), &to]);
    world.ok(["checkpoint", "create", &pixel, "full"]);
    // What a checkpoint holds is what it alone holds: what its removal would free.
    std::fs::write(&file, "").unwrap();
    world.ok(["push", file.to_str().unwrap(), &to]);
    let size = || {
        let list = world.ok(["checkpoint", "list", &pixel, "--json"]).stdout;
        let list: Value = serde_json::from_slice(&list).unwrap();
        list[0]["size"].as_u64().unwrap_or_else(|| panic!("no size: {list}"))
    };
    // The filesystem counts when it commits.
    let until = std::time::Instant::now() + SOON;
    while size() < 8 << 20 {
        assert!(std::time::Instant::now() < until, "{}", size());
    }
    assert!(size() < 10 << 20, "{}", size());
    let doctor = world.pixels(["doctor"]).text();
    assert!(!doctor.contains("quotas are off"), "{doctor}");
    let table = world.ok(["checkpoint", "list", &pixel]).text();
    assert!(table.contains("8.0 MiB") || table.contains("8 MiB"), "{table}");
    world.ok(["destroy", "--force", &pixel]);
}
