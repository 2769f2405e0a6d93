//! `cargo xtask demo`: a pixel's whole life on this machine, or on a real Incus,
//! saying what it does. Every step is checked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{interrupted, run_lines, target, watch_signals};
use crate::report::line;
use crate::rig::{self, Part, Rig};
use crate::{checks, dist};

/// What the pixels of the demo run on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The embedded engine, in the store of whoever runs this.
    Local,
    /// The rig's Incus, or the one that is named.
    Incus,
}

/// Runs the demo and takes down what it brought up.
///
/// # Errors
/// A step did not do what it says, or what it needs cannot be had.
pub fn run(on: On) -> Result<ExitCode> {
    watch_signals()?;
    let home = target().join(format!("demo-{}", std::process::id()));
    let lived = match on {
        On::Local => local(&home),
        On::Incus => incus(&home),
    };
    // Nothing is in it but a configuration file.
    let _ = fs::remove_dir_all(&home);
    if interrupted() {
        line("interrupted");
        return Ok(ExitCode::from(130));
    }
    lived?;
    line("\nDone: created, ran, checkpointed, cloned, restored and destroyed.");
    Ok(ExitCode::SUCCESS)
}

fn local(home: &Path) -> Result<()> {
    line("Looking for what pixels need of this machine …");
    checks::for_pixels()?;
    line("Building pixels …");
    let binary = dist::build()?;
    let mut demo =
        Demo::new(binary, home, "backend = \"local\"\n\n[defaults]\nmemory = 512\n", false)?;
    say(
        "Run a command in a pixel of its own. The first one needs an image: the image server's, or,\n\
         where that is out of reach, one made of this machine's own packages, which takes a minute or two.",
    );
    let lived = demo.pixels(&["run", "--", "uname", "-a"]).and_then(|_| demo.life());
    demo.sweep();
    if lived.is_ok() {
        line(
            "\nThe image stays for the next pixel: pixels image list shows it, pixels image remove removes it.",
        );
    }
    lived
}

fn incus(home: &Path) -> Result<()> {
    if let Err(why) = rig::possible(Part::Server) {
        bail!("{why}");
    }
    line("Building pixels …");
    let binary = dist::build()?;
    let rig = Rig::reserve("demo")?;
    line(if rig::external() {
        "Using the Incus that PIXELS_TEST_INCUS_SOCKET names …"
    } else {
        "Bringing up an Incus of its own (rig/up; the first time takes some minutes) …"
    });
    let lived = rig.up(Part::Server).and_then(|(vars, _)| {
        let mut demo = Demo::new(binary, home, &incus_config(&vars)?, true)?;
        let lived = demo.life();
        demo.sweep();
        lived
    });
    if !rig::external() {
        line("\nTaking that Incus down again (rig/down) …");
    }
    let down = rig.down();
    lived.and(down)
}

fn incus_config(vars: &BTreeMap<String, String>) -> Result<String> {
    let var = |name: &str| vars.get(name).with_context(|| format!("the rig has no {name}"));
    Ok(format!(
        "backend = \"incus\"\n\n[incus]\nsocket = {:?}\n\n[defaults]\nimage = {:?}\nmemory = 512\n",
        var("PIXELS_RIG_SOCKET")?,
        var("PIXELS_RIG_IMAGE")?,
    ))
}

struct Demo {
    binary: PathBuf,
    config: PathBuf,
    /// What `HOME` is, where it is not whoever runs this's own: their store is below it.
    home: Option<PathBuf>,
    /// The two pixels. Names are this run's own: an Incus of somebody's has others.
    first: String,
    second: String,
}

impl Demo {
    /// A directory with a configuration.
    fn new(binary: PathBuf, home: &Path, config: &str, clean: bool) -> Result<Self> {
        fs::create_dir_all(home)?;
        fs::write(home.join("config.toml"), config)?;
        let id = std::process::id();
        Ok(Self {
            binary,
            config: home.join("config.toml"),
            home: clean.then(|| home.to_owned()),
            first: format!("demo-{id}"),
            second: format!("task-{id}"),
        })
    }

