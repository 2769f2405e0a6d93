//! The program from outside: arguments, help, exit codes, streams, terminals.

mod forward;
mod generated;
mod help;
mod streams;
mod support;
mod terminal;
mod usage;

/// A file that is in here and not in the list above would never run.
#[test]
fn every_file_is_a_module() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let here = include_str!("main.rs");
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs") else { continue };
        // The example that tests run, this file, and what other binaries use.
        if matches!(module, "on_memory" | "main" | "running") {
            continue;
        }
        assert!(here.contains(&format!("mod {module};")), "{name} is not a module");
    }
}
