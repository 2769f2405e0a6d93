//! The rules that every pixel keeps, each with a test that fails when it is
//! broken. They look from both sides, and so most need root.
#![allow(clippy::print_stderr, reason = "says what a bound was")]
#![cfg(target_os = "linux")]

mod calls;
mod files;
mod groups;
mod harness;
mod host;
mod limits;
mod network;
mod process;
mod rootless;
mod status;
mod tools;
mod walls;

/// A file that is in here and not in the list above would never run.
#[test]
fn every_file_is_a_module() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rules");
    let here = include_str!("main.rs");
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap_or(&name);
        assert!(module == "main" || here.contains(&format!("mod {module};")), "{name}");
    }
}
