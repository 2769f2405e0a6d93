//! The figures and their bounds.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::{StreamExt, TryStreamExt};
use pixels_core::{Backend, ExecOpts, RunIo, SandboxExt};
use pixels_wire::Method;
use serde_json::json;

use crate::measure::{Base, Bench, clock, median};

/// How often a figure is measured; ours and the floor take turns.
const ROUNDS: usize = 15;
/// Clones at once.
const PARALLEL: usize = 20;
/// Pixels in the long list.
const LISTED: usize = 100;

/// One line of the result.
pub(crate) struct Figure {
    pub what: &'static str,
    pub ours: String,
    pub against: String,
    pub result: String,
    pub bound: Option<(&'static str, bool)>,
}

impl Figure {
    pub fn holds(&self) -> bool {
        self.bound.is_none_or(|(_, holds)| holds)
    }
}

pub(crate) fn ms(d: Duration) -> String {
    format!("{:.1} ms", d.as_secs_f64() * 1e3)
}

pub(crate) fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64().max(1e-9)
}

fn bounded(
    what: &'static str,
    ours: Duration,
    floor: Duration,
    bound: &'static str,
    limit: f64,
) -> Figure {
    let r = ratio(ours, floor);
    Figure {
        what,
        ours: ms(ours),
        against: format!("floor {}", ms(floor)),
        result: format!("{r:.3}x"),
        bound: Some((bound, r <= limit)),
    }
}

/// All of them, in the order of the issue.
///
/// `only` picks groups by name; without one all are measured.
pub(crate) async fn all(bench: &Bench, base: &Base, only: &[String]) -> Result<Vec<Figure>> {
    let wanted = |group: &str| only.is_empty() || only.iter().any(|o| o == group);
    let mut figures = Vec::new();
    if wanted("create") {
        figures.extend(create_and_exec(bench, base).await?);
    }
    if wanted("exec") {
        figures.extend(exec(bench, base).await?);
    }
    if wanted("help") {
        figures.push(help(bench)?);
    }
    if wanted("list") {
        figures.push(list(bench, base).await?);
    }
    if wanted("parallel") {
        figures.push(parallel(bench, base).await?);
    }
    Ok(figures)
}

async fn create_and_exec(bench: &Bench, base: &Base) -> Result<Vec<Figure>> {
    let from = format!("{}/ready", base.name.instance());
    let label = format!("{}:ready", base.name);
    let (mut floor, mut library, mut program, mut theirs) = (vec![], vec![], vec![], vec![]);
    for n in 0..ROUNDS {
        let (a, b, c, d) = (
            bench.fresh("fl", n),
            bench.fresh("lib", n),
            bench.fresh("cli", n),
            bench.fresh("inc", n),
        );
        floor.push(
            clock(async {
                bench.floor.clone(&base.snapshot, &from, &a.instance()).await?;
                ensure!(bench.floor.exec(&a.instance(), &["true"]).await? == 0);
                Ok(())
            })
            .await?,
        );
        library.push(
            clock(async {
                let ready = "ready".parse()?;
                let opts = pixels_core::CloneOpts::default();
                bench.incus.clone_from(&base.name, Some(&ready), &b, opts).await?;
                ensure!(bench.incus.run(&b, ExecOpts::new(["true"]), RunIo::default()).await? == 0);
                Ok(())
            })
            .await?,
        );
        program.push(
            bench.pixels(["create", c.as_str(), "--from", &label])?
                + bench.pixels(["exec", c.as_str(), "--", "true"])?,
        );
        let them = d.instance();
        theirs.push(
            // Without the base's address, which only one of them can have.
            bench.incus_cli(&[
                "copy",
                &from,
                &them,
                "--config=raw.lxc=",
                "--config=environment.PIXELS_NETWORK=",
                "--device=eth0,ipv4.address=",
            ])? + bench.incus_cli(&["start", &them])?
                + bench.incus_cli(&["exec", &them, "--", "true"])?,
        );
        bench.floor.remove(&[a, b, c, d].map(|n| n.instance())).await?;
    }
    let (floor, program) = (median(floor), median(program));
    let (library, theirs) = (median(library), median(theirs));
    let r = ratio(program, theirs);
    Ok(vec![
        bounded(
            "create --from, then exec: library, one connection",
            library,
            floor,
            "at most 1.10x",
            1.10,
        ),
        bounded(
            "create --from, then exec: two runs of the program",
            program,
            floor,
            "at most 1.10x",
            1.10,
        ),
        Figure {
            what: "the same with the incus program (copy, start, exec)",
            ours: ms(program),
            against: format!("incus {}", ms(theirs)),
            result: format!("{r:.3}x"),
            bound: Some(("faster", r < 1.0)),
        },
    ])
}

