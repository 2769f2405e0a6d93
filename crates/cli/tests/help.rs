//! Help is on stdout, for every command, without a runtime or a socket.

use std::os::unix::net::UnixListener;

use crate::support::{pixels, run};

/// Every command, each with those below it.
const COMMANDS: &[&[&str]] = &[
    &["create"],
    &["run"],
    &["start"],
    &["stop"],
    &["restart"],
    &["destroy"],
    &["rm"],
    &["list"],
    &["ls"],
    &["exec"],
    &["console"],
    &["checkpoint"],
    &["checkpoint", "create"],
    &["checkpoint", "list"],
    &["checkpoint", "restore"],
    &["cp", "delete"],
    &["network"],
    &["network", "show"],
    &["network", "set"],
    &["network", "allow"],
    &["network", "deny"],
    &["push"],
    &["pull"],
    &["image"],
    &["image", "list"],
    &["remote", "trust"],
    &["doctor"],
    &["gc"],
    &["config", "show"],
    &["completions"],
];

#[test]
fn every_command_has_help_and_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("daemon");
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    for path in COMMANDS.iter().chain([&&[][..]]) {
        for flag in ["--help", "-h"] {
            let mut command = pixels();
            // A configuration that is refused the moment anything reads it.
            command.env("PIXELS_INCUS_SOCKET", &socket).env("PIXELS_BACKEND", "nonsense");
            let done = run(command, path.iter().copied().chain([flag]));
            assert_eq!(done.code, Some(0), "{path:?}: {done:?}");
            assert!(done.stderr.is_empty(), "{path:?}: {done:?}");
            assert!(done.text().contains("Usage: pixels"), "{path:?}: {done:?}");
        }
    }
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "something connected");
}

#[test]
fn the_version() {
    let done = run(pixels(), ["--version"]);
    assert_eq!(done.text(), concat!("pixels ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let done = pixels().arg("--help").stdout(writer).output().unwrap();
    assert_eq!(done.status.code(), Some(0));
    assert!(done.stderr.is_empty());
}
