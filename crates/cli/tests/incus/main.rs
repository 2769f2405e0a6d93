//! The program on a real Incus: the rig's, or the one that
//! `PIXELS_TEST_INCUS_SOCKET` names. Without either these tests fail.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures, and what is left out")]

mod cancel;
mod clones;
mod cluster;
mod doctor;
mod exec;
mod faults;
mod faults_create;
mod faults_kill;
mod faults_space;
mod fidelity;
mod files;
mod harness;
mod plain;
mod remote;
mod requests;
mod rest;
#[path = "../running.rs"]
mod running;
mod terminal;

/// A file that is in here and not in the list above would never run.
#[test]
fn every_file_is_a_module() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/incus");
    let here = include_str!("main.rs");
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap_or(&name);
        assert!(module == "main" || here.contains(&format!("mod {module};")), "{name}");
    }
}
