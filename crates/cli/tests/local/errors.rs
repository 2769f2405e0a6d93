//! What is refused, in which words, and that nothing was made.

use crate::harness::World;

#[test]
fn errors_name_the_thing_and_the_next_step() {
    let world = World::new();
    let a = world.create("a");
    let b = world.name("b");
    let check = |args: &[&str], error: String, hint: &str| {
        let done = world.pixels(args.iter().copied());
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.err().starts_with(&format!("error: {error}")), "{args:?}: {done:?}");
        assert!(done.err().contains(hint), "{args:?}: {done:?}");
    };
    check(&["create", &a], format!("pixel {a:?} already exists"), "hint: pixels destroy");
    check(&["start", &b], format!("pixel {b:?} not found"), "hint: pixels list");
    let image = ["create", &b, "--image", "./no-such.tar"];
    check(&image, "image \"./no-such.tar\" not found".into(), "hint: pixels image list");
    let network = ["create", &b, "--network", "bridge"];
    check(&network, "invalid network \"bridge\": ".into(), "hint: leave it out, or --network none");
    let target = ["create", &b, "--target", "n1"];
    check(&target, "the local backend does not support cluster members".into(), "");
    let cpu = ["create", &b, "--cpu", "9000-9001"];
    check(&cpu, "invalid cpu \"9000-9001\": this machine has CPUs".into(), "");
    let memory = ["create", &b, "--memory", "1MiB"];
    check(&memory, "invalid memory \"1.0 MiB\": a pixel has at least".into(), "");
    let from = format!("{a}:nothing");
    let missing = format!("checkpoint \"{from}\" not found");
    check(&["create", &b, "--from", &from], missing, "hint: ");
    let agent = ["create", &b, "--egress", "agent"];
    check(&agent, "the local backend does not support the egress mode agent yet".into(), "hint: ");
    let listed = world.ok(["list", "--json"]).text();
    assert!(!listed.contains(&b), "nothing of these was made");
}

#[test]
fn a_disk_that_cannot_be_bounded_is_refused_before_anything_is_made() {
    let world = World::alone();
    world.ok(["list"]);
    let b = world.name("b");
    let done = world.pixels(["create", &b, "--disk", "1GiB", "--image", "no/such"]);
    let doctor = world.pixels(["doctor", "--json"]).text();
    if doctor.contains("kept by btrfs") {
        assert!(!done.err().contains("a limit on disk"), "{done:?}");
        return;
    }
    // The image was not even looked for.
    let want = "error: the local backend does not support a limit on disk here: it takes btrfs";
    assert!(done.err().starts_with(want), "{done:?}");
    assert!(done.err().contains("hint: leave --disk out"), "{done:?}");
    for part in ["layers", "pixels", "slots", "trash"] {
        let count = std::fs::read_dir(world.store().join(part)).unwrap().count();
        assert_eq!(count, 0, "{part}");
    }
}

#[test]
fn limits_that_are_not_kept_are_warned_of() {
    let world = World::new();
    let a = world.name("a");
    let mut command = world.command(["create", &a, "--memory", "64MiB"]);
    command.env("PIXELS_ENGINE_DISABLE", "cgroups");
    let done = crate::running::Running::start(command).wait(crate::running::PATIENCE);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.err().contains("warning: not limited here: memory, pids, cpu"), "{done:?}");
}
