//! The figures of the embedded engine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pixels_core::{
    Backend, CloneOpts, CreateOpts, ExecOpts, Label, Name, RunIo, SandboxExt, Settings, StopOpts,
};
use pixels_engine::Engine;
use pixels_testkit::engine;
use serde_json::json;

use crate::figures::{Figure, ms, ratio};
use crate::measure::{clock, median};

/// How often a figure is measured.
const ROUNDS: usize = 40;
/// Pixels alive at once.
const MANY: usize = 200;
/// Sizes of a pixel, in MiB, that checkpoints and clones must not depend on.
const SIZES: [u64; 3] = [10, 400, 4096];

struct Local {
    engine: Engine,
    binary: PathBuf,
    home: tempfile::TempDir,
    prefix: String,
    root: PathBuf,
}

/// All of them.
pub(crate) async fn all(binary: &Path, only: &[String]) -> Result<Vec<Figure>> {
    let wanted = |group: &str| only.is_empty() || only.iter().any(|o| o == group);
    let local = Local::new(binary).await?;
    let base = local.base().await?;
    let mut figures = Vec::new();
    let measured = async {
        if wanted("speed") {
            figures.extend(local.speed(&base).await?);
        }
        if wanted("program") {
            figures.push(local.program(&base).await?);
        }
        if wanted("sizes") {
            figures.extend(local.sizes().await?);
        }
        if wanted("many") {
            figures.extend(local.many(&base).await?);
        }
        Ok::<(), anyhow::Error>(())
    }
    .await;
    local.clean().await?;
    measured?;
    Ok(figures)
}

fn at_most(what: &'static str, took: Duration, bound: &'static str, limit: u64) -> Figure {
    Figure {
        what,
        ours: ms(took),
        against: String::new(),
        result: String::new(),
        bound: Some((bound, took <= Duration::from_millis(limit))),
    }
}

fn plain(what: &'static str, took: Duration) -> Figure {
    Figure { what, ours: ms(took), against: String::new(), result: String::new(), bound: None }
}

impl Local {
    async fn new(binary: &Path) -> Result<Self> {
        let place = engine::place()?;
        let settings: Settings = BTreeMap::from([
            ("root".to_owned(), place.root.display().to_string()),
            ("memory".to_owned(), (512u64 << 20).to_string()),
            ("default_image".to_owned(), engine::IMAGE.to_owned()),
        ]);
        let backend = Engine::new(&settings)?;
        engine::have_image(&backend, &place).await?;
        backend.sweep().await?;
        let home = tempfile::tempdir()?;
        let config = format!(
            "backend = \"local\"\n[local]\nroot = {:?}\n[defaults]\nimage = {:?}\nmemory = 512\n",
            place.root.display().to_string(),
            engine::IMAGE
        );
        fs::write(home.path().join("config.toml"), config)?;
        let prefix = format!("b{}", std::process::id());
        Ok(Self { engine: backend, binary: binary.to_owned(), home, prefix, root: place.root })
    }

    fn name(&self, what: &str, n: usize) -> Name {
        // Digits and letters of our own.
        Name::new(&format!("{}-{what}{n}", self.prefix)).unwrap_or_else(|e| unreachable!("{e}"))
    }

    async fn run(&self, name: &Name, command: &[&str]) -> Result<()> {
        let opts = ExecOpts { no_stdin: true, root: true, ..ExecOpts::new(command.to_vec()) };
        let code = self.engine.run(name, opts, RunIo::default()).await?;
        ensure!(code == 0, "{command:?} in {name} ended with {code}");
        Ok(())
    }

    /// A pixel whose login does nothing, so that the engine is measured and not an
    /// image's profile, with a checkpoint `ready`; and one with the image's own.
    async fn base(&self) -> Result<Name> {
        let (base, usual) = (self.name("base", 0), self.name("usual", 0));
        for name in [&base, &usual] {
            self.engine.create(CreateOpts::new(name.clone())).await?;
        }
        let quiet =
            "rm -f /etc/profile /root/.profile && sed -i '/^root:/s#[^:]*$#/bin/sh#' /etc/passwd";
        self.run(&base, &["sh", "-c", quiet]).await?;
        for name in [&base, &usual] {
            self.engine.stop(name, StopOpts::default()).await?;
            self.engine.create_snapshot(name, &Label::new("ready")?).await?;
            self.engine.start(name).await?;
        }
        Ok(base)
    }

