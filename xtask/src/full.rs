//! `cargo xtask full`: what takes too long, or too quiet a machine, for every
//! change. Its result is docs/benchmarks.md, with the date.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, interrupted, root, run_lines, target, watch_signals};
use crate::report::{self, Counts};
use crate::rig::{self, Part, Rig};

/// What a test prints for the result file begins with this.
const FIGURE: &str = "figure: ";

/// One part of the result.
struct Section {
    title: String,
    lines: Vec<String>,
    passed: bool,
}

/// Measures, tests and writes the result. The exit code says whether all bounds hold.
///
/// # Errors
/// It could not be run, or was interrupted: nothing is written then.
pub fn run() -> Result<ExitCode> {
    watch_signals()?;
    for part in [Part::Server, Part::Cluster] {
        if let Err(why) = rig::possible(part) {
            bail!("{why}");
        }
    }
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "-p", "pixels", "-p", "pixels-bench"]);
    if !run_lines(&mut build, report::line)?.success() {
        bail!("the optimised build failed");
    }
    let rig = Rig::reserve("full")?;
    let sections = sections(&rig);
    let down = rig.down();
    let sections = sections?;
    down?;
    if interrupted() {
        bail!("interrupted");
    }
    fs::write(root().join("docs/benchmarks.md"), render(&sections)?)?;
    report::line("docs/benchmarks.md is written");
    let passed = sections.iter().all(|s| s.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn sections(rig: &Rig) -> Result<Vec<Section>> {
    let (_, server) = rig.up(Part::Server)?;
    // First, while nothing else runs here.
    let incus = speed(rig, &server, "Speed of the Incus backend", &[])?;
    let local = speed(rig, &server, "Speed of the embedded engine", &["local"])?;
    let (_, cluster) = rig.up(Part::Cluster)?;
    let env = [("PIXELS_RIG_ENV", server), ("PIXELS_CLUSTER_ENV", cluster)];
    let suite = tests(
        rig,
        &env,
        "The conformance suite on a cluster of three",
        "conformance",
        &["cluster::"],
    )?;
    let long = tests(
        rig,
        &env,
        "Long tests of the program",
        "incus",
        &["full_", "cluster::", "--nocapture"],
    )?;
    Ok(vec![incus, local, long, suite])
}

fn speed(rig: &Rig, env: &PathBuf, title: &str, which: &[&str]) -> Result<Section> {
    let release = target().join("release");
    let mut bench = Command::new(release.join("pixels-bench"));
    bench
        .arg(release.join("pixels"))
        .args(which)
        .env("PIXELS_RIG_ENV", env)
        .env("PIXELS_RIG_ID", rig.id());
    let mut lines = Vec::new();
    let status = run_lines(&mut bench, |line| {
        report::line(line);
        lines.push(line.to_owned());
    })?;
    if lines.is_empty() {
        bail!("no figures");
    }
    Ok(Section { title: title.to_owned(), lines, passed: status.success() })
}

fn tests(
    rig: &Rig,
    env: &[(&str, PathBuf)],
    title: &str,
    binary: &str,
    args: &[&str],
) -> Result<Section> {
    let mut command = cargo();
    command.args(["test", "--locked", "--workspace", "--test", binary, "--"]).args(args);
    command.envs(env.iter().map(|(k, v)| (k, v))).env("PIXELS_RIG_ID", rig.id());
    command.env("PIXELS_CONFORMANCE", "cluster").env("PIXELS_FULL", "1");
    let (mut counts, mut lines) = (Counts::default(), Vec::new());
    let began = Instant::now();
    let status = run_lines(&mut command, |line| {
        report::line(line);
        counts.read(line);
        if let Some((_, figure)) = line.split_once(FIGURE) {
            lines.push(format!("- {figure}"));
        }
    })?;
    let Counts { passed, failed, ignored } = counts;
    let took = began.elapsed().as_secs();
    lines.push(format!("- {passed} passed, {failed} failed, {ignored} left out, in {took} s"));
    let passed = status.success() && passed > 0;
    Ok(Section { title: title.to_owned(), lines, passed })
}

fn render(sections: &[Section]) -> Result<String> {
    let says = |program: &str, args: &[&str]| -> Result<String> {
        let out = Command::new(program).args(args).output().with_context(|| program.to_owned())?;
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().next().and_then(|l| l.split_whitespace().nth(1)).unwrap_or("0");
    let memory = memory.parse::<u64>().unwrap_or(0) / (1 << 20);
    let mut out = format!(
        "# Benchmarks\n\nWritten by `cargo xtask full` on {} at commit {}: {} cores, {memory} GiB, Linux {}, incus {}.\n\n\
         Figures are medians unless they say otherwise, and ratios are against a floor measured in the same\n\
         run: the same REST calls on one open connection, and nothing else. Absolute times are this\n\
         machine's; the ratios and bounds are what counts.\n",
        says("date", &["-u", "+%F"])?,
        says("git", &["-C", &root().display().to_string(), "rev-parse", "--short", "HEAD"])?,
        says("nproc", &[])?,
        says("uname", &["-r"])?,
        says("incus", &["--version"])?,
    );
    for section in sections {
        out.push_str(&format!("\n## {}\n\n{}\n", section.title, section.lines.join("\n")));
        if !section.passed {
            out.push_str("\n**Not all of it holds.**\n");
        }
    }
    Ok(out)
}
