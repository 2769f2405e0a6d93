//! Argument fidelity: whatever bytes are sent arrive.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, ensure};
use pixels_core::{Bytes, ExecOpts, Name};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use super::table;
use crate::Ctx;

table! { "fidelity":
    arguments_that_trip_shells [ByteExact],
    names_of_variables_that_trip_shells [ByteExact],
    random_arguments_environment_and_cwd [ByteExact],
    long_arguments [ByteExact],
}

/// How many random commands are tried.
const SAMPLES: u32 = 24;

/// Bytes as a person can read them, cut where they get long.
fn show(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(400)];
    format!("b\"{}\" ({} bytes)", cut.escape_ascii(), bytes.len())
}

/// Sends `args` and fails unless they come back.
async fn check_args(cx: &Ctx, pixel: &Name, args: &[Bytes]) -> Result<()> {
    let mut cmd: Vec<Bytes> = vec![b"printf".into(), b"%s\\0".into()];
    cmd.extend_from_slice(args);
    let out = cx.exec(pixel, ExecOpts { no_stdin: true, ..ExecOpts::new(cmd) }, b"").await?;
    let mut expected = args.join(&0);
    expected.push(0);
    let (sent, got) = (show(&expected), show(&out.stdout));
    ensure!(out.code == 0, "{sent}: {} {}", out.code, show(&out.stderr));
    ensure!(out.stdout == expected, "sent {sent}, got {got}");
    Ok(())
}

/// Sends `env` and fails unless all of it is there.
async fn check_env(cx: &Ctx, pixel: &Name, env: &[(Bytes, Bytes)]) -> Result<()> {
    let opts = ExecOpts { env: env.to_vec(), no_stdin: true, ..ExecOpts::new(["env", "-0"]) };
    let out = cx.exec(pixel, opts, b"").await?;
    ensure!(out.code == 0, "{} {}", out.code, show(&out.stderr));
    let got: BTreeMap<&[u8], &[u8]> = out
        .stdout
        .split(|b| *b == 0)
        .filter_map(|pair| {
            let at = pair.iter().position(|b| *b == b'=')?;
            Some((&pair[..at], &pair[at + 1..]))
        })
        .collect();
    // The last of a name wins.
    let expected: BTreeMap<&[u8], &[u8]> = env.iter().map(|(k, v)| (&**k, &**v)).collect();
    for (key, value) in expected {
        let found = got.get(key);
        let (key, sent, got) = (show(key), show(value), found.map(|v| show(v)));
        ensure!(found == Some(&value), "{key}: sent {sent}, got {got:?}");
    }
    Ok(())
}

/// Runs in a directory called `name` and fails unless it says so.
async fn check_cwd(cx: &Ctx, pixel: &Name, dir: &str, name: &[u8]) -> Result<()> {
    let path = [dir.as_bytes(), b"/", name].concat();
    let session = cx.sandbox().files(pixel).await?;
    match session.mkdir(&path, 0o755, None).await {
        Err(e) if !e.is_already_exists() => return Err(e.into()),
        _ => {}
    }
    let opts = ExecOpts { cwd: Some(path.clone()), no_stdin: true, ..ExecOpts::new(["pwd"]) };
    let out = cx.exec(pixel, opts, b"").await?;
    ensure!(out.code == 0, "{}: {} {}", show(name), out.code, show(&out.stderr));
    let got = out.stdout.strip_suffix(b"\n").unwrap_or(&out.stdout);
    ensure!(got == path, "sent {}, got {}", show(&path), show(got));
    Ok(())
}

async fn arguments_that_trip_shells(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let words: [&[u8]; 22] = [
        b"",
        b" ",
        b"-n",
        b"--",
        b"--help",
        b"a b",
        b"a\nb",
        b"\n",
        b"'",
        b"\"",
        b"\\",
        b"$HOME",
        b"`id`",
        b"$(id)",
        b"*",
        b"~",
        b"a;b|c&d>e",
        b"!!",
        b"%s%n",
        b"\xff\xfe\x80",
        b"\x1b[31m",
        "é\u{1f980}".as_bytes(),
    ];
    let words: Vec<Bytes> = words.iter().map(|w| w.to_vec()).collect();
    check_args(&cx, &pixel, &words).await?;
    // An empty one at either end is the first to get lost.
    check_args(&cx, &pixel, &[Bytes::new()]).await?;
    check_args(&cx, &pixel, &[Bytes::new(), b"x".to_vec(), Bytes::new()]).await
}

async fn names_of_variables_that_trip_shells(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let env: [(&[u8], &[u8]); 10] = [
        (b"a.b", b"dots"),
        (b"1x", b"digit first"),
        (b"-", b"dash"),
        (b"A B", b"blank"),
        (b"a\nb", b"new\nline\n"),
        (b"\xff\xfe", b"\xfd"),
        ("é".as_bytes(), "ü".as_bytes()),
        (b"EMPTY", b""),
        (b"EQUALS", b"a=b=c"),
        (b"QUOTES", b"'\"`$(x)\\"),
    ];
    let mut env: Vec<(Bytes, Bytes)> = env.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    env.insert(0, (b"EQUALS".to_vec(), b"an earlier one".to_vec()));
    check_env(&cx, &pixel, &env).await
}

async fn long_arguments(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    // Linux allows 128 KiB less one in one argument.
    let args = vec![vec![b'x'; 120_000], Bytes::new(), vec![0xff; 60_000]];
    check_args(&cx, &pixel, &args).await?;
    check_env(&cx, &pixel, &[(b"LONG".to_vec(), vec![b'y'; 100_000])]).await
}

async fn random_arguments_environment_and_cwd(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
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
    let runtime = tokio::runtime::Handle::current();
    // proptest is not async: it gets this thread while others go on.
    tokio::task::block_in_place(|| {
        let config = Config { cases: SAMPLES, failure_persistence: None, ..Config::default() };
        let ran = TestRunner::new(config).run(&all, |(args, env, name)| {
            let check = async {
                tokio::try_join!(
                    check_args(&cx, &pixel, &args),
                    check_env(&cx, &pixel, &env),
                    check_cwd(&cx, &pixel, &dir, &name),
                )
            };
            runtime.block_on(check).map(drop).map_err(|e| TestCaseError::fail(format!("{e:#}")))
        });
        match ran {
            Ok(()) => Ok(()),
            Err(TestError::Fail(why, input)) => Err(anyhow!("{why}\nsmallest: {input:?}")),
            Err(e) => Err(anyhow!("{e}")),
        }
    })
}
