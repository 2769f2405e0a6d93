//! Which backend it is where nobody says, and what `doctor` says of it.

use crate::harness::World;

#[test]
fn without_an_incus_it_is_local() {
    let world = World::new();
    world.config("");
    let done = world.ok(["run", "--", "sh", "-c", "id -u; cat /etc/hostname; exit 0"]);
    assert!(done.text().lines().nth(1).is_some_and(|name| name.starts_with("run-")), "{done:?}");
    let doctor = world.pixels(["doctor"]);
    assert!(doctor.text().contains("local, because there is no Incus"), "{doctor:?}");
}

#[test]
fn doctor_says_what_is_there_and_what_mends_the_rest() {
    let world = World::new();
    let found = world.pixels(["doctor", "--json"]).json();
    let found = found.as_array().unwrap().clone();
    let of = |check: &str| found.iter().find(|f| f["check"] == check).cloned();
    for check in [
        "kernel",
        "user namespaces",
        "overlayfs",
        "seccomp",
        "user ids",
        "helper process",
        "layers",
        "limits",
        "store",
        "checkpoints",
        "disk limits",
        "space",
        "image server",
        "packet filter",
        "forwarding",
        "addresses",
        "forward policy",
        "name servers",
    ] {
        let finding = of(check).unwrap_or_else(|| panic!("nothing about {check}: {found:?}"));
        let known = matches!(finding["level"].as_str(), Some("ok" | "warn" | "fail"));
        assert!(known, "{finding}");
    }
    assert_eq!(of("helper process").unwrap()["level"], "ok");
    for finding in &found {
        let lost = finding["level"] != "ok" && finding["check"] != "egress";
        assert!(!lost || finding["hint"].is_string(), "{finding}");
    }
}

#[test]
fn doctor_makes_the_store_again_and_closes_it() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::alone();
    let mode = |mode| std::fs::set_permissions(world.store(), PermissionsExt::from_mode(mode));
    mode(0o755).unwrap();
    world.pixels(["doctor", "--fix"]);
    let meta = std::fs::metadata(world.store()).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o700);
    assert!(world.store().join("pixels").is_dir());
}
