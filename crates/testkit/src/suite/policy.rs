//! Egress policies: what is asked for is in force, or refused.

use anyhow::{Result, bail, ensure};
use pixels_core::{CloneOpts, EgressMode, Policy};

use super::{expect_code, table};
use crate::Ctx;

table! { "policy":
    the_default_is_unrestricted [],
    restricted_modes_are_refused [NoEgress],
    modes_and_domains [Egress],
    a_create_asks_for_a_mode [Egress],
    a_clone_takes_its_sources_policy [Egress, CloneLive],
    a_restore_keeps_the_current_policy [Egress, Snapshots],
}

async fn the_default_is_unrestricted(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.shared().await?);
    let policy = sandbox.get_policy(&pixel).await?;
    ensure!(policy == Policy::default(), "{policy:?}");
    // What is in force already needs nothing that could be unsupported.
    sandbox.set_egress_mode(&pixel, EgressMode::Unrestricted).await?;
    ensure!(sandbox.get_policy(&pixel).await? == policy, "it changed");
    ensure!(sandbox.get(&pixel).await?.meta.egress == EgressMode::Unrestricted, "metadata");
    Ok(())
}

async fn restricted_modes_are_refused(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.shared().await?);
    for mode in [EgressMode::Agent, EgressMode::Allowlist] {
        let set = sandbox.set_egress_mode(&pixel, mode).await;
        expect_code(mode.as_str(), set, &["unsupported"])?;
        let name = cx.name("restricted")?;
        let mut spec = cx.spec(&name);
        spec.meta.egress = mode;
        expect_code("create", sandbox.create(spec).await, &["unsupported"])?;
        expect_code("what it left", sandbox.get(&name).await, &["not_found"])?;
    }
    let allowed = sandbox.allow_domain(&pixel, "example.org").await;
    expect_code("allow", allowed, &["unsupported"])?;
    let denied = sandbox.deny_domain(&pixel, "example.org").await;
    expect_code("deny", denied, &["unsupported"])?;
    ensure!(sandbox.get_policy(&pixel).await? == Policy::default(), "nothing changed");
    Ok(())
}

async fn modes_and_domains(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.fresh("net").await?);
    match sandbox.allow_domain(&pixel, "example.org").await {
        Err(e) => ensure!(e.hint().is_some(), "refused without a hint: {e}"),
        Ok(()) => bail!("an unrestricted pixel has no list to add to"),
    }
    sandbox.set_egress_mode(&pixel, EgressMode::Allowlist).await?;
    ensure!(sandbox.get(&pixel).await?.meta.egress == EgressMode::Allowlist, "metadata");
    // The order is kept, a second time changes nothing, and neither does spelling.
    for domain in ["b.example", "a.example", "b.example", "B.Example."] {
        sandbox.allow_domain(&pixel, domain).await?;
    }
    let expected = |domains: &[&str]| Policy {
        mode: EgressMode::Allowlist,
        domains: domains.iter().map(|d| (*d).to_owned()).collect(),
    };
    let policy = sandbox.get_policy(&pixel).await?;
    ensure!(policy == expected(&["b.example", "a.example"]), "{policy:?}");
    let denied = sandbox.deny_domain(&pixel, "c.example").await;
    expect_code("a domain that is not there", denied, &["not_found"])?;
    sandbox.deny_domain(&pixel, "b.example").await?;
    let policy = sandbox.get_policy(&pixel).await?;
    ensure!(policy == expected(&["a.example"]), "{policy:?}");
    for bad in ["", "a b", "exa\nmple", "é/x"] {
        expect_code(bad, sandbox.allow_domain(&pixel, bad).await, &["invalid"])?;
    }
    Ok(())
}

async fn a_create_asks_for_a_mode(cx: Ctx) -> Result<()> {
    let (sandbox, name) = (cx.sandbox(), cx.name("asked")?);
    let mut spec = cx.spec(&name);
    spec.meta.egress = EgressMode::Agent;
    let made = sandbox.create(spec).await?;
    ensure!(made.meta.egress == EgressMode::Agent, "{made:?}");
    ensure!(sandbox.get_policy(&name).await?.mode == EgressMode::Agent, "in force");
    Ok(())
}

async fn a_clone_takes_its_sources_policy(cx: Ctx) -> Result<()> {
    let (sandbox, source, name) = (cx.sandbox(), cx.fresh("ruled").await?, cx.name("heir")?);
    sandbox.set_egress_mode(&source, EgressMode::Allowlist).await?;
    sandbox.allow_domain(&source, "example.org").await?;
    sandbox.clone_from(&source, None, &name, CloneOpts::default()).await?;
    let (theirs, ours) = (sandbox.get_policy(&source).await?, sandbox.get_policy(&name).await?);
    ensure!(theirs == ours, "{theirs:?} became {ours:?}");
    // From here on each has its own.
    sandbox.deny_domain(&name, "example.org").await?;
    ensure!(sandbox.get_policy(&source).await? == theirs, "the source's changed");
    Ok(())
}

async fn a_restore_keeps_the_current_policy(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.fresh("rule").await?);
    let label = "before".parse()?;
    sandbox.create_snapshot(&pixel, &label).await?;
    sandbox.set_egress_mode(&pixel, EgressMode::Allowlist).await?;
    sandbox.allow_domain(&pixel, "example.org").await?;
    let before = sandbox.get_policy(&pixel).await?;
    sandbox.restore_snapshot(&pixel, &label).await?;
    let after = sandbox.get_policy(&pixel).await?;
    ensure!(before == after, "{before:?} became {after:?}");
    Ok(())
}
