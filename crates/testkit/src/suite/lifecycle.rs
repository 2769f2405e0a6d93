//! The life of a pixel.

use anyhow::{Context as _, Result, ensure};
use pixels_core::{CreateOpts, Name, Status, StopOpts, size::MIB};

use super::{expect_code, table};
use crate::Ctx;

table! { "lifecycle":
    create_get_list_delete [],
    start_and_stop_are_idempotent [],
    a_missing_pixel_is_not_found [],
    a_taken_name_is_refused [],
    of_two_creates_one_wins [],
    a_failed_create_leaves_nothing [],
    limits_and_metadata_are_kept [],
    delete_takes_checkpoints_along [Snapshots],
    bad_names_go_nowhere [],
    images_are_listed [],
    sweep_spares_what_is_in_use [],
}

fn forced() -> StopOpts {
    StopOpts { force: true, ..StopOpts::default() }
}

async fn create_get_list_delete(cx: Ctx) -> Result<()> {
    let (sandbox, name) = (cx.sandbox(), cx.name("life")?);
    let made = sandbox.create(cx.spec(&name)).await?;
    ensure!(made.name == name && made.status.is_running(), "{made:?}");
    let routable = sandbox.capabilities().routable;
    ensure!(made.addresses.is_empty() != routable, "created without an address: {made:?}");
    let got = sandbox.get(&name).await?;
    ensure!(got.status == Status::Running && got.addresses == made.addresses, "{got:?}");
    let listed = sandbox.list().await?;
    ensure!(listed.iter().filter(|i| i.name == name).count() == 1, "listed once: {listed:?}");
    ensure!(listed.is_sorted_by(|a, b| a.name <= b.name), "by name: {listed:?}");
    ensure!(cx.cmd(&name, &["true"]).await?.code == 0, "exec works once create returns");
    sandbox.delete(&name).await?;
    expect_code("get after delete", sandbox.get(&name).await, &["not_found"])?;
    expect_code("delete again", sandbox.delete(&name).await, &["not_found"])?;
    let listed = sandbox.list().await?;
    ensure!(listed.iter().all(|i| i.name != name), "listed after delete");
    Ok(())
}

async fn start_and_stop_are_idempotent(cx: Ctx) -> Result<()> {
    let (sandbox, name) = (cx.sandbox(), cx.fresh("updown").await?);
    let dir = "/root/kept";
    cx.sandbox().files(&name).await?.mkdir(dir.as_bytes(), 0o755, None).await?;
    sandbox.start(&name).await.context("start a running one")?;
    sandbox.stop(&name, StopOpts::default()).await?;
    let stopped = sandbox.get(&name).await?;
    ensure!(stopped.status == Status::Stopped, "{stopped:?}");
    ensure!(stopped.addresses.is_empty(), "a stopped pixel has no address: {stopped:?}");
    sandbox.stop(&name, StopOpts::default()).await.context("stop a stopped one")?;
    sandbox.stop(&name, forced()).await.context("force a stopped one")?;
    sandbox.start(&name).await?;
    let ready = sandbox.ready(&name, std::time::Duration::from_secs(60)).await?;
    let routable = sandbox.capabilities().routable;
    ensure!(ready.status.is_running() && ready.addresses.is_empty() != routable, "{ready:?}");
    sandbox.start(&name).await.context("start a running one")?;
    let out = cx.cmd(&name, &["true"]).await?;
    ensure!(out.code == 0, "exec after a restart: {out:?}");
    sandbox.files(&name).await?.stat(dir.as_bytes(), false).await.context("the disk is kept")?;
    sandbox.stop(&name, forced()).await?;
    ensure!(sandbox.get(&name).await?.status == Status::Stopped, "forced");
    sandbox.delete(&name).await.context("delete a stopped one")?;
    Ok(())
}

async fn a_missing_pixel_is_not_found(cx: Ctx) -> Result<()> {
    let (sandbox, name) = (cx.sandbox(), cx.name("missing")?);
    let label = "x".parse()?;
    let missing = &["not_found"][..];
    expect_code("get", sandbox.get(&name).await, missing)?;
    expect_code("start", sandbox.start(&name).await, missing)?;
    expect_code("stop", sandbox.stop(&name, forced()).await, missing)?;
    expect_code("delete", sandbox.delete(&name).await, missing)?;
    expect_code("create_snapshot", sandbox.create_snapshot(&name, &label).await, missing)?;
    expect_code("list_snapshots", sandbox.list_snapshots(&name).await, missing)?;
    expect_code("restore", sandbox.restore_snapshot(&name, &label).await, missing)?;
    expect_code("delete_snapshot", sandbox.delete_snapshot(&name, &label).await, missing)?;
    expect_code("get_policy", sandbox.get_policy(&name).await, missing)?;
    let spawned = sandbox.spawn(&name, pixels_core::ExecOpts::new(["true"])).await;
    expect_code("spawn", spawned, missing)?;
    let console = sandbox.console(&name, pixels_core::ConsoleOpts::default()).await;
    expect_code("console", console, missing)?;
    // A session may be opened lazily; its first call must say so then.
    if let Ok(session) = sandbox.files(&name).await {
        expect_code("files", session.stat(b"/", true).await, missing)?;
    }
    Ok(())
}

async fn a_taken_name_is_refused(cx: Ctx) -> Result<()> {
    let (sandbox, name) = (cx.sandbox(), cx.fresh("taken").await?);
    let before = sandbox.get(&name).await?;
    let again = sandbox.create(cx.spec(&name)).await;
    expect_code("create under a taken name", again, &["already_exists"])?;
    let after = sandbox.get(&name).await?;
    ensure!(before == after, "the first was touched: {before:?} {after:?}");
    ensure!(cx.cmd(&name, &["true"]).await?.code == 0, "the first still works");
    Ok(())
}

