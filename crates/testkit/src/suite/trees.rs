//! Ending a command ends all it started, however it hid.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pixels_core::{Error, ExecOpts, Name, Process};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::table;
use crate::Ctx;

table! { "trees":
    a_timeout_kills_all [Linux],
    a_kill_kills_all [Linux],
    a_drop_kills_all [Linux],
    a_normal_end_is_not_waited_for_by_children [Linux],
}

/// Starts processes that leave their parent, their group and their session, each
/// with `$1` among its arguments, and then says so.
const HIDE: &str = r#"
sleep "$1" &
setsid sleep "$1" >/dev/null 2>&1 &
(setsid sh -c 'sleep "$0" & (sleep "$0" &) ; wait; :' "$1" >/dev/null 2>&1 &)
trap '' HUP
nohup sleep "$1" >/dev/null 2>&1 &
echo up
sleep "$1"
"#;

/// Counts the processes whose arguments hold `$MARK`; then, at most `$TRIES`
/// times and a little apart, looks again until there is none. The mark is in the
/// environment so that this shell is none of them.
const GONE: &str = r#"
count() {
    n=0
    for f in /proc/[0-9]*/cmdline; do
        line=
        { read -r line <"$f"; } 2>/dev/null
        case $line in *"$MARK"*) n=$((n+1)) ;; esac
    done
}
count
while [ "$n" -gt 0 ] && [ "$TRIES" -gt 0 ]; do
    sleep 0.05
    TRIES=$((TRIES-1))
    count
done
echo "$n"
"#;

/// A number that no other command of this machine has among its arguments, and
/// that `sleep` takes for seconds.
fn mark() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let run = u64::from(std::process::id()) * 1000;
    format!("1{:011}", run + NEXT.fetch_add(1, Ordering::Relaxed))
}

/// How many are left after at most `tries` looks.
async fn left(cx: &Ctx, pixel: &Name, mark: &str, tries: u32) -> Result<u32> {
    let env = [("MARK", mark.to_owned()), ("TRIES", tries.to_string())];
    let opts = ExecOpts {
        env: env.map(|(k, v)| (k.into(), v.into())).to_vec(),
        root: true,
        no_stdin: true,
        ..ExecOpts::new(["sh", "-c", GONE])
    };
    let out = cx.exec(pixel, opts, b"").await?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().parse()?)
}

/// Starts the tree and waits until all of it is there.
async fn start(cx: &Ctx, pixel: &Name, mark: &str, timeout: Option<Duration>) -> Result<Process> {
    let opts = ExecOpts { timeout, ..ExecOpts::new(["sh", "-c", HIDE, "sh", mark]) };
    let mut process = cx.sandbox().spawn(pixel, opts).await?;
    let mut out = BufReader::new(process.stdout.take().context("no stdout")?);
    let mut line = String::new();
    out.read_line(&mut line).await?;
    ensure!(line == "up\n", "it did not start: {line:?}");
    // The pipe stays open: closing it could end what this is to kill.
    process.stdout = Some(Box::pin(out));
    let alive = left(cx, pixel, mark, 0).await?;
    ensure!(alive >= 4, "only {alive} of the tree were there");
    Ok(process)
}

async fn a_timeout_kills_all(cx: Ctx) -> Result<()> {
    let (pixel, mark) = (cx.shared().await?, mark());
    let mut process = start(&cx, &pixel, &mark, Some(Duration::from_secs(3))).await?;
    match process.exit().await {
        Err(e) => ensure!(matches!(e.kind(), Error::Timeout { .. }), "{}: {e}", e.code()),
        Ok(status) => bail!("it came back with {status:?}"),
    }
    let alive = left(&cx, &pixel, &mark, 200).await?;
    ensure!(alive == 0, "{alive} outlived the timeout");
    Ok(())
}

async fn a_kill_kills_all(cx: Ctx) -> Result<()> {
    let (pixel, mark) = (cx.shared().await?, mark());
    let mut process = start(&cx, &pixel, &mark, None).await?;
    process.control().kill().await?;
    let status = process.exit().await?;
    ensure!(status.code() == 137, "{status:?}");
    // Kill and wait is the way to know: no second look.
    let alive = left(&cx, &pixel, &mark, 0).await?;
    ensure!(alive == 0, "{alive} outlived the kill");
    Ok(())
}

async fn a_drop_kills_all(cx: Ctx) -> Result<()> {
    let (pixel, mark) = (cx.shared().await?, mark());
    drop(start(&cx, &pixel, &mark, None).await?);
    let alive = left(&cx, &pixel, &mark, 200).await?;
    ensure!(alive == 0, "{alive} outlived the drop");
    Ok(())
}

async fn a_normal_end_is_not_waited_for_by_children(cx: Ctx) -> Result<()> {
    let (pixel, mark) = (cx.shared().await?, mark());
    // A daemon that let go of its streams does not hold the command up.
    let script = r#"setsid sleep "$1" >/dev/null 2>&1 </dev/null & exit 3"#;
    let out = tokio::time::timeout(
        Duration::from_secs(60),
        cx.cmd(&pixel, &["sh", "-c", script, "sh", &mark]),
    )
    .await
    .context("the command is held up by what it left")??;
    ensure!(out.code == 3, "{out:?}");
    // Whether it lives on is not promised: remove it.
    cx.ask(&pixel, &["sh", "-c", r#"for p in /proc/[0-9]*; do read -r l <"$p/cmdline"; case $l in sleep*"$1"*) kill -9 "${p#/proc/}";; esac; done 2>/dev/null; :"#, "sh", &mark]).await?;
    Ok(())
}
