//! What is measured with: the binary, the daemon, and clocks.

use std::ffi::OsStr;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pixels_core::{Backend, CreateOpts, Label, Name, Settings};
use pixels_incus::Incus;
use pixels_testkit::rig::Rig;
use pixels_wire::{Client, Endpoint};
use serde_json::Value;

use crate::floor::Floor;

/// Everything a figure needs.
pub(crate) struct Bench {
    pub floor: Floor,
    pub incus: Incus,
    binary: PathBuf,
    home: tempfile::TempDir,
    socket: PathBuf,
    /// What every name of this run begins with.
    pub prefix: String,
}

/// The pixel that clones are made of.
pub(crate) struct Base {
    pub name: Name,
    /// Its checkpoint `ready`, as the daemon has it.
    pub snapshot: Value,
}

impl Bench {
    pub fn new(binary: &Path, rig: &Rig) -> Result<Self> {
        let socket = rig.socket()?;
        let home = tempfile::tempdir()?;
        let text = socket.to_str().context("the socket's path is UTF-8")?;
        let config = format!(
            "backend = \"incus\"\n[incus]\nsocket = \"{text}\"\n[defaults]\nimage = \"{}\"\nmemory = 512\n",
            rig.image()?
        );
        std::fs::write(home.path().join("config.toml"), config)?;
        let settings = Settings::from([
            ("socket".to_owned(), text.to_owned()),
            ("default_image".to_owned(), rig.image()?.to_owned()),
            ("memory".to_owned(), (512u64 << 20).to_string()),
        ]);
        Ok(Self {
            floor: Floor::new(Client::new(Endpoint::Unix(socket.clone()))),
            incus: Incus::new(&settings)?,
            binary: binary.to_owned(),
            home,
            socket,
            prefix: format!("b{}", std::process::id()),
        })
    }

    /// The base and its checkpoint, warmed up.
    pub async fn prepare(&self) -> Result<Base> {
        let name = Name::new(&format!("{}-base", self.prefix))?;
        self.incus.create(CreateOpts::new(name.clone())).await?;
        self.pixels(["exec", name.as_str(), "--", "true"])?;
        self.incus.create_snapshot(&name, &Label::new("ready")?).await?;
        let path = format!("/1.0/instances/{}/snapshots/ready", name.instance());
        let snapshot = self.floor.call(pixels_wire::Method::GET, &path, None).await?;
        Ok(Base { name, snapshot: snapshot["metadata"].clone() })
    }

    /// Runs the binary to its end; how long it took.
    pub fn pixels<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Result<Duration> {
        let mut command = Command::new(&self.binary);
        command.arg("--quiet").arg("--config").arg(self.home.path().join("config.toml"));
        time(command.args(args).env("HOME", self.home.path()))
    }

    /// Runs the binary without any of that; how long it took.
    pub fn bare(&self, arg: &str) -> Result<Duration> {
        time(Command::new(&self.binary).arg(arg))
    }

    /// Runs the `incus` program of the same daemon; how long it took.
    pub fn incus_cli(&self, args: &[&str]) -> Result<Duration> {
        let dir = self.socket.parent().context("a socket has a directory")?;
        time(Command::new("incus").args(args).env("INCUS_DIR", dir).env("HOME", self.home.path()))
    }

    /// A fresh instance name of this run.
    pub fn fresh(&self, what: &str, n: usize) -> Name {
        // Digits and letters of our own.
        Name::new(&format!("{}-{what}{n}", self.prefix)).unwrap_or_else(|e| unreachable!("{e}"))
    }

    /// Removes all that this run made.
    pub async fn clean(&self) -> Result<()> {
        let all = self.incus.list().await?;
        let names: Vec<String> = all
            .iter()
            .filter(|i| i.name.as_str().starts_with(&self.prefix))
            .map(|i| i.name.instance())
            .collect();
        self.floor.remove(&names).await
    }
}

fn time(command: &mut Command) -> Result<Duration> {
    let began = Instant::now();
    let out = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let took = began.elapsed();
    ensure!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(took)
}

/// How long a future takes.
pub(crate) async fn clock<T>(work: impl Future<Output = Result<T>>) -> Result<Duration> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed())
}

/// The middle of some durations.
pub(crate) fn median(mut of: Vec<Duration>) -> Duration {
    of.sort();
    of.get(of.len() / 2).copied().unwrap_or_default()
}
