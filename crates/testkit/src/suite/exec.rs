//! Commands: how they end, what flows through them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt};
use pixels_core::{Error, ExecOpts, Signal, StopOpts, TtySize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::{Noise, expect_code, table};
use crate::{Ctx, Out};

table! { "exec":
    every_exit_code [],
    deaths_by_signal [],
    what_cannot_be_run [],
    a_bad_cwd_is_an_error [],
    big_streams_arrive_whole [],
    stderr_is_apart [],
    stdout_and_stderr_interleave [Linux],
    a_reader_that_leaves_ends_it [],
    no_stdin_is_end_of_file [],
    a_stopped_pixel_is_refused [],
    a_timeout_is_an_error [],
    signals_and_kills_arrive [],
    a_trap_is_heard [Linux],
    fifty_at_once [],
    who_it_runs_as [],
    a_terminal_has_its_size [],
}

/// Longer than anything that works needs, shorter than a case may take.
const SOON: Duration = Duration::from_secs(60);

async fn every_exit_code(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    futures_util::stream::iter(0..=255u8)
        .map(|code| {
            let (cx, pixel) = (&cx, &pixel);
            async move {
                let out = cx.cmd(pixel, &["sh", "-c", &format!("exit {code}")]).await?;
                ensure!(out.code == code, "exit {code} came back as {}", out.code);
                anyhow::Ok(())
            }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
}

async fn deaths_by_signal(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    for n in [1u8, 2, 3, 6, 9, 10, 13, 14, 15] {
        let out = cx.cmd(&pixel, &["sh", "-c", &format!("kill -{n} $$")]).await?;
        ensure!(out.code == 128 + n, "signal {n} came back as {}", out.code);
    }
    Ok(())
}

async fn what_cannot_be_run(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    for missing in ["no-such-command-at-all", "/no/such/command", &format!("{dir}/missing")] {
        let out = cx.cmd(&pixel, &[missing]).await?;
        ensure!(out.code == 127, "{missing}: {out:?}");
    }
    let file = format!("{dir}/plain");
    pixels_core::SandboxExt::write_file(cx.sandbox(), &pixel, &file, b"x", 0o644, None).await?;
    for found in [&file, &dir] {
        let out = cx.cmd(&pixel, &[found]).await?;
        ensure!(out.code == 126, "{found}: {out:?}");
    }
    Ok(())
}

async fn a_bad_cwd_is_an_error(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    let file = format!("{dir}/file");
    pixels_core::SandboxExt::write_file(cx.sandbox(), &pixel, &file, b"x", 0o644, None).await?;
    for (cwd, codes) in [
        (format!("{dir}/missing"), &["not_found", "invalid"][..]),
        (file, &["not_found", "invalid"][..]),
    ] {
        let opts =
            ExecOpts { cwd: Some(cwd.clone().into()), no_stdin: true, ..ExecOpts::new(["true"]) };
        let result = match cx.sandbox().spawn(&pixel, opts).await {
            Ok(process) => process.wait().await,
            Err(e) => Err(e),
        };
        expect_code(&cwd, result, codes)?;
    }
    Ok(())
}

async fn big_streams_arrive_whole(cx: Ctx) -> Result<()> {
    const BLOCK: usize = 64 * 1024;
    const BLOCKS: usize = 1024;
    let pixel = cx.shared().await?;
    let mut process = cx.sandbox().spawn(&pixel, ExecOpts::new(["cat"])).await?;
    let mut stdin = process.stdin.take().context("no stdin")?;
    let mut stdout = process.stdout.take().context("no stdout")?;
    let feed = async move {
        let (mut noise, mut block) = (Noise::new(64), vec![0; BLOCK]);
        for _ in 0..BLOCKS {
            noise.fill(&mut block);
            stdin.write_all(&block).await?;
        }
        stdin.shutdown().await?;
        anyhow::Ok(())
    };
    // The same noise again, compared block by block: says where it went wrong.
    let check = async move {
        let (mut noise, mut want, mut got) = (Noise::new(64), vec![0; BLOCK], vec![0; BLOCK]);
        for n in 0..BLOCKS {
            noise.fill(&mut want);
            stdout.read_exact(&mut got).await.with_context(|| format!("block {n}"))?;
            ensure!(want == got, "block {n} of {BLOCKS} differs");
        }
        ensure!(stdout.read(&mut got).await? == 0, "more came out than went in");
        anyhow::Ok(())
    };
    let (fed, checked, status) = tokio::join!(feed, check, process.exit());
    checked?;
    fed.context("stdin")?;
    ensure!(status?.success(), "cat failed");
    Ok(())
}

async fn stderr_is_apart(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let out = cx.cmd(&pixel, &["cat", "/no/such/file"]).await?;
    ensure!(out.code == 1 && out.stdout.is_empty() && !out.stderr.is_empty(), "{out:?}");
    let out = cx.cmd(&pixel, &["echo", "x"]).await?;
    ensure!(out == Out { code: 0, stdout: b"x\n".into(), stderr: Vec::new() }, "{out:?}");
    Ok(())
}

async fn stdout_and_stderr_interleave(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    // More than any pipe holds, on both, so that neither may wait for the other.
    let script = "i=0; while [ $i -lt 4000 ]; do echo out-$i-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; \
                  echo err-$i-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx >&2; i=$((i+1)); done; exit 5";
    let out = cx.cmd(&pixel, &["sh", "-c", script]).await?;
    let expected = |word: &str| -> Vec<u8> {
        (0..4000)
            .flat_map(|i| format!("{word}-{i}-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n").into_bytes())
            .collect()
    };
    ensure!(out.code == 5, "exit code {}", out.code);
    ensure!(out.stdout == expected("out"), "stdout is not whole");
    ensure!(out.stderr == expected("err"), "stderr is not whole");
    Ok(())
}

async fn a_reader_that_leaves_ends_it(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let mut process = cx.sandbox().spawn(&pixel, ExecOpts::new(["cat"])).await?;
    let mut stdin = process.stdin.take().context("no stdin")?;
    let feeder = tokio::spawn(async move {
        let block = b"a line of text\n".repeat(1000);
        while stdin.write_all(&block).await.is_ok() {}
    });
    let mut line = String::new();
    let mut reader = BufReader::new(process.stdout.take().context("no stdout")?);
    reader.read_line(&mut line).await?;
    ensure!(line == "a line of text\n", "{line:?}");
    drop(reader);
    let ended = tokio::time::timeout(SOON, process.exit()).await;
    feeder.abort();
    ended.context("the command outlives its reader")??;
    Ok(())
}

async fn no_stdin_is_end_of_file(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let opts = ExecOpts { no_stdin: true, ..ExecOpts::new(["cat"]) };
    let out = tokio::time::timeout(SOON, cx.exec(&pixel, opts, b"")).await??;
    ensure!(out.code == 0 && out.stdout.is_empty(), "{out:?}");
    let out = tokio::time::timeout(SOON, cx.exec(&pixel, ExecOpts::new(["cat"]), b"")).await??;
    ensure!(out.code == 0 && out.stdout.is_empty(), "an empty one: {out:?}");
    Ok(())
}

async fn a_stopped_pixel_is_refused(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.fresh("stopped").await?);
    sandbox.stop(&pixel, StopOpts { force: true, ..StopOpts::default() }).await?;
    match sandbox.spawn(&pixel, ExecOpts::new(["true"])).await {
        Err(e) => {
            ensure!(e.code() == "wrong_state", "{}: {e}", e.code());
            ensure!(e.hint().is_some(), "a hint: {e}");
        }
        Ok(_) => bail!("a stopped pixel ran something"),
    }
    let console = sandbox.console(&pixel, pixels_core::ConsoleOpts::default()).await;
    expect_code("console", console, &["wrong_state"])?;
    Ok(())
}

async fn a_timeout_is_an_error(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let after = Duration::from_millis(700);
    let opts = ExecOpts { timeout: Some(after), ..ExecOpts::new(["sleep", "1000"]) };
    let process = cx.sandbox().spawn(&pixel, opts).await?;
    match tokio::time::timeout(SOON, process.wait()).await? {
        Err(e) => ensure!(matches!(e.kind(), Error::Timeout { .. }), "{}: {e}", e.code()),
        Ok(status) => bail!("it came back with {status:?}"),
    }
    let opts = ExecOpts { timeout: Some(SOON), no_stdin: true, ..ExecOpts::new(["true"]) };
    let out = cx.exec(&pixel, opts, b"").await?;
    ensure!(out.code == 0, "one that is done in time: {out:?}");
    Ok(())
}

async fn signals_and_kills_arrive(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    for signal in [None, Some(Signal::TERM), Some(Signal::INT), Some(Signal::HUP)] {
        let mut process = cx.sandbox().spawn(&pixel, ExecOpts::new(["cat"])).await?;
        // Once it answers, it is there to be signalled.
        let mut stdin = process.stdin.take().context("no stdin")?;
        let mut stdout = process.stdout.take().context("no stdout")?;
        stdin.write_all(b"x").await?;
        stdin.flush().await?;
        stdout.read_exact(&mut [0]).await?;
        let control = process.control();
        let expected = match signal {
            Some(signal) => {
                control.signal(signal).await?;
                128 + signal.0
            }
            None => {
                control.kill().await?;
                137
            }
        };
        let status = tokio::time::timeout(SOON, process.exit()).await??;
        ensure!(status.code() == expected, "{signal:?}: {status:?}");
        // After the end both are no errors.
        control.signal(Signal::TERM).await?;
        control.kill().await?;
    }
    Ok(())
}

async fn a_trap_is_heard(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let script = "trap 'echo heard; exit 7' USR1; echo up; while :; do sleep 0.05; done";
    let mut process = cx.sandbox().spawn(&pixel, ExecOpts::new(["sh", "-c", script])).await?;
    let mut lines = BufReader::new(process.stdout.take().context("no stdout")?).lines();
    ensure!(lines.next_line().await?.as_deref() == Some("up"), "it did not start");
    process.control().signal(Signal::USR1).await?;
    let heard = tokio::time::timeout(SOON, lines.next_line()).await??;
    ensure!(heard.as_deref() == Some("heard"), "{heard:?}");
    ensure!(process.exit().await?.code() == 7, "the trap's exit code");
    Ok(())
}

async fn fifty_at_once(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50u64 {
        let (cx, pixel) = (cx.clone(), pixel.clone());
        tasks.spawn(async move {
            let input = Noise::bytes(n, 100_000 + n as usize);
            let out = cx.exec(&pixel, ExecOpts::new(["cat"]), &input).await?;
            ensure!(
                out.code == 0 && out.stdout == input,
                "number {n}: code {}, {} of {} bytes, {}",
                out.code,
                out.stdout.len(),
                input.len(),
                if input.starts_with(&out.stdout) { "its own" } else { "another's" },
            );
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn who_it_runs_as(cx: Ctx) -> Result<()> {
    use pixels_core::SandboxExt as _;
    let pixel = cx.shared().await?;
    let users = match cx.sandbox().read_file(&pixel, "/etc/passwd", 0).await {
        Ok((users, _)) => String::from_utf8_lossy(&users).into_owned(),
        Err(e) if e.is_not_found() => String::new(),
        Err(e) => return Err(e.into()),
    };
    let uid = |line: &str| line.split(':').nth(2).map(str::to_owned);
    let expected = users.lines().find(|l| l.starts_with("pixel:")).and_then(uid);
    let expected = expected.unwrap_or_else(|| "0".into());
    let out = cx.cmd(&pixel, &["id", "-u"]).await?;
    let got = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    ensure!(got == expected, "runs as {got}, expected {expected}");
    ensure!(cx.ask(&pixel, &["id", "-u"]).await? == "0", "root is not root");
    Ok(())
}

async fn a_terminal_has_its_size(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let tty = Some(TtySize { cols: 101, rows: 37 });
    let opts = ExecOpts { tty, ..ExecOpts::new(["stty", "size"]) };
    let process = cx.sandbox().spawn(&pixel, opts).await?;
    ensure!(process.stderr.is_none(), "a terminal has one output");
    let out = tokio::time::timeout(SOON, crate::ctx::collect(process, b"")).await??;
    let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    ensure!(out.code == 0 && text == "37 101", "{out:?}");
    Ok(())
}
