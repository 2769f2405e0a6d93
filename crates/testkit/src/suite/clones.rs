//! Clones: machines of their own, and a source that does not notice.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pixels_core::{CloneOpts, Label, Limits, Name, SandboxExt, StopOpts, size::MIB};

use super::{expect_code, table};
use crate::Ctx;

table! { "clones":
    of_a_checkpoint_side_by_side [CloneFrom, Snapshots],
    of_a_pixel_as_it_is [CloneLive],
    of_a_stopped_pixel [CloneLive],
    the_source_does_not_notice [CloneLive, Linux],
    refused_ones_leave_nothing [CloneFrom, Snapshots],
    of_two_clones_to_one_name_one_wins [CloneFrom, Snapshots],
    limits_and_metadata [CloneFrom, Snapshots],
    outlive_their_source [CloneFrom, Snapshots],
}

const UP: Duration = Duration::from_secs(60);

/// Waits for the host key that an SSH server gets at the first boot.
const BOOTED: &str = "[ \"$(cat /proc/1/comm)\" = systemd ] && [ -x /usr/sbin/sshd ] || exit 0; \
    timeout 30 sh -c 'until [ -s /etc/ssh/ssh_host_ed25519_key ]; do sleep 0.05; done'";

/// What two machines must not share.
#[derive(Debug)]
struct Identity {
    machine_id: String,
    host_key: Option<String>,
    mac: Option<String>,
    address: Option<String>,
    hostname: String,
}

impl Identity {
    async fn of(cx: &Ctx, pixel: &Name) -> Result<Self> {
        let up = cx.sandbox().ready(pixel, UP).await?;
        let key = ["cat", "/etc/ssh/ssh_host_ed25519_key"];
        // An image's first boot makes its keys; what it does meanwhile is no change.
        // Where there is no shell, or no such boot, there is nothing to wait for.
        let _ = cx.ask(pixel, &["sh", "-c", BOOTED]).await;
        Ok(Self {
            machine_id: cx.ask(pixel, &["cat", "/etc/machine-id"]).await?,
            // Not every image has an SSH server.
            host_key: cx.ask(pixel, &key).await.ok(),
            // Without a network there is no interface.
            mac: cx.ask(pixel, &["cat", "/sys/class/net/eth0/address"]).await.ok(),
            address: match up.addresses.first() {
                Some(address) => Some(address.to_string()),
                None => {
                    ensure!(!cx.sandbox().capabilities().routable, "no address");
                    None
                }
            },
            hostname: cx.ask(pixel, &["hostname"]).await?,
        })
    }

    fn differs(&self, other: &Self) -> Result<()> {
        ensure!(!self.machine_id.is_empty(), "no machine-id: {self:?}");
        ensure!(self.machine_id != other.machine_id, "one machine-id: {}", self.machine_id);
        let differ = |a: &Option<String>, b: &Option<String>| a.is_none() || a != b;
        let routed = self.address.is_none() || self.mac.is_some();
        ensure!(routed && differ(&self.mac, &other.mac), "one MAC: {:?}", self.mac);
        ensure!(differ(&self.address, &other.address), "one address: {:?}", self.address);
        ensure!(self.hostname != other.hostname, "one hostname: {}", self.hostname);
        match (&self.host_key, &other.host_key) {
            (Some(a), Some(b)) => ensure!(a != b, "one SSH host key"),
            (None, None) => {}
            _ => anyhow::bail!("one of them lost its SSH host key"),
        }
        Ok(())
    }
}

/// When a pixel's first process started: a restart changes it.
pub(super) async fn boot(cx: &Ctx, pixel: &Name) -> Result<String> {
    let stat = cx.ask(pixel, &["cat", "/proc/1/stat"]).await?;
    // The second field may hold blanks and parentheses of its own.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(19).map(str::to_owned).context("no start time")
}

async fn labels(cx: &Ctx, pixel: &Name) -> Result<Vec<Label>> {
    let list = cx.sandbox().list_snapshots(pixel).await?;
    Ok(list.into_iter().map(|s| s.label).collect())
}

