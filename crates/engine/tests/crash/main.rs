//! What is left when processes die in the middle, when two do things at once,
//! when the disk is full and when nobody waits for the end any more: nothing.
//!
//! Each test is a process of its own (`role`), so that it can adopt and count
//! what it leaves behind, with a store of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "says what went wrong where")]

mod cancel;
mod full;
mod matrix;
mod pairs;
mod supervisor;
mod verb;
mod world;

use std::process::Command;

/// Which part this process plays.
const ROLE: &str = "PIXELS_TEST_CRASH";

/// This program in another part.
fn part(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env_remove("PIXELS_ENGINE_FAIL").env_remove("PIXELS_ENGINE_BOOT_ID");
    command
}

/// Lets another process play a part; answers what it said.
fn play(role: &str) -> String {
    said(role, part(role))
}

fn said(role: &str, mut command: Command) -> String {
    assert!(pixels_testkit::engine::is_root(), "these tests are root's");
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{role}: {}\n{out}\n{err}", output.status);
    out
}

#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (what, rest) = role.split_once(' ').unwrap_or((&role, ""));
    match what {
        "verb" => verb::main(rest),
        "matrix" => matrix::main(rest),
        "supervisor" => supervisor::main(),
        "boots" => supervisor::boots(),
        "pairs" => pairs::main(),
        "full" => full::main(),
        "cancel" => cancel::main(),
        other => panic!("there is no part {other}"),
    }
}

#[test]
fn whoever_dies_at_whatever_step_leaves_nothing() {
    matrix::both();
}

#[test]
fn a_pixel_does_without_its_supervisor() {
    play("supervisor");
}

#[test]
fn another_boot_has_no_processes_of_this_one() {
    play("boots");
}

#[test]
fn two_at_once_are_one_after_the_other() {
    play("pairs");
}

#[test]
fn a_full_disk_changes_nothing() {
    // What it mounts goes with it.
    let inner = part("full");
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(inner.get_program()).args(inner.get_args()).env(ROLE, "full");
    said("full", command);
}

#[test]
fn whoever_does_not_wait_leaves_nothing() {
    play("cancel");
}

#[test]
fn every_file_here_is_compiled() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash");
    let main = include_str!("main.rs");
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name}");
    }
}
