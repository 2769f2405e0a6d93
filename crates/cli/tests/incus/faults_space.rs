//! A storage pool that is full.

use std::time::Instant;

use crate::faults::fails;
use crate::harness::{PATIENCE, World};
use crate::rest::{get, left};

#[test]
fn a_full_pool_is_named_and_nothing_is_left() {
    let world = World::new();
    let pool = world.rig().small_pool().unwrap();
    world.config_with("", &format!("pool = {pool:?}"), "");
    let name = world.create("a");
    let before = left(&world);
    // Until nothing more fits, in ever smaller pieces.
    world.sh(
        &name,
        "for size in 16M 64k 4k; do dd if=/dev/urandom of=/fill-$size bs=$size 2>/dev/null; sync; \
         done; true",
    );
    let hint =
        "hint: free space in the pool: pixels gc, pixels destroy, pixels checkpoint delete\n";
    let full =
        |what: &str| format!("error: {what}: no space left: the storage pool is full\n{hint}");
    let other = world.name("b");
    fails(&world.pixels(["create", &other]), 1, &full("create"));
    assert_eq!(left(&world), before);
    fails(&world.pixels(["create", &other, "--from", &name]), 1, &full("create"));
    assert_eq!(left(&world), before);
    let done = world.pixels(["checkpoint", "create", &name, "c"]);
    fails(&done, 1, &full(&format!("checkpoint {name}:c")));
    let snapshots = get(&world, &format!("/1.0/instances/px-{name}/snapshots"));
    assert_eq!(snapshots, serde_json::json!([]));
    assert_eq!(left(&world), before);

    let big = world.home().join("big");
    std::fs::write(&big, vec![7; 8 << 20]).unwrap();
    let done = world.pixels(["push", big.to_str().unwrap(), &format!("{name}:/root/big")]);
    fails(&done, 1, "error: /root/big: no space left: the storage pool is full\n");
    assert_eq!(world.sh(&name, "ls -A /root | grep -c -e big -e .pixels; true"), "0\n");

    // With room again it works.
    world.sh(&name, "rm /fill-* && sync");
    // The storage gives the space back when it gets round to it.
    let begun = Instant::now();
    while world.pixels(["checkpoint", "create", &name, "c"]).code != Some(0) {
        assert!(begun.elapsed() < PATIENCE, "the pool stays full");
        world.sh(&name, "sync");
    }
}
