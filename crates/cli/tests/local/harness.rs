//! The program, a home of its own, a store that the tests of this binary share,
//! and pixels that are gone when the test is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use pixels_testkit::engine::{self, Place};
use pixels_testkit::pty::Pty;
use tempfile::TempDir;

use crate::running::{Done, PATIENCE, Running};

/// A home directory with a configuration, a store, and the pixels whose names
/// begin with its prefix. Dropping it destroys those, also when the test panics.
pub struct World {
    home: TempDir,
    /// A store of this test's alone; else the common one is used.
    own: Option<TempDir>,
    prefix: String,
}

/// Where the image is.
pub fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = engine::place().unwrap_or_else(|e| panic!("these tests need an image: {e:#}"));
        assert!(engine::is_root(), "these tests need root, for pixels with addresses");
        place
    })
}

/// The store that tests share; it is kept from run to run, with its image.
fn common() -> PathBuf {
    place().root.with_file_name("engine-cli")
}

impl World {
    /// One on the store that all tests share, with the image in it.
    pub fn new() -> Self {
        static IMAGE: OnceLock<()> = OnceLock::new();
        let world = Self::make(None);
        IMAGE.get_or_init(|| {
            let listed = world.ok(["image", "list", "--json"]).json();
            let there = |i: &serde_json::Value| {
                i["aliases"].as_array().is_some_and(|a| a.iter().any(|a| a == engine::IMAGE))
            };
            if !listed.as_array().unwrap().iter().any(there) {
                world.ok([
                    OsStr::new("image"),
                    OsStr::new("import"),
                    place().rootfs.as_os_str(),
                    OsStr::new("--alias"),
                    OsStr::new(engine::IMAGE),
                ]);
            }
        });
        world
    }

    /// One with an empty store of its own.
    pub fn alone() -> Self {
        let parent = place().root.parent().unwrap();
        std::fs::create_dir_all(parent).unwrap();
        Self::make(Some(tempfile::tempdir_in(parent).unwrap()))
    }

    fn make(own: Option<TempDir>) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("l{:x}-{count}-", std::process::id());
        let world = Self { home: tempfile::tempdir().unwrap(), own, prefix };
        world.config("backend = \"local\"\n");
        world
    }

    /// Writes the configuration: `first`, then the store, the image and 512 MiB.
    pub fn config(&self, first: &str) {
        let (store, image) = (self.store(), engine::IMAGE);
        let text = format!(
            "{first}\n[local]\nroot = {store:?}\n[defaults]\nimage = {image:?}\nmemory = 512\n"
        );
        let file = self.home.path().join(".config/pixels/config.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    /// The store's directory.
    pub fn store(&self) -> PathBuf {
        self.own.as_ref().map_or_else(common, |own| own.path().to_owned())
    }

    /// Where `HOME` points.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A pixel's full name: nothing else on the machine has it.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
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
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(b"PIXELS_") || bytes.starts_with(b"XDG_") {
                command.env_remove(name);
            }
        }
        // An Incus of this machine's is not looked for.
        command.env("HOME", self.home()).env("INCUS_DIR", self.home()).env_remove("INCUS_SOCKET");
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn pixels<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Done {
        Running::start(self.command(args)).wait(PATIENCE)
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

    /// Runs the program, which has to fail with 1 and this on stderr.
    #[track_caller]
    pub fn fails<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, says: &str) {
        let done = self.pixels(args);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.err().starts_with(says), "{done:?}");
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

    /// Waits until a shell script in a pixel succeeds. The waiting goes on in there.
    pub fn until(&self, pixel: &str, script: &str) {
        let wait = format!(
            "i=0; until ( {script} ); do i=$((i+1)); [ $i -lt 1000 ] || exit 99; sleep 0.05; done"
        );
        let done = self.pixels(["exec", "--root", pixel, "--", "sh", "-c", &wait]);
        assert_eq!(done.code, Some(0), "never true in {pixel}: {script}: {done:?}");
    }

    /// Waits until so many processes in a pixel have `marker` as an argument; what
    /// asks here does not have it in its own command line as one word.
    pub fn until_count(&self, pixel: &str, marker: &str, count: usize) {
        let (first, rest) = marker.split_at(1);
        let list = format!(
            "for p in /proc/[0-9]*; do tr '\\0' '\\n' 2>/dev/null <$p/cmdline | \
             grep -qxF '{first}''{rest}' && echo $p; done"
        );
        self.until(pixel, &format!("[ \"$({list} | wc -l)\" = {count} ]"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.config("backend = \"local\"\n");
        let found = self.pixels(["list", "--json"]).json();
        let all = found.as_array().map(Vec::as_slice).unwrap_or_default();
        let names = all.iter().filter_map(|pixel| pixel["name"].as_str());
        let names: Vec<&str> = names.filter(|name| name.starts_with(&self.prefix)).collect();
        if !names.is_empty() {
            let _ = self.pixels(["destroy", "--force"].into_iter().chain(names));
        }
    }
}
