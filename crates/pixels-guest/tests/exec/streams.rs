//! Stdin, stdout and stderr as byte streams.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::Stdio;

use crate::harness::*;

#[test]
fn sixty_four_mebibytes_pass_unchanged() {
    need_root!("sixty_four_mebibytes_pass_unchanged");
    let mut data = vec![0; 64 << 20];
    File::open("/dev/urandom").unwrap().read_exact(&mut data).unwrap();
    for login in [false, true] {
        let mut request = direct(&["cat"]);
        request.login = login;
        let outcome = run_with(start(), &request, data.clone());
        assert_eq!(outcome.code(), 0);
        assert!(outcome.stdout == data, "differs, {} bytes", outcome.stdout.len());
        assert_eq!(outcome.stderr, b"");
    }
}

#[test]
fn not_one_byte_of_the_commands_input_is_taken() {
    need_root!("not_one_byte_of_the_commands_input_is_taken");
    for login in [false, true] {
        let mut request = direct(&["cat"]);
        request.login = login;
        let frame = request.encode().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&frame).unwrap();
        file.write_all(b"the rest").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        // The position of the shared open file tells what was read of it.
        let mut quiet = direct(&["true"]);
        quiet.argv = vec![b"/bin/true".to_vec()];
        quiet.login = login;
        let mut command = start();
        command.stdin(Stdio::from(file.try_clone().unwrap()));
        let outcome = collect(command.spawn().unwrap(), request.nonce);
        assert_eq!(outcome.text(), "the rest");

        let frame = quiet.encode().unwrap();
        file.set_len(0).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&frame).unwrap();
        file.write_all(b"the rest").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut command = start();
        command.stdin(Stdio::from(file.try_clone().unwrap()));
        assert_eq!(collect(command.spawn().unwrap(), quiet.nonce).code(), 0);
        assert_eq!(file.stream_position().unwrap(), frame.len() as u64);
    }
}

#[test]
fn stderr_stays_apart_and_streams_end_when_the_command_ends_them() {
    need_root!("stderr_stays_apart_and_streams_end_when_the_command_ends_them");
    let outcome = run(&script("echo out; echo err >&2"));
    assert_eq!((&outcome.stdout[..], &outcome.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));

    // The command closes its output and waits: only with nobody else holding it
    // does the reader see the end.
    let request = script("echo up; exec >&-; read line; exit 4");
    let mut running = Running::start(&request);
    let mut rest = Vec::new();
    running.child.stdout.as_mut().unwrap().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    running.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(running.end().code(), 4);
}

#[test]
fn a_reader_that_leaves_ends_the_command_by_sigpipe() {
    need_root!("a_reader_that_leaves_ends_the_command_by_sigpipe");
    let mut running = Running::start(&script("echo up; exec yes"));
    drop(running.child.stdout.take());
    let status = running.child.wait().unwrap();
    assert_eq!(status.code(), Some(128 + libc::SIGPIPE));
}
