//! The program, a home of its own, and pixels that are gone when the test is.
//!
//! A test takes ONE of [`World::new`], [`World::shared`] and [`World::alone`],
//! first thing: they are turns at one lock.

#![allow(dead_code, reason = "not every topic needs all of it")]

use std::ffi::OsStr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::sync::{RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use pixels_testkit::pty::Pty;
use pixels_testkit::rig::Rig;
use tempfile::TempDir;

pub use crate::running::{Done, PATIENCE, Running};

/// Tests that hurt the daemon have it to themselves.
static TURNS: RwLock<()> = RwLock::new(());

/// A turn at the daemon.
enum Turn {
    Among(#[allow(dead_code)] RwLockReadGuard<'static, ()>),
    Alone(#[allow(dead_code)] RwLockWriteGuard<'static, ()>),
}

/// A home directory with a configuration, and the pixels whose names begin
/// with its prefix. Dropping it destroys them, also when the test panics.
pub struct World {
    home: TempDir,
    prefix: String,
    rig: &'static Rig,
    /// No other test uses the daemon.
    alone: bool,
}

/// A world of one test's.
pub struct Own {
    world: World,
    // Behind the world: its pixels are destroyed in the same turn.
    _turn: Turn,
}

impl Deref for Own {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// The world that tests share which do no harm to its pixel.
pub struct Shared {
    world: &'static World,
    _turn: Turn,
}

impl Shared {
    /// The running pixel in it.
    pub fn pixel(&self) -> &'static str {
        shared_pixel(self.world)
    }
}

impl Deref for Shared {
    type Target = World;

    fn deref(&self) -> &World {
        self.world
    }
}

static SHARED: OnceLock<World> = OnceLock::new();

fn shared_pixel(world: &World) -> &'static str {
    static PIXEL: OnceLock<String> = OnceLock::new();
    PIXEL.get_or_init(|| world.create("shared"))
}

extern "C" fn at_exit() {
    if let Some(world) = SHARED.get() {
        world.destroy_all();
    }
}

impl World {
    /// A world of the test's own; other tests use the daemon at the same time.
    #[allow(clippy::new_ret_no_self, reason = "the turn belongs to it")]
    pub fn new() -> Own {
        let turn = Turn::Among(TURNS.read().unwrap_or_else(PoisonError::into_inner));
        Own { world: Self::make(false), _turn: turn }
    }

    /// A world of the test's own while no other test uses the daemon: for those
    /// that stop or kill it. [`World::mend`] brings it up again.
    pub fn alone() -> Own {
        let turn = Turn::Alone(TURNS.write().unwrap_or_else(PoisonError::into_inner));
        Own { world: Self::make(true), _turn: turn }
    }

    /// One for all tests of the process, with a running pixel in it that they
    /// read, or write to in places of their own.
    pub fn shared() -> Shared {
        let turn = Turn::Among(TURNS.read().unwrap_or_else(PoisonError::into_inner));
        let world = SHARED.get_or_init(|| {
            // Nothing drops what is static.
            // SAFETY: the handler is a plain function that does not unwind into C: a
            // panic in an `extern "C"` function aborts.
            let registered = unsafe { libc::atexit(at_exit) };
            assert_eq!(registered, 0, "atexit");
            Self::make(false)
        });
        Shared { world, _turn: turn }
    }

    fn make(alone: bool) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let rig = Rig::server().unwrap_or_else(|e| {
            panic!("these tests need a real Incus: {e:#}\nhint: rig/up brings one up (as root)")
        });
        let home = tempfile::tempdir().unwrap();
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Process, time and count: enough to differ from all that share the machine.
        let prefix = format!("c{:x}-{:x}-{count}-", std::process::id(), nanos & 0xff_ffff);
        let world = Self { home, prefix, rig, alone };
        world.config("");
        world
    }

    /// The server's variables.
    pub fn rig(&self) -> &'static Rig {
        self.rig
    }

    /// Where `HOME` points.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.home.path().join(".config/pixels/config.toml")
    }

    /// Writes the configuration: the rig's socket and image, 512 MiB, and `more`
    /// (whole sections other than `[incus]` and `[defaults]`).
    pub fn config(&self, more: &str) {
        self.config_with("", "", more);
    }

    /// As [`World::config`] with more lines in `[incus]` and `[defaults]`.
    pub fn config_with(&self, incus: &str, defaults: &str, more: &str) {
        let socket = self.rig.socket().unwrap();
        let image = self.rig.image().unwrap();
        let text = format!(
            "backend = \"incus\"\n[incus]\nsocket = {socket:?}\n{incus}\n\
             [defaults]\nimage = {image:?}\nmemory = 512\n{defaults}\n{more}\n"
        );
        self.config_whole(&text);
    }

    /// Replaces the configuration.
    pub fn config_whole(&self, text: &str) {
        let file = self.config_file();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    /// A pixel's full name: nothing else on the machine has it. A short `name`
    /// of letters, digits and inner hyphens.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What the names of this world's pixels begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Creates a running pixel and returns its full name.
    pub fn create(&self, name: &str) -> String {
        let name = self.name(name);
        self.ok(["create", name.as_str()]);
        name
    }

    /// The program with `args`, in this world's home and with none of the
    /// variables of whoever runs the tests. Its stdin is empty.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pixels"));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PIXELS_") {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.home()).env_remove("XDG_CONFIG_HOME").env_remove("INCUS_DIR");
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn pixels<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Done {
        self.spawn(args).wait(PATIENCE)
    }

    /// As [`World::pixels`] with `input` on stdin.
    pub fn feed<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: impl Into<Vec<u8>>,
    ) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command);
        running.feed(input.into());
        running.wait(PATIENCE)
    }

    /// As [`World::pixels`], and it has to succeed.
    pub fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Done {
        let done = self.pixels(args);
        assert_eq!(done.code, Some(0), "{done:?}");
        done
    }

    /// Starts the program with captured output.
    pub fn spawn<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Running {
        Running::start(self.command(args))
    }

    /// Starts the program on a terminal of 80 columns and 24 rows.
    pub fn pty<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Pty {
        let mut command = self.command(args);
        command.env("TERM", "xterm-256color");
        Pty::spawn(command, 80, 24).unwrap()
    }

    /// Runs a shell script in a pixel as root; it has to succeed. Its stdout.
    pub fn sh(&self, pixel: &str, script: &str) -> String {
        self.ok(["exec", "--root", pixel, "--", "sh", "-c", script]).text()
    }

    /// Waits until a shell script in a pixel succeeds. The waiting goes on in the
    /// guest, which a busy client does not hold up.
    pub fn until(&self, pixel: &str, script: &str) {
        let seconds = PATIENCE.as_secs();
        let wait = format!(
            "i=0; until ( {script} ); do i=$((i+1)); \
             if [ $i -gt {} ]; then exit 99; fi; sleep 0.05; done",
            seconds * 20
        );
        let done = self.pixels(["exec", "--root", pixel, "--", "sh", "-c", &wait]);
        assert_eq!(done.code, Some(0), "never true in {pixel}: {script}: {done:?}");
    }

    /// The processes in a pixel whose command line contains `marker`, one line
    /// each. The marker is to be unique and
    /// without single quotes; what asks here does not have it in its own.
    pub fn processes(&self, pixel: &str, marker: &str) -> String {
        let (first, rest) = marker.split_at(1);
        self.sh(pixel, &format!("{}; true", list_marked(first, rest)))
    }

    /// Waits until no process in a pixel has `marker` in its command line.
    pub fn until_gone(&self, pixel: &str, marker: &str) {
        let (first, rest) = marker.split_at(1);
        self.until(pixel, &format!("[ -z \"$({})\" ]", list_marked(first, rest)));
    }

    /// Waits until `least` or more processes in a pixel have `marker` in their command lines.
    pub fn until_least(&self, pixel: &str, marker: &str, least: usize) {
        let (first, rest) = marker.split_at(1);
        self.until(pixel, &format!("[ \"$({} | wc -l)\" -ge {least} ]", list_marked(first, rest)));
    }

    /// Kills the daemon with kill -9. Only in a world that is [`World::alone`].
    pub fn kill_daemon(&self) {
        self.rig_up(&["kill"]);
    }

    /// Brings the daemon up again.
    pub fn mend(&self) {
        self.rig_up(&[]);
    }

    fn rig_up(&self, args: &[&str]) {
        assert!(self.alone, "other tests use the daemon");
        assert!(!self.rig.is_external(), "this Incus is not the rig's to kill");
        let up = self.rig.var("PIXELS_RIG_UP").unwrap();
        let mut command = Command::new(up);
        command.args(args);
        for var in ["PIXELS_RIG_ID", "PIXELS_RIG_DIR"] {
            if let Some(value) = self.rig.get(var) {
                command.env(var, value);
            }
        }
        // A whole daemon has to come up.
        let done = Running::start(command).wait(3 * PATIENCE);
        assert_eq!(done.code, Some(0), "{up} {args:?}: {done:?}");
    }

    /// Destroys every pixel of this world.
    pub fn destroy_all(&self) {
        self.config("");
        let list = self.pixels(["list", "--json"]);
        let found: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
        let names: Vec<&str> = found
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|pixel| pixel["name"].as_str())
            .filter(|name| name.trim_start_matches("px-").starts_with(&self.prefix))
            .collect();
        if !names.is_empty() {
            let _ = self.pixels(["destroy", "--force"].into_iter().chain(names));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.destroy_all();
    }
}

/// A script that prints the id and command line of every process which has
/// `first` followed by `rest` in the latter.
fn list_marked(first: &str, rest: &str) -> String {
    format!(
        "for p in /proc/[0-9]*; do c=$(tr '\\0' ' ' 2>/dev/null <$p/cmdline) || continue; \
         case \"$c\" in *'{first}''{rest}'*) echo \"${{p#/proc/}} $c\";; esac; done"
    )
}
