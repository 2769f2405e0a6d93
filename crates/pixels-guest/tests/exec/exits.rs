//! Exit codes, signal deaths, and everything that keeps a command from running.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pixels_guest_api::{ReportKind, UserSpec};

use crate::harness::*;

#[test]
fn every_exit_code_comes_back() {
    need_root!("every_exit_code_comes_back");
    for code in 0..=255 {
        let outcome = run(&script(&format!("exit {code}")));
        assert_eq!((outcome.code(), outcome.report), (code, None));
    }
}

#[test]
fn a_death_by_signal_is_128_and_its_number() {
    need_root!("a_death_by_signal_is_128_and_its_number");
    for signal in [1, 2, 3, 6, 9, 13, 14, 15, 34, 64] {
        for login in [false, true] {
            let mut request = script(&format!("kill -{signal} $$"));
            request.login = login;
            assert_eq!(run(&request).code(), 128 + signal);
        }
    }
}

#[test]
fn what_cannot_run_is_reported() {
    need_root!("what_cannot_run_is_reported");
    let dir = open_dir();
    let plain = dir.path().join("plain");
    fs::write(&plain, "x").unwrap();
    let plain = plain.to_str().unwrap();
    let here = dir.path().to_str().unwrap();
    for login in [false, true] {
        for (command, kind, code, errno) in [
            ("pixels-no-such-command", ReportKind::NotFound, 127, libc::ENOENT),
            ("/no/such/command", ReportKind::NotFound, 127, libc::ENOENT),
            ("", ReportKind::NotFound, 127, libc::ENOENT),
            ("/etc/passwd/x", ReportKind::NotFound, 127, libc::ENOTDIR),
            (plain, ReportKind::NotExecutable, 126, libc::EACCES),
            (here, ReportKind::NotExecutable, 126, libc::EACCES),
        ] {
            let mut request = direct(&[command]);
            request.login = login;
            let outcome = run(&request);
            let report = outcome.report.as_ref().expect(command);
            assert_eq!((report.kind, report.errno), (kind, errno), "{command}");
            assert_eq!(outcome.code(), code, "{command}");
            assert_eq!(i32::from(report.exit_code), code);
            assert_eq!((&outcome.stdout[..], &outcome.stderr[..]), (&b""[..], &b""[..]));
        }
    }
}

#[test]
fn found_but_not_executable_in_path_is_126_and_later_entries_win() {
    need_root!("found_but_not_executable_in_path_is_126_and_later_entries_win");
    let (first, second) = (open_dir(), open_dir());
    fs::write(first.path().join("tool"), "#!/bin/sh\necho first\n").unwrap();
    let path = format!("{}:{}", first.path().display(), second.path().display());
    let mut request = direct(&["tool"]);
    request.env.push((b"PATH".to_vec(), path.into_bytes()));
    assert_eq!(run(&request).code(), 126);
    // Without `#!` too: execvp gives it to the system's shell.
    let tool = second.path().join("tool");
    fs::write(&tool, "echo second $#\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    request.argv.push(b"a b".to_vec());
    assert_eq!(run(&request).text(), "second 1\n");
}

#[test]
fn a_bad_directory_is_an_error_and_never_another_directory() {
    need_root!("a_bad_directory_is_an_error_and_never_another_directory");
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let closed = closed.path().to_str().unwrap();
    for login in [false, true] {
        for (cwd, errno) in [
            ("/no/such/dir", libc::ENOENT),
            ("/etc/passwd", libc::ENOTDIR),
            ("relative", libc::EINVAL),
            ("", libc::EINVAL),
            (closed, libc::EACCES),
        ] {
            let mut request = script("echo ran");
            request.login = login;
            request.user = nobody();
            request.cwd = Some(cwd.into());
            let outcome = run(&request);
            let report = outcome.report.as_ref().expect(cwd);
            assert_eq!((report.kind, report.errno), (ReportKind::Cwd, errno), "{cwd}");
            assert_eq!((outcome.code(), outcome.text()), (125, String::new()));
        }
    }
}

#[test]
fn users_are_found_fallen_back_from_or_reported() {
    need_root!("users_are_found_fallen_back_from_or_reported");
    let id = |user| {
        let mut request = script("echo $(id -u):$(id -g):$HOME");
        request.user = user;
        run(&request)
    };
    assert_eq!(id(UserSpec::Root).text(), "0:0:/root\n");
    let missing = b"pixels-no-such-user".to_vec();
    assert_eq!(id(UserSpec::NameOrRoot(missing.clone())).text(), "0:0:/root\n");
    let outcome = id(UserSpec::Name(missing));
    assert_eq!(outcome.report.as_ref().unwrap().kind, ReportKind::User);
    assert_eq!(outcome.code(), 125);
    let numbers = UserSpec::Ids { uid: 54321, gid: 54322 };
    assert_eq!(id(numbers).text(), "54321:54322:/\n");
}

#[test]
fn the_command_starts_clean() {
    need_root!("the_command_starts_clean");
    for login in [false, true] {
        let go = |argv: &[&str]| {
            let mut request = direct(argv);
            request.user = nobody();
            request.login = login;
            run(&request).text()
        };
        assert_eq!(go(&["/bin/sh", "-c", "umask"]), "0022\n");
        // The last is the listing's own.
        assert_eq!(go(&["ls", "/proc/self/fd"]), "0\n1\n2\n3\n");
        let status = go(&["cat", "/proc/self/status"]);
        for line in [
            "SigBlk:\t0000000000000000",
            "SigIgn:\t0000000000000000",
            "NoNewPrivs:\t0",
            "CapEff:\t0000000000000000",
            "Groups:\t65534 ",
        ] {
            assert!(status.contains(line), "{line} not in {status}");
        }
    }
}

#[test]
fn a_bad_request_is_reported_under_its_nonce_or_in_words() {
    need_root!("a_bad_request_is_reported_under_its_nonce_or_in_words");
    use std::io::Write;
    let request = script("echo ran");
    let feed = |frame: &[u8]| {
        let mut child = start().spawn().unwrap();
        child.stdin.take().unwrap().write_all(frame).unwrap();
        collect(child, request.nonce)
    };
    let mut frame = request.encode().unwrap();
    frame[7] = 99;
    let outcome = feed(&frame);
    assert_eq!(outcome.report.as_ref().unwrap().kind, ReportKind::BadRequest);
    assert_eq!(outcome.code(), 125);
    frame[0] = b'!';
    let outcome = feed(&frame);
    assert_eq!(outcome.code(), 125);
    assert_eq!(outcome.stderr, b"error: not an exec request\n");
    let outcome = feed(&frame[..10]);
    assert_eq!(outcome.code(), 125);
    assert!(outcome.stderr.starts_with(b"error: cannot read the request"));
}