    async fn clone(&self, base: &Name, name: &Name) -> Result<()> {
        let ready = "ready".parse()?;
        self.engine.clone_from(base, Some(&ready), name, CloneOpts::default()).await?;
        Ok(())
    }

    async fn speed(&self, base: &Name) -> Result<Vec<Figure>> {
        let (mut clones, mut execs, mut usual, mut destroys) = (vec![], vec![], vec![], vec![]);
        for n in 0..ROUNDS {
            let name = self.name("c", n);
            clones.push(
                clock(async {
                    self.clone(base, &name).await?;
                    self.run(&name, &["true"]).await
                })
                .await?,
            );
            execs.push(clock(self.run(base, &["true"])).await?);
            usual.push(clock(self.run(&self.name("usual", 0), &["true"])).await?);
            destroys.push(clock(async { Ok(self.engine.delete(&name).await?) }).await?);
        }
        self.engine.close().await?;
        Ok(vec![
            at_most("clone and first exec, in process", median(clones), "at most 15 ms", 15),
            at_most("exec, in process", median(execs), "at most 3 ms", 3),
            plain("exec through the image's own login profile, in process", median(usual)),
            at_most("destroy returns", median(destroys), "within 20 ms", 20),
        ])
    }

    fn pixels(&self, args: &[&str]) -> Result<Duration> {
        let mut command = Command::new(&self.binary);
        command.args(["--quiet", "--config"]).arg(self.home.path().join("config.toml"));
        time(command.args(args).env("HOME", self.home.path()))
    }

