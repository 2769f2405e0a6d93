//! The program on the embedded engine of this machine: the backend `local`, with
//! the image that the rig builds. Without that image, or without root, these
//! tests fail.

mod choice;
mod errors;
mod exec;
mod files;
mod harness;
mod images;
mod interrupts;
mod life;
#[path = "../running.rs"]
mod running;

/// A file that is in here and not in the list above would never run.
#[test]
fn every_file_is_a_module() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/local");
    let here = include_str!("main.rs");
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap_or(&name);
        assert!(module == "main" || here.contains(&format!("mod {module};")), "{name}");
    }
}