async fn of_a_checkpoint_side_by_side(cx: Ctx) -> Result<()> {
    let (sandbox, source) = (cx.sandbox(), cx.fresh("src").await?);
    let label = "then".parse()?;
    sandbox.write_file(&source, "/root/state", b"then", 0o600, None).await?;
    sandbox.create_snapshot(&source, &label).await?;
    sandbox.write_file(&source, "/root/state", b"now", 0o600, None).await?;
    let (a, b) = (cx.name("a")?, cx.name("b")?);
    let (made_a, made_b) = tokio::join!(
        sandbox.clone_from(&source, Some(&label), &a, CloneOpts::default()),
        sandbox.clone_from(&source, Some(&label), &b, CloneOpts::default()),
    );
    for (made, name) in [(made_a?, &a), (made_b?, &b)] {
        ensure!(made.name == *name && made.status.is_running(), "{made:?}");
        let state = sandbox.read_file(name, "/root/state", 0).await?.0;
        ensure!(state == b"then", "{name} has the checkpoint's content: {state:?}");
        ensure!(labels(&cx, name).await?.is_empty(), "checkpoints are not cloned");
    }
    let (s, a, b) =
        tokio::try_join!(Identity::of(&cx, &source), Identity::of(&cx, &a), Identity::of(&cx, &b))?;
    a.differs(&b)?;
    a.differs(&s)?;
    b.differs(&s)?;
    ensure!(labels(&cx, &source).await? == [label], "the source's checkpoints stay");
    let state = sandbox.read_file(&source, "/root/state", 0).await?.0;
    ensure!(state == b"now", "the source's content stays: {state:?}");
    Ok(())
}

async fn of_a_pixel_as_it_is(cx: Ctx) -> Result<()> {
    let (sandbox, source) = (cx.sandbox(), cx.fresh("live").await?);
    sandbox.write_file(&source, "/root/state", b"live", 0o600, None).await?;
    let twin = cx.name("twin")?;
    sandbox.clone_from(&source, None, &twin, CloneOpts::default()).await?;
    let state = sandbox.read_file(&twin, "/root/state", 0).await?.0;
    ensure!(state == b"live", "{state:?}");
    sandbox.write_file(&twin, "/root/state", b"twin", 0o600, None).await?;
    let state = sandbox.read_file(&source, "/root/state", 0).await?.0;
    ensure!(state == b"live", "the clone writes into its source");
    Identity::of(&cx, &source).await?.differs(&Identity::of(&cx, &twin).await?)?;
    for name in [&source, &twin] {
        let left = labels(&cx, name).await?;
        ensure!(left.is_empty(), "{name} has a checkpoint that nobody made: {left:?}");
    }
    Ok(())
}

async fn of_a_stopped_pixel(cx: Ctx) -> Result<()> {
    let (sandbox, source, twin) = (cx.sandbox(), cx.fresh("coldsrc").await?, cx.name("warm")?);
    sandbox.stop(&source, StopOpts { force: true, ..StopOpts::default() }).await?;
    let made = sandbox.clone_from(&source, None, &twin, CloneOpts::default()).await?;
    ensure!(made.status.is_running(), "a clone runs: {made:?}");
    ensure!(!sandbox.get(&source).await?.status.is_running(), "its source was started");
    ensure!(cx.cmd(&twin, &["true"]).await?.code == 0, "exec works");
    Ok(())
}

async fn the_source_does_not_notice(cx: Ctx) -> Result<()> {
    let (sandbox, source) = (cx.sandbox(), cx.fresh("busy").await?);
    let (before, had) = (boot(&cx, &source).await?, Identity::of(&cx, &source).await?);
    // Something that would die with its machine.
    let sleeper = pixels_core::ExecOpts::new(["cat"]);
    let mut process = sandbox.spawn(&source, sleeper).await?;
    let twin = cx.name("quiet")?;
    sandbox.clone_from(&source, None, &twin, CloneOpts::default()).await?;
    ensure!(boot(&cx, &source).await? == before, "the source was restarted");
    let has = Identity::of(&cx, &source).await?;
    ensure!(format!("{had:?}") == format!("{has:?}"), "{had:?} became {has:?}");
    drop(process.stdin.take());
    ensure!(process.exit().await?.success(), "a command in the source was ended");
    Ok(())
}

