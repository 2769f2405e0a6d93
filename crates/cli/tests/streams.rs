//! exec and run: bytes, codes and signals.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{feed, on_memory, run};

#[test]
fn arguments_arrive_byte_for_byte() {
    let words: [&[u8]; 6] = [b"", b" a b ", b"-x", b"--root", b"new\nline", b"\xff\xfe"];
    let mut args: Vec<OsString> = ["exec", "box", "--", "printf", "%s\\0"].map(Into::into).into();
    args.extend(words.iter().map(|w| OsString::from_vec(w.to_vec())));
    let done = run(on_memory(), args);
    assert_eq!(done.code, Some(0), "{done:?}");
    let mut expected = words.join(&b"\0"[..]);
    expected.push(0);
    assert_eq!(done.stdout, expected);
}

#[test]
fn words_after_the_command_are_its_own() {
    let done = run(on_memory(), ["exec", "box", "echo", "-t", "--json", "--", "--help"]);
    assert_eq!(done.text(), "-t --json -- --help\n");
}

#[test]
fn variables() {
    let mut command = on_memory();
    command.env("HERE", "from here").env_remove("NOWHERE");
    let args = ["exec", "--env", "A=1=2", "-e", "HERE", "-e", "NOWHERE", "box", "env", "-0"];
    let text = run(command, args).text();
    let all: Vec<_> = text.split('\0').collect();
    assert!(all.contains(&"A=1=2") && all.contains(&"HERE=from here"), "{all:?}");
    assert!(!all.iter().any(|v| v.starts_with("NOWHERE")), "{all:?}");
}

#[test]
fn large_streams_come_back_whole() {
    // No two chunks alike, and no multiple of one.
    let input: Vec<u8> = (0..3_000_001u32).map(|i| (i ^ (i >> 9)) as u8).collect();
    let done = feed(on_memory(), &["exec", "box", "cat"], input.clone());
    assert_eq!(done.code, Some(0));
    assert!(done.stdout == input, "{} of {} bytes", done.stdout.len(), input.len());
}

#[test]
fn codes() {
    let code = |args: &[&str]| run(on_memory(), args).code;
    assert_eq!(code(&["exec", "box", "true"]), Some(0));
    assert_eq!(code(&["exec", "box", "sh", "-c", "exit 255"]), Some(255));
    assert_eq!(code(&["exec", "box", "sh", "-c", "kill -11 $$"]), Some(139));
    assert_eq!(code(&["exec", "box", "surely-not"]), Some(127));
    assert_eq!(code(&["exec", "nobody", "true"]), Some(125));
    assert_eq!(code(&["exec", "box", "--cwd", "/nowhere", "true"]), Some(125));
    assert_eq!(code(&["exec", "box", "--timeout", "50ms", "sleep", "60"]), Some(124));
    assert_eq!(code(&["run", "--image", "memory/base", "sh", "-c", "exit 9"]), Some(9));
    assert_eq!(code(&["run", "--image", "nothing", "true"]), Some(125));
}

/// A child with pipes on all sides.
fn piped(args: &[&str]) -> std::process::Child {
    let mut command = on_memory();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn signals_end_the_command() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut child = piped(&["exec", "box", "cat"]);
        // Held open: waiting for a child closes a stdin that it still has.
        let mut stdin = child.stdin.take().unwrap();
        // Once a byte has come back, the command runs.
        stdin.write_all(b"x").unwrap();
        let mut byte = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn a_reader_that_leaves_ends_the_command_without_a_word() {
    let mut child = piped(&["exec", "box", "cat"]);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdin.write_all(b"x\n").unwrap();
    stdout.read_exact(&mut [0; 2]).unwrap();
    drop(stdout);
    // The next thing that it writes has nowhere to go.
    stdin.write_all(b"y\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    drop(stdin);
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = on_memory().args(["exec", "box", "echo", "x"]).stdout(full).output().unwrap();
    assert_eq!(done.status.code(), Some(125));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = on_memory().arg("list").stdout(full).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
}
