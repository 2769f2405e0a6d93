//! The daemon is killed in the middle of things, and comes back.

use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::faults::fails;
use crate::harness::{PATIENCE, World};
use crate::rest::{get, nothing_left, until_instance};

fn closed(world: &World) -> String {
    format!(
        "error: cannot reach incus at {}: it closed the connection in the middle\n\
         hint: the daemon may have been restarted: pixels list shows what is there, and pixels gc \
         removes what was left half-made\n",
        world.rig().socket().unwrap().display()
    )
}

/// Kills the daemon and waits until its socket refuses, which is a moment later.
fn kill(world: &World) {
    world.kill_daemon();
    let begun = Instant::now();
    while UnixStream::connect(world.rig().socket().unwrap()).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "its socket still listens");
    }
}

fn names(world: &World) -> Vec<String> {
    let list = world.ok(["list", "--json"]).stdout;
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    let names = list.as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with(world.prefix())).collect()
}

#[test]
fn a_killed_daemon_leaves_nothing_half_made() {
    let world = World::alone();
    let source = world.create("source");

    // exec: the client ends, with its own code.
    let running = world.spawn(["exec", &source, "--", "sh", "-c", "echo up; exec sleep 3600"]);
    running.until_out(b"up\n");
    kill(&world);
    let done = running.wait(PATIENCE);
    assert_eq!((done.code, done.err(), done.text()), (Some(125), closed(&world), "up\n".into()));
    let refused = format!(
        "error: cannot reach incus at {}: connection refused\n\
         hint: nothing listens there: start the daemon (systemctl start incus)\n",
        world.rig().socket().unwrap().display()
    );
    fails(&world.pixels(["list"]), 1, &refused);
    fails(&world.pixels(["create", &world.name("none")]), 1, &refused);
    world.mend();
    world.until_gone(&source, "sleep 3600");

    // create and clone: the same again works, whatever was left; so does gc.
    let (made, copy) = (world.name("made"), world.name("copy"));
    let create = ["create", made.as_str()];
    let clone = ["create", copy.as_str(), "--from", source.as_str()];
    for (args, name) in [(&create[..], &made), (&clone[..], &copy)] {
        for mended_by_rerun in [true, false] {
            let running = world.spawn(args);
            until_instance(&world, name);
            kill(&world);
            fails(&running.wait(PATIENCE), 1, &closed(&world));
            world.mend();
            if mended_by_rerun {
                world.ok(args);
                assert_eq!(world.sh(name, "cat /etc/hostname").trim(), format!("px-{name}"));
                assert_eq!(world.ok(["gc"]).text(), "", "nothing of it is left");
                world.ok(["destroy", name]);
            } else {
                let swept = world.ok(["gc"]).text();
                let said =
                    format!("removed pixel {name}, left half-made by an interrupted create\n");
                assert_eq!(swept, said);
            }
            assert_eq!(names(&world), [source.as_str()]);
            let snapshots = get(&world, &format!("/1.0/instances/px-{source}/snapshots"));
            assert_eq!(snapshots, serde_json::json!([]));
        }
    }
    world.ok(["exec", &source, "--", "true"]);
    world.ok(["destroy", &source]);
    nothing_left(&world);
}
