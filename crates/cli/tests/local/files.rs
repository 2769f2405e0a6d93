//! push and pull, of running and of stopped pixels.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::harness::World;

#[test]
fn trees_go_both_ways_running_or_not() {
    let world = World::new();
    let a = world.create("a");
    let tree = world.home().join("tree");
    std::fs::create_dir_all(tree.join("sub dir")).unwrap();
    std::fs::write(tree.join("sub dir/run\nme"), b"#!/bin/sh\n\xff").unwrap();
    std::fs::set_permissions(tree.join("sub dir/run\nme"), PermissionsExt::from_mode(0o750))
        .unwrap();
    symlink("/nowhere", tree.join("link")).unwrap();
    std::fs::write(tree.join("large"), vec![7; 3_000_000]).unwrap();
    let check = |name: &str| {
        let back = world.home().join(name);
        let file = back.join("sub dir/run\nme");
        assert_eq!(std::fs::read(&file).unwrap(), b"#!/bin/sh\n\xff");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o750);
        assert_eq!(std::fs::read_link(back.join("link")).unwrap().to_str(), Some("/nowhere"));
        assert_eq!(std::fs::metadata(back.join("large")).unwrap().len(), 3_000_000);
    };
    let (from, home) = (tree.to_str().unwrap(), world.home().to_str().unwrap());
    world.ok(["push", from, &format!("{a}:/srv/running")]);
    assert_eq!(world.sh(&a, "stat -c %a '/srv/running/sub dir/run'*"), "750\n");
    world.ok(["pull", &format!("{a}:/srv/running"), &format!("{home}/one")]);
    check("one");
    world.ok(["stop", &a]);
    world.ok(["push", from, &format!("{a}:/srv/stopped")]);
    world.ok(["pull", &format!("{a}:/srv/stopped"), &format!("{home}/two")]);
    check("two");
    world.ok(["start", &a]);
    assert_eq!(world.sh(&a, "ls /srv"), "running\nstopped\n");
    let missing = format!("{a}:/no/such");
    world.fails(["pull", &missing, &format!("{home}/three")], "error: ");
}
