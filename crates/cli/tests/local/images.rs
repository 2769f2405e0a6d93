//! image import, list and remove.

use std::process::Command;

use crate::harness::World;

#[test]
fn a_tarball_and_a_directory_become_images_and_go_again() {
    let world = World::alone();
    // No system at all: what is in it is what is asked about.
    let tree = world.home().join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::write(tree.join("etc/os-release"), "ID=mine\nPRETTY_NAME=\"Mine 1\"\n").unwrap();
    let tar = world.home().join("mine.tar.gz");
    let packed = Command::new("tar").arg("-czf").arg(&tar).arg("-C").arg(&tree).arg(".").status();
    assert!(packed.unwrap().success());
    let (tree, tar) = (tree.to_str().unwrap(), tar.to_str().unwrap());

    let made = world.ok(["image", "import", tar, "--alias", "mine", "--json"]).json();
    assert_eq!(made["aliases"], serde_json::json!(["mine"]), "{made}");
    assert_eq!(made["fingerprint"].as_str().map(str::len), Some(64));
    world.ok(["image", "import", tree, "--alias", "dir"]);
    let all = world.ok(["image", "list", "--json"]).json();
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all}");
    let text = world.ok(["image", "list"]).text();
    assert!(text.starts_with("ALIAS") && text.contains("mine"), "{text}");

    // A pixel without any program of its own still starts: its first process is ours.
    let a = world.name("a");
    world.ok(["create", &a, "--image", "mine"]);
    world.ok(["image", "remove", "mine", "dir"]);
    world.ok(["pull", &format!("{a}:/etc/os-release"), world.home().to_str().unwrap()]);
    assert!(world.home().join("os-release").exists(), "a pixel keeps what it was made of");
    world.ok(["destroy", "--force", &a]);
    world.ok(["gc"]);
    let left = std::fs::read_dir(world.store().join("layers")).unwrap().count();
    assert_eq!(left, 0, "layers that nothing uses are gone");
}
