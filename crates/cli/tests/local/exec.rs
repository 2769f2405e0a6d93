//! exec: what is sent is what arrives, and codes come back.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::harness::World;

#[test]
fn arguments_environment_and_streams_are_bytes() {
    let world = World::new();
    let a = world.create("a");
    let odd: Vec<OsString> = [&b"a b"[..], b"'\"$(id)`", b"-n", b"\xff\xfe", b"", b"l1\nl2"]
        .map(|bytes| OsString::from_vec(bytes.to_vec()))
        .to_vec();
    let start = ["exec", "--env", "V=x  y", &a, "--", "sh", "-c"];
    let script = "printf '%s\\0' \"$@\" \"$V\"; cat";
    let args = start.iter().map(OsString::from).chain([script.into(), "sh".into()]);
    let input: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let done = world.feed(args.chain(odd.iter().cloned()), input.clone());
    assert_eq!(done.code, Some(0), "{done:?}");
    let mut want: Vec<u8> = Vec::new();
    for each in odd.iter().map(OsString::as_os_str).chain([OsStr::new("x  y")]) {
        want.extend_from_slice(each.as_bytes());
        want.push(0);
    }
    want.extend(input);
    assert!(done.stdout == want, "{done:?}");
}

#[test]
fn codes_are_the_commands_own() {
    let world = World::new();
    let a = world.create("a");
    let code = |args: &[&str]| {
        let all = ["exec", a.as_str()].into_iter().chain(args.iter().copied());
        world.pixels(all).code
    };
    assert_eq!(code(&["--", "sh", "-c", "exit 7"]), Some(7));
    assert_eq!(code(&["--", "sh", "-c", "kill -TERM $$"]), Some(143));
    assert_eq!(code(&["--", "no-such-program"]), Some(127));
    assert_eq!(code(&["--", "/etc/passwd"]), Some(126));
    assert_eq!(code(&["--timeout", "1", "--", "sleep", "600"]), Some(124));
    assert_eq!(code(&["--cwd", "/no/such", "--", "true"]), Some(125));
    world.ok(["stop", &a]);
    let done = world.pixels(["exec", &a, "--", "true"]);
    assert_eq!(done.code, Some(125));
    assert!(done.err().contains(&format!("hint: pixels start {a}")), "{done:?}");
}

#[test]
fn a_terminal_of_an_exec_is_one() {
    use crate::running::PATIENCE;
    let world = World::new();
    let a = world.create("a");
    let mut pty = world.pty(["exec", "-t", &a, "--", "sh", "-c", "stty size; exit 3"]);
    pty.expect(b"24 80\r\n", PATIENCE).unwrap();
    assert_eq!(pty.wait(PATIENCE).unwrap().code(), Some(3));
}
