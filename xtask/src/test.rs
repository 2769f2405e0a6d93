//! `cargo xtask test`: every check and every test, the cheap ones first.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use crate::process::{cargo, interrupted, run_lines, watch_signals};
use crate::report::{self, Counts, Report};
use crate::rig::{self, Part, Rig};
use crate::{checks, docs, engine};

/// What the names of tests contain that are left to `cargo xtask full`.
const FULL: &str = "full_";

/// Test binaries that need the rig, with what they are run with. Whatever is
/// not named here runs without one.
const ON_SERVER: [RigTests; 3] = [
    RigTests {
        name: "conformance: socket and https",
        target: "conformance",
        filters: &["socket::", "https::"],
        subjects: "socket,https",
    },
    RigTests {
        name: "conformance: a restricted project",
        target: "conformance",
        filters: &["restricted::"],
        subjects: "restricted",
    },
    RigTests {
        name: "the program on a real Incus",
        target: "incus",
        filters: &["--skip", "cluster::", "--skip", FULL],
        subjects: "",
    },
];

/// The same on the cluster.
const ON_CLUSTER: [RigTests; 1] = [RigTests {
    name: "smoke test on a cluster",
    target: "incus",
    filters: &["cluster::", "--skip", FULL],
    subjects: "",
}];

struct RigTests {
    name: &'static str,
    target: &'static str,
    filters: &'static [&'static str],
    /// `PIXELS_CONFORMANCE` for it.
    subjects: &'static str,
}

