//! Arguments, environment and directory arrive byte for byte, straight and
//! through a login shell.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use pixels_guest_api::{ExecRequest, UserSpec};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::*;

/// Prints what the kernel says this shell was started with.
const SHOW: &str = "cat /proc/$$/cmdline; printf '\\0--cut--'; cat /proc/$$/environ; \
                    printf '\\0--cut--'; readlink -nz /proc/$$/cwd";

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

struct Seen {
    argv: Vec<Vec<u8>>,
    env: Map,
    cwd: Vec<u8>,
}

fn seen(outcome: &Outcome) -> Seen {
    assert_eq!(outcome.report, None);
    let cut = b"\0--cut--";
    let mut parts = Vec::new();
    let mut rest = &outcome.stdout[..];
    while let Some(at) = rest.windows(cut.len()).position(|w| w == cut) {
        parts.push(&rest[..at]);
        rest = &rest[at + cut.len()..];
    }
    let [argv, env] = parts[..] else {
        panic!("{outcome:?}");
    };
    let list = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        bytes.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
    };
    let env = list(env)
        .into_iter()
        .map(|pair| {
            let at = pair.iter().position(|b| *b == b'=').unwrap();
            (pair[..at].to_vec(), pair[at + 1..].to_vec())
        })
        .collect();
    Seen { argv: list(argv), env, cwd: rest.strip_suffix(b"\0").unwrap_or(rest).to_vec() }
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        3 => prop::sample::select(b" \n\t'\"\\$`*?[]{}()<>|&;!#~=-%\x1b\x7f\x80\xc3\xff".to_vec()),
        1 => 1..=255u8,
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        1 => prop::sample::select(vec![&b"--"[..], b"-c", b"-l", b"-", b"exec", b"$0", b"apply"])
            .prop_map(<[u8]>::to_vec),
        6 => vec(byte(), 1..24),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![&b"a-b"[..], b"1", b"A.B", b"IFS", b"PS4", b"_", b"PWD", b"-x"])
            .prop_map(<[u8]>::to_vec),
        vec(byte().prop_filter("not =", |b| *b != b'='), 1..12),
    ]
}

fn directory() -> impl Strategy<Value = Vec<u8>> {
    vec(byte().prop_filter("a name", |b| *b != b'/'), 1..24)
        .prop_filter("a name", |d| d != b"." && d != b"..")
}

fn property(login: bool, user: &UserSpec, go: impl Fn(&ExecRequest) -> Outcome) {
    let mut runner = TestRunner::new(Config::with_cases(48));
    let strategy = (vec(text(), 0..8), vec((name(), text()), 0..8), directory());
    let test = |(args, env, dir): (Vec<Vec<u8>>, Vec<_>, Vec<u8>)| {
        let place = open_dir();
        let cwd = place.path().join(OsStr::from_bytes(&dir));
        fs::create_dir(&cwd).unwrap();
        let cwd = cwd.as_os_str().as_bytes().to_vec();
        let mut request = script(SHOW);
        request.argv.extend(args);
        request.env = env;
        request.cwd = Some(cwd.clone());
        request.user = user.clone();
        request.login = login;
        let seen = seen(&go(&request));
        prop_assert_eq!(seen.argv, request.argv);
        let given: Map = request.env.into_iter().collect();
        for (name, value) in &given {
            prop_assert_eq!(seen.env.get(name), Some(value), "{:?}", name);
        }
        if !given.contains_key(&b"_"[..]) {
            prop_assert_eq!(seen.env.get(&b"_"[..]), None);
        }
        if !given.contains_key(&b"PWD"[..]) {
            prop_assert_eq!(seen.env.get(&b"PWD"[..]), Some(&cwd));
        }
        prop_assert_eq!(seen.cwd, cwd);
        Ok(())
    };
    runner.run(&strategy, test).unwrap();
}

#[test]
fn straight() {
    need_root!("straight");
    property(false, &UserSpec::Root, run);
}

#[test]
fn through_dash() {
    need_root!("through_dash");
    property(true, &nobody(), run);
}

#[test]
fn through_bash() {
    need_root!("through_bash");
    let home = Home::new("/bin/bash", "export FROM_PROFILE=1");
    property(true, &UserSpec::Name(b"tester".to_vec()), |request| {
        run_with(home.start(), request, Vec::new())
    });
}

#[test]
fn the_last_of_two_variables_wins_and_the_users_are_set() {
    need_root!("the_last_of_two_variables_wins_and_the_users_are_set");
    let home = Home::new("/bin/bash", "export A=profile B=profile");
    let mut request = script(SHOW);
    request.env = vec![(b"A".to_vec(), b"1".to_vec()), (b"A".to_vec(), b"2".to_vec())];
    let seen = seen(&home.run(request, b""));
    let get = |name: &str| seen.env.get(name.as_bytes()).map(|v| String::from_utf8_lossy(v));
    assert_eq!(get("A").unwrap(), "2");
    assert_eq!(get("B").unwrap(), "profile");
    assert_eq!(get("USER").unwrap(), "tester");
    assert_eq!(get("LOGNAME").unwrap(), "tester");
    assert_eq!(get("SHELL").unwrap(), "/bin/bash");
    assert_eq!(get("HOME").unwrap(), home.path().to_str().unwrap());
    assert_eq!(seen.cwd, home.path().as_os_str().as_bytes());
    assert_eq!(get("OLDPWD"), None);
}

#[test]
fn big_arguments_pass_and_too_big_ones_are_reported() {
    need_root!("big_arguments_pass_and_too_big_ones_are_reported");
    for login in [false, true] {
        let mut request = direct(&["/bin/sh", "-c", "echo $#", "sh"]);
        request.login = login;
        // One string may have 128 KiB, all together 2 MiB.
        request.argv.extend(vec![vec![b'x'; 100_000]; 15]);
        assert_eq!(run(&request).text(), "15\n");
        request.argv.push(vec![b'x'; 140_000]);
        let outcome = run(&request);
        let report = outcome.report.as_ref().unwrap();
        assert_eq!(report.kind, pixels_guest_api::ReportKind::TooLong);
        assert_eq!(outcome.code(), 126);
    }
}