    /// The program against `runc run` of the same root file system.
    async fn program(&self, base: &Name) -> Result<Figure> {
        let bundle = tempfile::tempdir()?;
        let rootfs = self.image_tree()?;
        runc_bundle(bundle.path(), &rootfs)?;
        let from = format!("{base}:ready");
        let (mut ours, mut theirs) = (vec![], vec![]);
        for n in 0..ROUNDS / 2 {
            let name = self.name("p", n).to_string();
            ours.push(
                self.pixels(&["create", &name, "--from", &from])?
                    + self.pixels(&["exec", "--root", &name, "--", "true"])?,
            );
            self.pixels(&["destroy", "--force", &name])?;
            let id = format!("{}-runc{n}", self.prefix);
            theirs.push(time(
                Command::new("runc").args(["run", "--bundle"]).arg(bundle.path()).arg(&id),
            )?);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let r = ratio(ours, theirs);
        Ok(Figure {
            what: "clone and exec, two runs of the program",
            ours: ms(ours),
            against: format!("runc run {}", ms(theirs)),
            result: format!("{r:.2}x"),
            bound: Some(("at most 0.5x", r <= 0.5)),
        })
    }

    /// The tree of the image's layer, which runc gets read-only.
    fn image_tree(&self) -> Result<PathBuf> {
        let images = fs::read_dir(self.root.join("images"))?;
        for entry in images.flatten() {
            let text = fs::read(entry.path())?;
            let image: serde_json::Value = serde_json::from_slice(&text)?;
            let named =
                image["aliases"].as_array().is_some_and(|a| a.iter().any(|a| a == engine::IMAGE));
            if let (true, Some(layer)) = (named, image["layers"][0].as_str()) {
                return Ok(self.root.join("layers").join(layer).join("fs/tree"));
            }
        }
        anyhow::bail!("the image is not in the store")
    }

    /// Checkpoints of a stopped pixel and clones of them, at several sizes.
    async fn sizes(&self) -> Result<Vec<Figure>> {
        let (mut checkpoints, mut clones) = (vec![], vec![]);
        for (n, size) in SIZES.into_iter().enumerate() {
            let name = self.name("size", n);
            self.engine.create(CreateOpts::new(name.clone())).await?;
            let fill = format!("head -c {}M /dev/urandom >/root/fill", size);
            self.run(&name, &["sh", "-c", &fill]).await?;
            self.engine.stop(&name, StopOpts::default()).await?;
            let (mut made, mut cloned) = (vec![], vec![]);
            for round in 0..9 {
                let label = Label::new(&format!("l{round}"))?;
                made.push(
                    clock(async { Ok(self.engine.create_snapshot(&name, &label).await?) }).await?,
                );
                let copy = self.name("sizeclone", n * 100 + round);
                let opts = CloneOpts::default();
                cloned.push(
                    clock(async {
                        Ok(self.engine.clone_from(&name, Some(&label), &copy, opts).await?)
                    })
                    .await?,
                );
                self.engine.delete(&copy).await?;
            }
            // The first checkpoint takes the layer with everything in it.
            checkpoints.push(made[0]);
            clones.push(median(cloned));
            self.engine.delete(&name).await?;
            self.engine.close().await?;
        }
        let flat = |what, times: &[Duration]| {
            let r = ratio(times[SIZES.len() - 1], times[0]);
            let shown: Vec<String> = times.iter().map(|t| ms(*t)).collect();
            // Noise of a few milliseconds is not growth by a factor of 400.
            let holds = r <= 2.0 || times[SIZES.len() - 1] < times[0] + Duration::from_millis(10);
            Figure {
                what,
                ours: shown.join(", "),
                against: "10 MB, 400 MB, 4 GB".into(),
                result: format!("{r:.2}x"),
                bound: Some(("does not grow", holds)),
            }
        };
        Ok(vec![flat("checkpoint of a stopped pixel", &checkpoints), flat("clone of it", &clones)])
    }

    /// Many pixels at once: what the last one costs, and what they all hold.
    async fn many(&self, base: &Name) -> Result<Vec<Figure>> {
        let mut took = Vec::with_capacity(MANY);
        for n in 0..MANY {
            let name = self.name("m", n);
            took.push(clock(self.clone(base, &name)).await?);
        }
        let alive = self.engine.list().await?;
        let running = alive.iter().filter(|i| i.status.is_running()).count();
        ensure!(running >= MANY, "only {running} pixels run");
        let (first, last) = (median(took[..20].to_vec()), median(took[MANY - 20..].to_vec()));
        let r = ratio(last, first);
        let pss = self.idle_memory()?;
        let began = Instant::now();
        for n in 0..MANY {
            self.engine.delete(&self.name("m", n)).await?;
        }
        self.engine.close().await?;
        let removed = began.elapsed();
        Ok(vec![
            Figure {
                what: "200 pixels alive at once: the last 20 clones against the first 20",
                ours: ms(last),
                against: ms(first),
                result: format!("{r:.2}x"),
                bound: Some(("at most 1.5x", r <= 1.5)),
            },
            Figure {
                what: "an idle pixel: init and supervisor, proportional share of memory",
                ours: format!("{:.2} MiB", pss / 1024.0),
                against: String::new(),
                result: String::new(),
                bound: Some(("at most 3 MiB", pss <= 3.0 * 1024.0)),
            },
            plain("destroying all 200, one after the other", removed),
        ])
    }

    /// KiB of the processes of one pixel that nobody uses: the median over all.
    fn idle_memory(&self) -> Result<f64> {
        let mut all: Vec<f64> = Vec::new();
        for n in 0..MANY {
            let run = self.root.join("pixels").join(self.name("m", n).as_str()).join("run.json");
            let run: serde_json::Value = serde_json::from_slice(&fs::read(run)?)?;
            let init = run["pid"].as_u64().context("a running pixel has a process")?;
            let supervisor = parent(init)?;
            all.push(pss(init)? + pss(supervisor)?);
        }
        all.sort_by(f64::total_cmp);
        Ok(all[all.len() / 2])
    }

    async fn clean(&self) -> Result<()> {
        for pixel in self.engine.list().await? {
            if pixel.name.as_str().starts_with(&self.prefix) {
                self.engine.delete(&pixel.name).await?;
            }
        }
        Ok(self.engine.close().await?)
    }
}

fn parent(pid: u64) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("PPid:")).context("no parent")?;
    Ok(line.trim().parse()?)
}

fn pss(pid: u64) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|l| l.strip_prefix("Pss:")).context("no pss")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

fn runc_bundle(dir: &Path, rootfs: &Path) -> Result<()> {
    let spec = Command::new("runc")
        .arg("spec")
        .current_dir(dir)
        .output()
        .context("runc is needed to compare with: apt install runc")?;
    ensure!(spec.status.success(), "runc spec: {}", String::from_utf8_lossy(&spec.stderr));
    let path = dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["root"] = json!({"path": rootfs, "readonly": true});
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["true"]);
    Ok(fs::write(path, serde_json::to_vec(&config)?)?)
}

fn time(command: &mut Command) -> Result<Duration> {
    let began = Instant::now();
    let out = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let took = began.elapsed();
    ensure!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(took)
}