/// Runs everything, or what needs no Incus. The exit code is the truth.
///
/// # Errors
/// Nothing could be run at all.
pub fn run(quick: bool) -> Result<ExitCode> {
    watch_signals()?;
    let mut run = Run { report: Report::default() };
    run.cheap()?;
    if quick {
        run.report.left_out("everything on the engine and on an Incus (--quick)");
    } else {
        run.on_servers()?;
    }
    if interrupted() {
        report::line("interrupted");
        return Ok(ExitCode::from(130));
    }
    let whole = std::env::var_os("CI").is_some_and(|v| !v.is_empty() && v != "false");
    Ok(if run.report.close(whole && !quick) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Run {
    report: Report,
}

impl Run {
    fn cheap(&mut self) -> Result<()> {
        self.check("packages", checks::packages);
        for (component, name, check) in [
            ("rustfmt", "cargo fmt --check", checks::fmt as fn() -> Result<()>),
            ("clippy", "cargo clippy -D warnings", checks::clippy),
        ] {
            if checks::component(component) {
                self.check(name, check);
            } else {
                let why = format!(
                    "{name}: this toolchain has no {component}; hint: rustup component add {component}"
                );
                self.report.left_out(&why);
            }
        }
        self.check("size of Cargo.lock", checks::lock_size);
        self.check("tests that SECURITY.md names", checks::claims);
        // Some tests run examples as programs; `cargo test` would build them as tests.
        self.check("examples", checks::examples);
        let targets = plain_targets()?;
        let mut unit = cargo();
        unit.args(["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins"]);
        for target in &targets {
            unit.args(["--test", target]);
        }
        self.tests("unit tests", &mut unit);
        let mut doc = cargo();
        doc.args(["test", "--workspace", "--locked", "--no-fail-fast", "--doc"]);
        self.tests("doctests", &mut doc);
        self.check("docs/config.md is current", || docs::run(true));
        Ok(())
    }

    fn on_servers(&mut self) -> Result<()> {
        if let Err(why) = rig::possible(Part::Server) {
            let engine = engine::STAGES.iter().map(|stage| stage.name);
            let incus = ON_SERVER.iter().chain(&ON_CLUSTER).map(|tests| tests.name);
            for name in engine.chain(incus) {
                self.report.left_out(&format!("{name}: {why}"));
            }
            return Ok(());
        }
        let rig = Rig::reserve("test")?;
        // What is up stays up: the tests on the cluster know of the server too.
        let mut env = Vec::new();
        // It builds the image that the engine's tests use as well.
        if self.up(&rig, Part::Server, &mut env) {
            self.on_engine();
            self.on_rig(&rig, &ON_SERVER, &env);
        } else {
            let engine = engine::STAGES.iter().map(|stage| stage.name);
            self.failed(engine.chain(ON_SERVER.iter().map(|tests| tests.name)), "rig/up");
        }
        match rig::possible(Part::Cluster) {
            Ok(()) if self.up(&rig, Part::Cluster, &mut env) => {
                self.on_rig(&rig, &ON_CLUSTER, &env);
            }
            Ok(()) => self.failed(ON_CLUSTER.iter().map(|tests| tests.name), "rig/up cluster"),
            Err(why) => {
                for tests in &ON_CLUSTER {
                    self.report.left_out(&format!("{}: {why}", tests.name));
                }
            }
        }
        // Also after an interrupt, and whatever came of the tests.
        let began = Instant::now();
        let down = rig.down();
        self.ended("rig/down all", began, down);
        Ok(())
    }

    /// Brings a part of the rig up; whether it is.
    fn up(&mut self, rig: &Rig, part: Part, env: &mut Vec<(&str, PathBuf)>) -> bool {
        if interrupted() {
            return false;
        }
        let (name, variable) = match part {
            Part::Server => ("rig/up", "PIXELS_RIG_ENV"),
            Part::Cluster => ("rig/up cluster", "PIXELS_CLUSTER_ENV"),
        };
        start(name);
        let began = Instant::now();
        let up = rig.up(part).map(|(_, file)| env.push((variable, file)));
        let is_up = up.is_ok();
        self.ended(name, began, up);
        is_up
    }

    fn on_rig(&mut self, rig: &Rig, all: &[RigTests], env: &[(&str, PathBuf)]) {
        for tests in all {
            self.tests(tests.name, &mut tests.command(rig, env));
        }
    }

    fn on_engine(&mut self) {
        let lacks = rig::external() && std::env::var_os("PIXELS_TEST_ROOTFS").is_none();
        for stage in &engine::STAGES {
            if interrupted() {
                return;
            }
            if !rustix::process::geteuid().is_root() {
                self.report.left_out(&format!("{}: it needs root", stage.name));
            } else if lacks {
                let why = "no rig has built an image; hint: set PIXELS_TEST_ROOTFS to a tarball";
                self.report.left_out(&format!("{}: {why}", stage.name));
            } else {
                let began = Instant::now();
                match stage.command() {
                    Ok(mut command) => self.tests(stage.name, &mut command),
                    Err(e) => self.ended(stage.name, began, Err(e)),
                }
            }
        }
    }

    /// What cannot be run because something before it failed.
    fn failed<'a>(&mut self, names: impl Iterator<Item = &'a str>, because: &str) {
        for name in names {
            if interrupted() {
                return;
            }
            start(name);
            self.ended(name, Instant::now(), Err(anyhow!("{because} failed")));
        }
    }

    /// Something that passes or fails as one.
    fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        if interrupted() {
            return;
        }
        start(name);
        let began = Instant::now();
        let result = check();
        self.ended(name, began, result);
    }

    fn ended(&mut self, name: &str, began: Instant, result: Result<()>) {
        let mut counts = Counts { passed: 1, ..Counts::default() };
        if let Err(e) = result {
            report::line(&format!("error: {e:#}"));
            counts = Counts { failed: 1, ..Counts::default() };
        }
        self.report.stage(name, counts, began.elapsed());
    }

    /// Test runners, whose results are summed.
    fn tests(&mut self, name: &str, command: &mut Command) {
        if interrupted() {
            return;
        }
        start(name);
        let began = Instant::now();
        let mut counts = Counts::default();
        let status = run_lines(command, |line| {
            counts.read(line);
            report::line(line);
        });
        match status {
            Ok(status) if status.success() && counts.passed == 0 => {
                report::line("error: no test ran");
                counts.failed += 1;
            }
            Ok(status) if status.success() => {}
            // It did not build, or died before it could count.
            Ok(_) if counts.failed > 0 => {}
            Ok(status) => {
                report::line(&format!("error: the tests ended with {status}"));
                counts.failed += 1;
            }
            Err(e) => {
                report::line(&format!("error: {e:#}"));
                counts.failed += 1;
            }
        }
        self.report.stage(name, counts, began.elapsed());
    }
}

impl RigTests {
    fn command(&self, rig: &Rig, env: &[(&str, PathBuf)]) -> Command {
        let mut command = cargo();
        // The whole workspace: a package alone would be built again, with the
        // features that it alone asks of its dependencies.
        command.args(["test", "--locked", "--workspace", "--test", self.target, "--"]);
        command.args(self.filters);
        command.env("PIXELS_RIG_ID", rig.id()).envs(env.iter().map(|(name, file)| (name, file)));
        if !self.subjects.is_empty() {
            command.env("PIXELS_CONFORMANCE", self.subjects);
        }
        command
    }
}

fn start(name: &str) {
    report::line(&format!("\n=== {name}"));
}

/// The test binaries of the workspace that need no rig.
fn plain_targets() -> Result<Vec<String>> {
    let out =
        cargo().args(["metadata", "--no-deps", "--locked", "--format-version", "1"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout)
        .with_context(|| String::from_utf8_lossy(&out.stderr).into_owned())?;
    let mut names = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            let name = target["name"].as_str().unwrap_or_default();
            let is_test =
                target["kind"].as_array().is_some_and(|kind| kind.iter().any(|k| k == "test"));
            let on_rig = ON_SERVER.iter().any(|t| t.target == name);
            if is_test && !on_rig && !engine::has(name) && !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        }
    }
    Ok(names)
}
