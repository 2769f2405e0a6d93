//! Checkpoints: made, listed, gone back to.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pixels_core::{Label, Name, SandboxExt, StopOpts};

use super::{expect_code, table};
use crate::Ctx;

table! { "snapshots":
    create_list_delete [Snapshots],
    what_is_missing_or_taken [Snapshots],
    restore_brings_back_and_keeps_identity [Snapshots],
    restore_past_newer_keeps_them [Snapshots, KeepsNewer],
    a_stopped_pixel_stays_stopped [Snapshots],
    a_checkpoint_stops_nothing [Snapshots, Linux],
}

/// How long a pixel may take to come up again.
const UP: Duration = Duration::from_secs(60);
const FILE: &str = "/root/state";

async fn set(cx: &Ctx, pixel: &Name, content: &str) -> Result<()> {
    Ok(cx.sandbox().write_file(pixel, FILE, content.as_bytes(), 0o600, None).await?)
}

async fn state(cx: &Ctx, pixel: &Name) -> Result<String> {
    Ok(String::from_utf8(cx.sandbox().read_file(pixel, FILE, 0).await?.0)?)
}

async fn labels(cx: &Ctx, pixel: &Name) -> Result<Vec<String>> {
    let list = cx.sandbox().list_snapshots(pixel).await?;
    Ok(list.into_iter().map(|s| s.label.to_string()).collect())
}

async fn create_list_delete(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.fresh("cp").await?);
    ensure!(labels(&cx, &pixel).await?.is_empty(), "a new pixel has none");
    // Not in the order of the alphabet: the list is by age.
    for label in ["z-first", "a.second", "M_third"] {
        let made = sandbox.create_snapshot(&pixel, &label.parse()?).await?;
        ensure!(made.label.as_str() == label, "{made:?}");
    }
    let list = sandbox.list_snapshots(&pixel).await?;
    let order: Vec<_> = list.iter().map(|s| s.label.as_str()).collect();
    ensure!(order == ["z-first", "a.second", "M_third"], "oldest first: {order:?}");
    let times: Vec<_> = list.iter().filter_map(|s| s.created_at).collect();
    ensure!(times.is_sorted(), "times: {times:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() as i64;
    ensure!(times.iter().all(|t| (now - t.as_second()).abs() < 3600), "made just now: {times:?}");
    sandbox.delete_snapshot(&pixel, &"a.second".parse()?).await?;
    let left = labels(&cx, &pixel).await?;
    ensure!(left == ["z-first", "M_third"], "{left:?}");
    Ok(())
}

async fn what_is_missing_or_taken(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.fresh("cpbad").await?);
    let (label, missing): (Label, Label) = ("one".parse()?, "missing".parse()?);
    set(&cx, &pixel, "at one").await?;
    sandbox.create_snapshot(&pixel, &label).await?;
    set(&cx, &pixel, "after").await?;
    let again = sandbox.create_snapshot(&pixel, &label).await;
    expect_code("a second of that label", again, &["already_exists"])?;
    ensure!(labels(&cx, &pixel).await? == ["one"], "one of them");
    let restored = sandbox.restore_snapshot(&pixel, &missing).await;
    expect_code("restore", restored, &["not_found"])?;
    let deleted = sandbox.delete_snapshot(&pixel, &missing).await;
    expect_code("delete", deleted, &["not_found"])?;
    ensure!(state(&cx, &pixel).await? == "after", "a refused restore changes nothing");
    ensure!(sandbox.get(&pixel).await?.status.is_running(), "nor stops it");
    // The one that was there is the first, not a second.
    sandbox.restore_snapshot(&pixel, &label).await?;
    ensure!(state(&cx, &pixel).await? == "at one", "the first was replaced");
    Ok(())
}

/// What makes a pixel itself, as far as it can be seen from inside.
async fn identity(cx: &Ctx, pixel: &Name) -> Result<Vec<String>> {
    let up = cx.sandbox().ready(pixel, UP).await?;
    let mut all = vec![format!("{:?}", up.addresses.first())];
    for path in ["/etc/machine-id", "/etc/hostname"] {
        all.push(cx.ask(pixel, &["cat", path]).await.context(path)?);
    }
    // Without a network there is no interface.
    let mac = cx.ask(pixel, &["cat", "/sys/class/net/eth0/address"]).await;
    ensure!(mac.is_ok() || up.addresses.is_empty(), "an address without an interface");
    all.push(mac.unwrap_or_default());
    Ok(all)
}

async fn restore_brings_back_and_keeps_identity(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.fresh("back").await?);
    let label = "then".parse()?;
    let before = identity(&cx, &pixel).await?;
    set(&cx, &pixel, "then").await?;
    sandbox.create_snapshot(&pixel, &label).await?;
    set(&cx, &pixel, "now").await?;
    sandbox.write_file(&pixel, "/root/later", b"", 0o600, None).await?;
    for _ in 0..2 {
        sandbox.restore_snapshot(&pixel, &label).await?;
        ensure!(sandbox.get(&pixel).await?.status.is_running(), "one that ran runs again");
        ensure!(state(&cx, &pixel).await? == "then", "the content is back");
        let later = sandbox.read_file(&pixel, "/root/later", 0).await;
        expect_code("a file made later", later, &["not_found"])?;
        let after = identity(&cx, &pixel).await?;
        ensure!(before == after, "{before:?} became {after:?}");
        ensure!(labels(&cx, &pixel).await? == ["then"], "the checkpoint stays");
        set(&cx, &pixel, "again").await?;
    }
    Ok(())
}

async fn restore_past_newer_keeps_them(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.fresh("newer").await?);
    for label in ["one", "two", "three"] {
        set(&cx, &pixel, label).await?;
        sandbox.create_snapshot(&pixel, &label.parse()?).await?;
    }
    for label in ["one", "three", "two"] {
        sandbox.restore_snapshot(&pixel, &label.parse()?).await?;
        ensure!(state(&cx, &pixel).await? == label, "back at {label}");
        let all = labels(&cx, &pixel).await?;
        ensure!(all == ["one", "two", "three"], "after {label}: {all:?}");
    }
    Ok(())
}

async fn a_stopped_pixel_stays_stopped(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.fresh("cpcold").await?);
    let label = "cold".parse()?;
    set(&cx, &pixel, "cold").await?;
    sandbox.stop(&pixel, StopOpts::default()).await?;
    sandbox.create_snapshot(&pixel, &label).await?;
    sandbox.restore_snapshot(&pixel, &label).await?;
    ensure!(!sandbox.get(&pixel).await?.status.is_running(), "it was started");
    sandbox.start(&pixel).await?;
    sandbox.ready(&pixel, UP).await?;
    ensure!(state(&cx, &pixel).await? == "cold", "the content is there");
    Ok(())
}

async fn a_checkpoint_stops_nothing(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.fresh("cplive").await?);
    let before = super::clones::boot(&cx, &pixel).await?;
    sandbox.create_snapshot(&pixel, &"live".parse()?).await?;
    let after = super::clones::boot(&cx, &pixel).await?;
    ensure!(before == after, "it was restarted");
    Ok(())
}