async fn refused_ones_leave_nothing(cx: Ctx) -> Result<()> {
    let (sandbox, source) = (cx.sandbox(), cx.shared().await?);
    let base = labels(&cx, &source).await?;
    let label = base.first().context("the shared pixel has a checkpoint")?;
    let taken = cx.fresh("occupied").await?;
    let before = sandbox.get(&taken).await?;
    let made = sandbox.clone_from(&source, Some(label), &taken, CloneOpts::default()).await;
    expect_code("to a taken name", made, &["already_exists"])?;
    ensure!(sandbox.get(&taken).await? == before, "the one there was touched");
    let name = cx.name("never")?;
    let missing: Label = "no-such-label".parse()?;
    let made = sandbox.clone_from(&source, Some(&missing), &name, CloneOpts::default()).await;
    expect_code("of a missing checkpoint", made, &["not_found"])?;
    let nobody = cx.name("nobody")?;
    let made = sandbox.clone_from(&nobody, Some(label), &name, CloneOpts::default()).await;
    expect_code("of a missing pixel", made, &["not_found"])?;
    let made = sandbox.clone_from(&nobody, None, &name, CloneOpts::default()).await;
    expect_code("of a missing pixel as it is", made, &["not_found"])?;
    expect_code("what they left", sandbox.get(&name).await, &["not_found"])?;
    ensure!(labels(&cx, &source).await? == base, "the source's checkpoints stay");
    Ok(())
}

async fn of_two_clones_to_one_name_one_wins(cx: Ctx) -> Result<()> {
    let (sandbox, source, name) = (cx.sandbox(), cx.shared().await?, cx.name("one")?);
    let base = labels(&cx, &source).await?;
    let (a, b) = tokio::join!(
        sandbox.clone_from(&source, base.first(), &name, CloneOpts::default()),
        sandbox.clone_from(&source, base.first(), &name, CloneOpts::default()),
    );
    let lost = match (a, b) {
        (Ok(_), lost) | (lost, Ok(_)) => lost,
        (Err(a), Err(b)) => anyhow::bail!("nobody won: {a}; {b}"),
    };
    expect_code("the other clone", lost, &["already_exists"])?;
    ensure!(cx.cmd(&name, &["true"]).await?.code == 0, "the winner works");
    Ok(())
}

async fn limits_and_metadata(cx: Ctx) -> Result<()> {
    let (sandbox, source, name) = (cx.sandbox(), cx.name("spec")?, cx.name("specclone")?);
    let mut spec = cx.spec(&source);
    spec.memory = Some(512 * MIB);
    spec.cpu = Some("1".into());
    spec.meta.expires_at = Some("2100-01-02T03:04:05Z".parse()?);
    spec.meta.owner = Some("first".into());
    sandbox.create(spec).await?;
    let label = "ready".parse()?;
    sandbox.create_snapshot(&source, &label).await?;
    let opts = CloneOpts {
        limits: Limits { memory: Some(256 * MIB), ..Limits::default() },
        owner: Some("second".into()),
        ..CloneOpts::default()
    };
    sandbox.clone_from(&source, Some(&label), &name, opts).await?;
    let got = sandbox.get(&name).await?;
    ensure!(got.limits.memory == Some(256 * MIB), "a new limit: {:?}", got.limits);
    ensure!(got.limits.cpu.as_deref() == Some("1"), "the source's limit: {:?}", got.limits);
    ensure!(got.meta.expires_at.is_none(), "an expiry is not inherited: {:?}", got.meta);
    ensure!(got.meta.owner.as_deref() == Some("second"), "{:?}", got.meta);
    let origin = format!("{source}:{label}");
    ensure!(got.meta.origin.as_deref() == Some(&*origin), "{:?}", got.meta);
    Ok(())
}

async fn outlive_their_source(cx: Ctx) -> Result<()> {
    let (sandbox, source, name) = (cx.sandbox(), cx.fresh("mortal").await?, cx.name("heir")?);
    let label = "ready".parse()?;
    sandbox.write_file(&source, "/root/state", b"inherited", 0o600, None).await?;
    sandbox.create_snapshot(&source, &label).await?;
    sandbox.clone_from(&source, Some(&label), &name, CloneOpts::default()).await?;
    sandbox.delete(&source).await?;
    let state = sandbox.read_file(&name, "/root/state", 0).await?.0;
    ensure!(state == b"inherited", "{state:?}");
    ensure!(cx.cmd(&name, &["true"]).await?.code == 0, "exec works");
    Ok(())
}