async fn of_two_creates_one_wins(cx: Ctx) -> Result<()> {
    let (sandbox, name) = (cx.sandbox(), cx.name("race")?);
    let (a, b) = tokio::join!(sandbox.create(cx.spec(&name)), sandbox.create(cx.spec(&name)));
    let (won, lost) = match (a, b) {
        (Ok(won), lost) | (lost, Ok(won)) => (won, lost),
        (Err(a), Err(b)) => anyhow::bail!("nobody won: {a}; {b}"),
    };
    expect_code("the other create", lost, &["already_exists"])?;
    ensure!(won.name == name && sandbox.get(&name).await?.status.is_running(), "the winner runs");
    ensure!(cx.cmd(&name, &["true"]).await?.code == 0, "the winner works");
    Ok(())
}

async fn a_failed_create_leaves_nothing(cx: Ctx) -> Result<()> {
    let sandbox = cx.sandbox();
    let name = cx.name("noimage")?;
    let image = Some("no-such-image-anywhere".to_owned());
    let made = sandbox.create(CreateOpts { image, ..CreateOpts::new(name.clone()) }).await;
    // Where the image would come from a server that does not answer, that is the reason.
    expect_code("an unknown image", made, &["not_found", "unreachable"])?;
    expect_code("what it left", sandbox.get(&name).await, &["not_found"])?;
    let name = cx.name("nomember")?;
    let target = Some("no-such-member".to_owned());
    let made = sandbox.create(CreateOpts { target, ..cx.spec(&name) }).await;
    expect_code("an unknown member", made, &["not_found", "unsupported", "invalid"])?;
    expect_code("what it left", sandbox.get(&name).await, &["not_found"])?;
    Ok(())
}

async fn limits_and_metadata_are_kept(cx: Ctx) -> Result<()> {
    let (sandbox, name) = (cx.sandbox(), cx.name("limits")?);
    let mut spec = cx.spec(&name);
    spec.cpu = Some("1".into());
    spec.memory = Some(512 * MIB);
    spec.meta.owner = Some("testkit".into());
    let expires = "2100-01-02T03:04:05Z".parse()?;
    spec.meta.expires_at = Some(expires);
    sandbox.create(spec).await?;
    let listed = sandbox.list().await?.into_iter().find(|i| i.name == name);
    for got in [Some(sandbox.get(&name).await?), listed] {
        let got = got.context("not listed")?;
        ensure!(got.limits.cpu.as_deref() == Some("1"), "{:?}", got.limits);
        ensure!(got.limits.memory == Some(512 * MIB), "{:?}", got.limits);
        ensure!(got.meta.owner.as_deref() == Some("testkit"), "{:?}", got.meta);
        ensure!(got.meta.expires_at == Some(expires), "{:?}", got.meta);
        ensure!(got.meta.origin.is_some(), "{:?}", got.meta);
    }
    Ok(())
}

async fn delete_takes_checkpoints_along(cx: Ctx) -> Result<()> {
    let (sandbox, name) = (cx.sandbox(), cx.fresh("again").await?);
    sandbox.create_snapshot(&name, &"one".parse()?).await?;
    sandbox.delete(&name).await?;
    expect_code("its checkpoints", sandbox.list_snapshots(&name).await, &["not_found"])?;
    sandbox.create(CreateOpts { bare: true, ..cx.spec(&name) }).await?;
    let left = sandbox.list_snapshots(&name).await?;
    ensure!(left.is_empty(), "a new pixel has none: {left:?}");
    Ok(())
}

async fn bad_names_go_nowhere(cx: Ctx) -> Result<()> {
    // The type is the check: no call can be made with such a name.
    let long = "x".repeat(60);
    for bad in ["", "A", "a b", "../x", "a/b", "-a", "a-", "é", "a\n", "px-px-a", &long] {
        expect_code(bad, Name::new(bad), &["invalid"])?;
    }
    let name = cx.name("found")?;
    ensure!(Name::new(&name.instance())? == name, "with and without the prefix");
    Ok(())
}

async fn images_are_listed(cx: Ctx) -> Result<()> {
    let images = cx.sandbox().list_images().await?;
    if let Some(image) = &cx.subject().image {
        let found = images.iter().any(|i| i.aliases.contains(image) || i.fingerprint == *image);
        ensure!(found, "{image} is not among {images:?}");
    }
    ensure!(images.iter().all(|i| !i.fingerprint.is_empty()), "{images:?}");
    Ok(())
}

async fn sweep_spares_what_is_in_use(cx: Ctx) -> Result<()> {
    let (sandbox, name) = (cx.sandbox(), cx.shared().await?);
    let before = sandbox.list_snapshots(&name).await?;
    // Earlier runs may have left something, but only once.
    sandbox.sweep().await?;
    let removed = sandbox.sweep().await?;
    ensure!(removed.is_empty(), "a clean backend: {removed:?}");
    ensure!(sandbox.get(&name).await?.status.is_running(), "the shared pixel is spared");
    let labels =
        |s: &[pixels_core::Snapshot]| s.iter().map(|s| s.label.clone()).collect::<Vec<_>>();
    let after = sandbox.list_snapshots(&name).await?;
    ensure!(labels(&before) == labels(&after), "checkpoints are spared");
    Ok(())
}
