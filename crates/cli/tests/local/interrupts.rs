//! Whatever ends the program, nothing half-made and nothing running stays.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{World, place};
use crate::running::PATIENCE;

/// Waits until something is so. Files that others make tell nobody, so this looks.
fn until(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

#[test]
fn an_interrupted_create_leaves_nothing() {
    let world = World::alone();
    let a = world.name("a");
    let image = place().rootfs.to_str().unwrap();
    let create = world.spawn(["create", &a, "--image", image]);
    // Unpacking takes seconds; it has begun when there is a layer.
    until("a layer is being written", || count(&world.store().join("layers")) > 0);
    create.signal(Signal::INT);
    let done = create.wait(PATIENCE);
    assert_eq!(done.code, Some(130), "{done:?}");
    for part in ["layers", "pixels", "slots", "trash", "tmp", "images"] {
        assert_eq!(count(&world.store().join(part)), 0, "{part} after {done:?}");
    }
}

#[test]
fn a_killed_create_leaves_nothing_that_gc_does_not_find() {
    let world = World::alone();
    let a = world.name("a");
    let image = place().rootfs.to_str().unwrap();
    let create = world.spawn(["create", &a, "--image", image]);
    until("a layer is being written", || count(&world.store().join("layers")) > 0);
    create.signal(Signal::KILL);
    create.wait(PATIENCE);
    world.ok(["gc"]);
    for part in ["layers", "pixels", "slots", "trash", "tmp", "images"] {
        assert_eq!(count(&world.store().join(part)), 0, "{part}");
    }
}

#[test]
fn a_killed_exec_leaves_no_process() {
    let world = World::new();
    let a = world.create("a");
    // A duration to sleep, a unique word to us.
    let marker = format!("86400.{}", std::process::id());
    let script = "sleep \"$M\" & setsid sleep \"$M\" & (setsid sh -c 'sleep \"$M\" & wait' &) ; \
                  trap '' TERM HUP INT; echo started; wait";
    let env = format!("M={marker}");
    let args = ["exec", "--root", "--env", &env, &a, "--", "sh", "-c", script];
    let running = world.spawn(args);
    running.until_out(b"started\n");
    world.until_count(&a, &marker, 3);
    running.signal(Signal::KILL);
    running.wait(PATIENCE);
    world.until_count(&a, &marker, 0);
}
