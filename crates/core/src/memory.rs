//! A backend that lives in this process: for examples, doctests and the tests
//! of everything that is built on [`Sandbox`].
//!
//! It keeps the contract of the traits (names, states, errors, checkpoints,
//! clones with an identity of their own, policies, byte paths) and nothing
//! else is real: there is no kernel behind it, files are byte strings in a
//! tree, addresses come from a counter, and a restricted egress mode is
//! stored, not enforced, because nothing in here can reach anything.
//!
//! # Commands
//!
//! It interprets this fixed list; everything else is exit code 127 (126 for a
//! path that is there):
//!
//! | command | does |
//! | --- | --- |
//! | `true`, `false`, `sh -c "exit N"` | return 0, 1, N |
//! | `sh -c "kill -N $$"` | ends by signal N |
//! | `echo WORD…`, `printf '%s\0' WORD…` (also `%s\n` and `%s`) | print their arguments |
//! | `cat [PATH…]` | copies stdin, or files |
//! | `head -1` | copies stdin's first line |
//! | `env -0`, `pwd`, `id -u`, `hostname` | print what they are named after |
//! | `sleep SECONDS` | ends after that long, or by a signal |
//! | `mkfifo PATH` | makes a node that must never be opened |
//! | `stty size` | the terminal's rows and columns |
//!
//! A console is a shell that splits each line at blanks, runs it as above and
//! ends at `exit N`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pixels_core::Result<()> {
//! use pixels_core::{memory::Memory, Backend, CreateOpts, SandboxExt};
//! let pixels = Memory::new();
//! let name = "demo".parse()?;
//! pixels.create(CreateOpts::new(name)).await?;
//! let out = pixels.output(&"demo".parse()?, &["echo", "hello"]).await?;
//! assert_eq!(out, b"hello\n");
//! # Ok(()) }
//! ```

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    Error, Factory, FileKind, Instance, Label, Limits, Meta, Name, Owner, Policy, Result, Sandbox,
    Settings, Status, What,
};

mod backend;
mod builtins;
mod console;
mod exec;
mod files;
mod policy;
mod tree;

use tree::Tree;

/// The name that the backend is registered under.
const KIND: &str = "memory";
/// The one image there is.
const IMAGE: &str = "memory/base";

/// The backend. Clones of it share their pixels; two made by [`Memory::new`] do not.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<World>>);

/// A factory for [`crate::Registry::register`]. Each call of it makes a world
/// of its own. There are no settings: one that is given is refused.
pub fn factory() -> Factory {
    Box::new(|settings: &Settings| match settings.iter().next() {
        None => Ok(Arc::new(Memory::new()) as Arc<dyn Sandbox>),
        Some((key, _)) => Err(Error::invalid("setting", key, "the memory backend has no settings")),
    })
}

impl Memory {
    /// A backend without pixels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a FIFO at `path` inside a pixel, for tests of what must not hang.
    ///
    /// # Errors
    /// `NotFound` for the pixel or the parent, `AlreadyExists` for the path.
    pub fn mkfifo(&self, name: &Name, path: &[u8]) -> Result<()> {
        self.lock().pixel_mut(name)?.tree.make(path, FileKind::Special, 0o644)
    }

    /// The world, for as long as the guard lives. No guard is held across an
    /// await. A panic of another holder leaves it usable: every change to it
    /// is made in one step.
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All pixels.
#[derive(Default)]
struct World {
    pixels: BTreeMap<Name, Pixel>,
    /// How many machines there have been: what MACs and addresses come from.
    machines: u32,
}

/// One pixel.
struct Pixel {
    created_at: Timestamp,
    machine: u32,
    limits: Limits,
    meta: Meta,
    policy: Policy,
    tree: Tree,
    snapshots: Vec<Checkpoint>,
    /// There while it runs. Processes watch it: when it goes, they do.
    power: Option<watch::Sender<()>>,
}

/// A checkpoint: a copy of the tree. Contents are shared until they change.
struct Checkpoint {
    label: Label,
    created_at: Timestamp,
    tree: Tree,
}

impl World {
    fn pixel(&self, name: &Name) -> Result<&Pixel> {
        self.pixels.get(name).ok_or_else(|| Error::not_found(What::Pixel, name.as_str()))
    }

    fn pixel_mut(&mut self, name: &Name) -> Result<&mut Pixel> {
        self.pixels.get_mut(name).ok_or_else(|| Error::not_found(What::Pixel, name.as_str()))
    }

    fn refuse_taken(&self, name: &Name) -> Result<()> {
        match self.pixels.contains_key(name) {
            true => Err(Error::exists(What::Pixel, name.as_str())),
            false => Ok(()),
        }
    }

    /// The next machine's number, from 1.
    fn next_machine(&mut self) -> u32 {
        self.machines += 1;
        self.machines
    }
}

impl Pixel {
    fn status(&self) -> Status {
        if self.power.is_some() { Status::Running } else { Status::Stopped }
    }

    fn start(&mut self) {
        self.power.get_or_insert_with(|| watch::channel(()).0);
    }

    fn instance(&self, name: &Name) -> Instance {
        let [_, _, high, low] = self.machine.to_be_bytes();
        let address = IpAddr::V4(Ipv4Addr::new(10, 99, high, low));
        Instance {
            name: name.clone(),
            status: self.status(),
            addresses: self.power.iter().map(|_| address).collect(),
            created_at: Some(self.created_at),
            location: None,
            limits: self.limits.clone(),
            meta: Meta { egress: self.policy.mode, ..self.meta.clone() },
        }
    }

    fn snapshot(&self, name: &Name, label: &Label) -> Result<&Checkpoint> {
        self.snapshots
            .iter()
            .find(|s| s.label == *label)
            .ok_or_else(|| Error::not_found(What::Checkpoint, format!("{name}:{label}")))
    }
}

/// Gives a tree the files that make a machine itself.
fn give_identity(tree: &mut Tree, name: &Name, machine: u32) -> Result<()> {
    let [a, b, c, d] = machine.to_be_bytes();
    let files: [(&[u8], u32, String); 4] = [
        (b"/etc/machine-id", 0o444, format!("{:016x}{:016x}\n", random(), random())),
        (
            b"/etc/ssh/ssh_host_ed25519_key",
            0o600,
            format!("a key: {:016x}{:016x}\n", random(), random()),
        ),
        (b"/etc/hostname", 0o644, format!("{}\n", name.instance())),
        (b"/sys/class/net/eth0/address", 0o444, format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}\n")),
    ];
    for (path, mode, content) in files {
        tree.write(
            path,
            content.into_bytes(),
            crate::WriteOpts { mode: Some(mode), owner: Some(ROOT), mtime: None },
        )?;
    }
    Ok(())
}

/// 64 bits that differ from call to call, from the keys that the standard
/// library seeds its maps with. Good enough for names; not for secrets.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// What a new pixel's disk holds.
fn base_tree() -> Result<Tree> {
    let mut tree = Tree::new();
    let dirs: [&[u8]; 10] = [
        b"/etc",
        b"/etc/ssh",
        b"/home",
        b"/root",
        b"/sys",
        b"/sys/class",
        b"/sys/class/net",
        b"/sys/class/net/eth0",
        b"/var",
        b"/tmp",
    ];
    for dir in dirs {
        let mode = if dir == b"/tmp" { 0o1777 } else { 0o755 };
        tree.make(dir, FileKind::Dir, mode)?;
    }
    Ok(tree)
}