async fn exec(bench: &Bench, base: &Base) -> Result<Vec<Figure>> {
    let name = base.name.instance();
    let (mut floor, mut library, mut program, mut theirs) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS * 3 {
        floor.push(clock(bench.floor.exec(&name, &["true"])).await?);
        library.push(
            clock(async {
                Ok(bench.incus.run(&base.name, ExecOpts::new(["true"]), RunIo::default()).await?)
            })
            .await?,
        );
        program.push(bench.pixels(["exec", base.name.as_str(), "--", "true"])?);
        theirs.push(bench.incus_cli(&["exec", &name, "--", "true"])?);
    }
    let (floor, library, program, theirs) =
        (median(floor), median(library), median(program), median(theirs));
    let above = |what, ours: Duration| {
        let more = ours.saturating_sub(floor);
        Figure {
            what,
            ours: ms(ours),
            against: format!("floor {}", ms(floor)),
            result: format!("+{}", ms(more)),
            bound: Some(("at most +10 ms", more <= Duration::from_millis(10))),
        }
    };
    let r = ratio(program, theirs);
    Ok(vec![
        above("exec: library", library),
        above("exec: the program", program),
        Figure {
            what: "the same with the incus program",
            ours: ms(program),
            against: format!("incus {}", ms(theirs)),
            result: format!("{r:.3}x"),
            bound: Some(("faster", r < 1.0)),
        },
    ])
}

fn help(bench: &Bench) -> Result<Figure> {
    let runs: Result<Vec<Duration>> = (0..ROUNDS * 4).map(|_| bench.bare("--help")).collect();
    let took = median(runs?);
    Ok(Figure {
        what: "--help",
        ours: ms(took),
        against: String::new(),
        result: String::new(),
        bound: Some(("under 5 ms", took < Duration::from_millis(5))),
    })
}

async fn list(bench: &Bench, base: &Base) -> Result<Figure> {
    let from = format!("{}/ready", base.name.instance());
    let names: Vec<String> = (0..LISTED).map(|n| bench.fresh("list", n).instance()).collect();
    futures_util::stream::iter(names.clone())
        .map(|name| {
            let body = json!({
                "name": name, "architecture": base.snapshot["architecture"],
                "source": {"type": "copy", "source": from, "instance_only": true},
                "devices": {"eth0": {"type": "none"}},
                "config": {"raw.lxc": "", "environment.PIXELS_NETWORK": ""},
            });
            async move { bench.floor.done(Method::POST, "/1.0/instances", Some(&body)).await }
        })
        .buffer_unordered(4)
        .try_collect::<Vec<_>>()
        .await?;
    let (mut floor, mut ours) = (vec![], vec![]);
    let before = bench.incus.requests();
    for _ in 0..ROUNDS {
        floor.push(clock(bench.floor.call(Method::GET, "/1.0/instances?recursion=2", None)).await?);
        ours.push(clock(async { Ok(bench.incus.list().await?) }).await?);
    }
    let requests = (bench.incus.requests() - before) / ROUNDS as u64;
    bench.floor.remove(&names).await?;
    let (ours, floor) = (median(ours), median(floor));
    Ok(Figure {
        what: "list of 100 pixels",
        ours: format!("{} in {requests} request", ms(ours)),
        against: format!("floor {}", ms(floor)),
        result: format!("{:.3}x", ratio(ours, floor)),
        bound: Some(("one request", requests == 1)),
    })
}

async fn parallel(bench: &Bench, base: &Base) -> Result<Figure> {
    let from = format!("{}/ready", base.name.instance());
    let label = format!("{}:ready", base.name);
    let mut best = Duration::MAX;
    let mut how = 0;
    let (mut ours, mut rounds) = (vec![], 0);
    for round in 0..3 {
        // The daemon alone, at each of some degrees of concurrency: its best counts.
        for at_once in [2, 4, 8, PARALLEL] {
            let names: Vec<String> =
                (0..PARALLEL).map(|n| bench.fresh("pf", n + round * 100).instance()).collect();
            let took = clock(
                futures_util::stream::iter(names.clone())
                    .map(|name| {
                        let from = &from;
                        async move { bench.floor.clone(&base.snapshot, from, &name).await }
                    })
                    .buffer_unordered(at_once)
                    .try_collect::<()>(),
            )
            .await?;
            if took < best {
                (best, how) = (took, at_once);
            }
            bench.floor.remove(&names).await?;
        }
        let names: Vec<_> = (0..PARALLEL).map(|n| bench.fresh("po", n + round * 100)).collect();
        let mut args = vec!["create".to_owned()];
        args.extend(names.iter().map(ToString::to_string));
        args.extend(["--from".to_owned(), label.clone()]);
        ours.push(bench.pixels(args)?);
        let instances: Vec<String> = names.iter().map(pixels_core::Name::instance).collect();
        bench.floor.remove(&instances).await?;
        rounds += 1;
    }
    // Best against best: both share the machine with its noise.
    let ours = ours.into_iter().min().unwrap_or_default();
    let r = ratio(ours, best);
    Ok(Figure {
        what: "20 clones at once, one run of the program",
        ours: format!("{} (best of {rounds})", ms(ours)),
        against: format!("daemon's best {} ({how} at once)", ms(best)),
        result: format!("{r:.3}x"),
        bound: Some(("at most 1.05x", r <= 1.05)),
    })
}