    fn life(&mut self) -> Result<()> {
        let (a, b) = (&*self.first.clone(), &*self.second.clone());
        let note = "/var/tmp/note";
        let write = format!("echo 'built and ready' > {note}; cat {note}");

        say("Make a pixel, a Linux machine of its own.");
        self.pixels(&["create", a])?;

        say("Run commands in it. Arguments arrive as sent, and exit codes come back.");
        self.pixels(&["exec", a, "--", "uname", "-sm"])?;
        let wrote = self.pixels(&["exec", a, "--", "sh", "-c", &write])?;
        ensure!(wrote == "built and ready\n", "the command printed {wrote:?}");

        say("Keep this state as a checkpoint.");
        self.pixels(&["checkpoint", "create", a, "--label", "ready"])?;

        say("Clone it: a second machine with the same files.");
        self.pixels(&["create", b, "--from", &format!("{a}:ready")])?;
        let cloned = self.pixels(&["exec", b, "--", "cat", note])?;
        ensure!(cloned == wrote, "the clone has {cloned:?}");

        say("It is a machine of its own: another machine-id, another address.");
        let ids = [a, b].map(|name| self.pixels(&["exec", name, "--", "cat", "/etc/machine-id"]));
        let [first, second] = ids;
        ensure!(first? != second?, "the clone has its source's machine-id");
        self.pixels(&["list"])?;

        say("An agent breaks the first one.");
        self.pixels(&["exec", "--root", a, "--", "rm", "-rf", note, "/usr/bin/apt"])?;

        say("Back to the checkpoint.");
        self.pixels(&["checkpoint", "restore", a, "ready"])?;
        let restored = self.pixels(&[
            "exec",
            a,
            "--",
            "sh",
            "-c",
            &format!("cat {note}; test -e /usr/bin/apt"),
        ])?;
        ensure!(restored == wrote, "the restored pixel has {restored:?}");

        say("Throw both away.");
        self.pixels(&["destroy", "--force", a, b])?;
        let left = self.output(&["list", "--json"])?.0;
        ensure!(!left.contains(a) && !left.contains(b), "something is left: {left}");
        Ok(())
    }

    /// Shows a command, runs it, shows what it says and how long it took.
    fn pixels(&self, args: &[&str]) -> Result<String> {
        let quoted: Vec<String> = args.iter().map(|arg| quote(arg)).collect();
        line(&format!("$ pixels {}", quoted.join(" ")));
        let began = Instant::now();
        let (text, ok) = self.output(args)?;
        for each in text.lines() {
            line(each);
        }
        line(&format!("  [{:.2} s]", began.elapsed().as_secs_f64()));
        ensure!(!interrupted(), "interrupted");
        ensure!(ok, "pixels {} failed", quoted.join(" "));
        Ok(text)
    }

    fn output(&self, args: &[&str]) -> Result<(String, bool)> {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&self.config).args(args);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("PIXELS_") || text.starts_with("INCUS_") {
                command.env_remove(&name);
            }
        }
        if let Some(home) = &self.home {
            command.env("HOME", home).env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        }
        let mut text = String::new();
        let status = run_lines(&mut command, |line| {
            text.push_str(line);
            text.push('\n');
        })?;
        Ok((text, status.success()))
    }

    /// After a failure in the middle: on somebody's own Incus nothing stays either.
    fn sweep(&self) {
        for name in [&self.first, &self.second] {
            let _ = self.output(&["--quiet", "destroy", "--force", name]);
        }
    }
}

fn say(text: &str) {
    line(&format!("\n{text}"));
}

/// As a shell would want it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if word.contains('\'') {
        return format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""));
    }
    format!("'{word}'")
}
