//! Pixels that cannot execute the guest binary, or have nothing else to execute.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::harness::World;

/// The header of a program for another processor than any that runs these
/// tests: a static ELF executable for IBM's z, and nothing in it.
fn foreign_program() -> Vec<u8> {
    const MACHINE_S390: u8 = 22;
    let mut elf = vec![0; 64];
    // 64 bits, big end first, version 1.
    elf[..7].copy_from_slice(b"\x7fELF\x02\x02\x01");
    (elf[17], elf[19], elf[23]) = (2, MACHINE_S390, 1);
    elf
}

const WARNING: &str = "warning: the guest helper cannot run in ";

#[test]
fn commands_run_without_the_guest_binary_and_say_what_is_lost() {
    let world = World::new();
    let stub = world.home().join("foreign-guest");
    std::fs::write(&stub, foreign_program()).unwrap();
    world.config_with(&format!("guest_binary = {stub:?}"), "", "");
    let pixel = world.create("foreign");

    let args = ["", "a b", "-n", "--", "é\n'\"$x", ""];
    let line = ["exec", "--env", "K=ü x", "--cwd", "/var/tmp", &pixel, "--"];
    let script = "printf '%s|' \"$@\" \"$K\" \"$PWD\"; cat; echo err >&2; exit 7";
    let shell = ["sh", "-c", script, "sh"];
    let all = line.iter().chain(&shell).chain(&args);
    let done = world.feed(all, "input");
    assert_eq!(done.code, Some(7), "{done:?}");
    assert_eq!(done.text(), format!("{}|ü x|/var/tmp|input", args.join("|")));
    let err = done.err();
    let lines: Vec<&str> = err.lines().collect();
    let [warning, "err"] = lines[..] else { panic!("{done:?}") };
    assert!(warning.starts_with(&format!("{WARNING}{pixel} (")), "{warning}");
    assert!(warning.contains("have to be UTF-8"), "{warning}");

    let exec = ["exec", &pixel, "--"].map(OsStr::new);
    let odd = [OsStr::new("echo"), OsStr::from_bytes(b"\xff")];
    let done = world.pixels(exec.iter().chain(&odd));
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(done.err().contains("without the guest helper it has to be UTF-8"), "{done:?}");
    let done = world.pixels(["exec", "--cwd", "/no/such/dir", &pixel, "--", "true"]);
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(done.err().contains("\"/no/such/dir\""), "{done:?}");
    let done = world.pixels(["exec", "--timeout", "5s", &pixel, "--", "true"]);
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(done.err().contains("hint: "), "{done:?}");
    assert_eq!(world.pixels(["exec", &pixel, "--", "no-such-command"]).code, Some(127));
    assert_eq!(world.pixels(["exec", &pixel, "--", "/etc/passwd"]).code, Some(126));

    // The variable does the same as the key, and the built-in one runs where it is unset.
    world.config("");
    let run = |stub: Option<&OsStr>| {
        let mut command = world.command(["exec", &pixel, "--", "true"]);
        if let Some(stub) = stub {
            command.env("PIXELS_INCUS_GUEST_BINARY", stub);
        }
        crate::harness::Running::start(command).wait(crate::harness::PATIENCE)
    };
    let done = run(Some(stub.as_os_str()));
    assert!(done.code == Some(0) && done.err().starts_with(WARNING), "{done:?}");
    let done = run(None);
    assert!(done.code == Some(0) && done.stderr.is_empty(), "{done:?}");
}

#[test]
fn a_pixel_of_one_program_runs() {
    let world = World::new();
    let image = world.rig().distroless_image().unwrap();
    let pixel = world.name("bare");
    world.ok(["create", "--image", image, &pixel]);
    let exec = |args: &[&str]| world.pixels(["exec", &pixel, "--"].iter().chain(args));
    // The program goes by its second name where its first is not one of its own.
    let done = exec(&["/sbin/init", "x"]);
    assert!(done.code.is_some_and(|c| c != 125 && c != 127), "{done:?}");
    let done = exec(&["no-such-command"]);
    assert_eq!(done.code, Some(127), "{done:?}");
    let done = exec(&["/bin/sh", "-c", "true"]);
    assert_eq!(done.code, Some(127), "{done:?}");
    // Nothing else is there; our own binary tells the request arrived.
    let done = world.pixels(["exec", "--cwd", "/no/such/dir", &pixel, "--", "/sbin/init"]);
    assert_eq!(done.code, Some(125), "{done:?}");
    world.ok(["stop", "--force", &pixel]);
    world.ok(["start", &pixel]);
}
