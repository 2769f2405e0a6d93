//! Whatever bytes are sent arrive.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::harness::World;

/// How many random commands are tried.
const SAMPLES: u32 = 16;

/// Prints what the kernel says it was started with: lengths of command line and
/// environment, both, the directory.
const TELL: &str = "import os
a, e = (open('/proc/self/' + n, 'rb').read() for n in ('cmdline', 'environ'))
out = b'%d %d\\n' % (len(a), len(e)) + a + e + os.getcwdb()
while out: out = out[os.write(1, out):]";

type Bytes = Vec<u8>;

/// What arrived: arguments, environment, directory.
fn arrived(out: &[u8]) -> (Vec<Bytes>, BTreeMap<Bytes, Bytes>, Bytes) {
    let end = out.iter().position(|b| *b == b'\n').unwrap();
    let lengths = std::str::from_utf8(&out[..end]).unwrap();
    let (argv, env) = lengths.split_once(' ').unwrap();
    let (argv, env): (usize, usize) = (argv.parse().unwrap(), env.parse().unwrap());
    let rest = &out[end + 1..];
    let words = |bytes: &[u8]| -> Vec<Bytes> {
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        bytes.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
    };
    let variables = words(&rest[argv..argv + env])
        .into_iter()
        .filter_map(|pair| {
            let at = pair.iter().position(|b| *b == b'=')?;
            Some((pair[..at].to_vec(), pair[at + 1..].to_vec()))
        })
        .collect();
    let sent = words(&rest[..argv]).split_off(3);
    (sent, variables, rest[argv + env..].to_vec())
}

/// Sends all three through the program and says what did not arrive.
fn check(
    world: &World,
    pixel: &str,
    args: &[Bytes],
    env: &[(Bytes, Bytes)],
    name: &[u8],
) -> Result<(), String> {
    let dir = [format!("/var/tmp/{pixel}/").as_bytes(), name].concat();
    let dir = OsString::from_vec(dir);
    let made = world.pixels(
        ["exec", "--root", pixel, "--", "mkdir", "-p", "--"]
            .map(OsStr::new)
            .into_iter()
            .chain([dir.as_os_str()]),
    );
    if made.code != Some(0) {
        return Err(format!("mkdir: {made:?}"));
    }
    let mut line: Vec<OsString> = vec!["exec".into(), "--cwd".into(), dir.clone()];
    for (key, value) in env {
        line.push(OsString::from_vec([b"--env=", &key[..], b"=", value].concat()));
    }
    line.extend([pixel, "--", "python3", "-c", TELL].map(OsString::from));
    line.extend(args.iter().map(|a| OsString::from_vec(a.clone())));
    let done = world.pixels(line);
    if done.code != Some(0) || !done.stderr.is_empty() {
        return Err(format!("{done:?}"));
    }
    let (got_args, got_env, got_dir) = arrived(&done.stdout);
    if got_args != args {
        return Err(format!("arguments: {}", done.stdout.escape_ascii()));
    }
    if got_dir != dir.as_bytes() {
        return Err(format!("cwd: {}", got_dir.escape_ascii()));
    }
    // The last of a name wins.
    let sent: BTreeMap<&Bytes, &Bytes> = env.iter().map(|(k, v)| (k, v)).collect();
    for (key, value) in sent {
        let got = got_env.get(key);
        if got != Some(value) {
            let got = got.map(|g| g.escape_ascii().to_string());
            return Err(format!("{}: {got:?}", key.escape_ascii()));
        }
    }
    Ok(())
}

#[test]
fn what_trips_shells_arrives() {
    let world = World::shared();
    let bytes = |words: &[&[u8]]| words.iter().map(|w| w.to_vec()).collect::<Vec<_>>();
    let args = bytes(&[
        b"",
        b" ",
        b"-n",
        b"--",
        b"--help",
        b"--root",
        b"a b",
        b"a\nb",
        b"'",
        b"\"",
        b"\\",
        b"$HOME",
        b"`id`",
        b"$(id)",
        b"*",
        b"~",
        b"a;b|c&d>e",
        b"%s%n",
        b"\xff\xfe\x80",
        b"\x1b[31m",
        b"",
    ]);
    let pairs: [(&[u8], &[u8]); 10] = [
        (b"EQUALS", b"an earlier one"),
        (b"a.b", b"dots"),
        (b"1x", b"digit first"),
        (b"-", b"dash"),
        (b"A B", b"blank"),
        (b"a\nb", b"new\nline\n"),
        (b"\xff\xfe", b"\xfd"),
        (b"EMPTY", b""),
        (b"EQUALS", b"a=b=c"),
        (b"QUOTES", b"'\"`$(x)\\"),
    ];
    let env: Vec<_> = pairs.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    check(&world, world.pixel(), &args, &env, b"-a '\"\n\xff $(x)").unwrap();
}

#[test]
fn random_arguments_environment_and_cwd_arrive() {
    let world = World::shared();
    // Empty ones and bytes that mean something to shells come up more often than by chance.
    let byte = prop_oneof![
        3 => any::<u8>().prop_map(|b| b.max(1)),
        1 => select(&b" \t\n'\"\\$`-=;&|<>*?~!#%(){}[]"[..]),
    ];
    let bytes = prop_oneof![1 => Just(Bytes::new()), 5 => vec(byte, 1..32)];
    // `X` first keeps clear of names that mean something to the loader or to shells.
    let key = bytes.clone().prop_map(|mut b| {
        b.retain(|b| *b != b'=');
        [b"X".to_vec(), b].concat()
    });
    let name = bytes.clone().prop_map(|mut b| {
        b.retain(|b| *b != b'/');
        // Neither empty nor a dot.
        [b, b"d".to_vec()].concat()
    });
    let all = (vec(bytes.clone(), 1..6), vec((key, bytes), 0..6), name);
    let config = Config { cases: SAMPLES, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&all, |(args, env, name)| {
            check(&world, world.pixel(), &args, &env, &name).map_err(TestCaseError::fail)
        })
        .unwrap_or_else(|e| panic!("{e}"));
}
