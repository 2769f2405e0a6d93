//! A store of its own with a small image, and the look at what is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pixels_core::{
    Backend, CreateOpts, Label, Name, Progress, Result, SandboxExt, Settings, Status, StopOpts,
};
use pixels_engine::Engine;
use tokio::runtime::Runtime;

/// How long the kernel and helpers may take to be done with what has ended.
const SOON: Duration = Duration::from_secs(20);
/// How long any call may take: longer is a deadlock.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Says which network pixels get.
pub(crate) const NETWORK: &str = "PIXELS_TEST_CRASH_NETWORK";

pub(crate) const IMAGE: &str = "small";

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

pub(crate) fn kill() -> StopOpts {
    StopOpts { force: true, ..StopOpts::default() }
}

pub(crate) struct World {
    pub(crate) root: PathBuf,
    dir: Option<tempfile::TempDir>,
    /// What is there although no pixel is.
    layers: BTreeSet<String>,
    slots: BTreeSet<u32>,
    count: u32,
    rt: Runtime,
    pub(crate) engine: Engine,
}

/// An engine on that store, as any process makes it.
pub(crate) fn engine(root: &Path) -> Engine {
    let mut settings = Settings::new();
    settings.insert("root".into(), root.display().to_string());
    settings.insert("default_image".into(), IMAGE.into());
    settings.insert("user".into(), "root".into());
    let disable = std::env::var("PIXELS_ENGINE_DISABLE").unwrap_or_default();
    settings.insert("disable".into(), disable);
    // The kernel takes its time for interfaces: those have lines of their own.
    let network = std::env::var(NETWORK).unwrap_or_else(|_| "none".into());
    settings.insert("network".into(), network);
    Engine::new(&settings).unwrap()
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A root file system with a shell.
pub(crate) fn rootfs(dir: &Path) {
    let sh = fs::canonicalize("/bin/sh").unwrap();
    let ldd = Command::new("ldd").arg(&sh).output().unwrap();
    let text = String::from_utf8_lossy(&ldd.stdout).into_owned();
    let libraries = text.split_ascii_whitespace().filter(|word| word.starts_with('/'));
    for library in libraries {
        let to = dir.join(&library[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "run", "root", "var/lib"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    fs::copy(sh, dir.join("bin/sh")).unwrap();
    fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
}

impl World {
    /// In a place of its own.
    pub(crate) fn new() -> Self {
        let parent = pixels_testkit::engine::place().map_or_else(
            |_| std::env::temp_dir(),
            |place| place.root.parent().map_or_else(std::env::temp_dir, Into::into),
        );
        let dir = tempfile::Builder::new().prefix("crash-").tempdir_in(parent).unwrap();
        let root = dir.path().join("store");
        let mut world = Self::at(root);
        world.dir = Some(dir);
        world
    }

    /// In a store that is to be at `root`.
    pub(crate) fn at(root: PathBuf) -> Self {
        // What helpers leave behind becomes this process's child.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let files = tempfile::tempdir().unwrap();
        rootfs(files.path());
        let (rt, engine) = (runtime(), engine(&root));
        let source = files.path().to_str().unwrap().to_owned();
        rt.block_on(engine.import_image(&source, Some(IMAGE), Progress::default())).unwrap();
        let (layers, slots) = (BTreeSet::new(), BTreeSet::new());
        let mut world = Self { root, dir: None, layers, slots, count: 0, rt, engine };
        world.layers = world.names("layers");
        world
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(LIMIT, future).await };
        self.rt.block_on(limited).expect("it ends")
    }

    fn names(&self, dir: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.root.join(dir)).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().into_string().unwrap()).collect()
    }

    /// A name that no pixel had.
    pub(crate) fn fresh(&mut self) -> Name {
        self.count += 1;
        name(&format!("c{}-{}", std::process::id(), self.count))
    }

    pub(crate) fn create(&self, pixel: &Name) {
        self.wait(self.engine.create(CreateOpts::new(pixel.clone()))).unwrap();
    }

    /// A running pixel: `one` at its checkpoint `c`, `two` now.
    pub(crate) fn pixel(&mut self) -> Name {
        let pixel = self.fresh();
        self.create(&pixel);
        self.sh(&pixel, "echo one >/data").unwrap();
        self.wait(self.engine.create_snapshot(&pixel, &label("c"))).unwrap();
        self.sh(&pixel, "echo two >/data; echo >/extra").unwrap();
        pixel
    }

    /// Runs a shell's line.
    pub(crate) fn sh(&self, pixel: &Name, line: &str) -> Result<String> {
        let out = self.wait(self.engine.output(pixel, &["/bin/sh", "-c", line]))?;
        Ok(String::from_utf8_lossy(&out).trim().to_owned())
    }

    /// `one`, or `two+` with the file that came with it; starts the pixel.
    pub(crate) fn content(&self, pixel: &Name) -> String {
        self.wait(self.engine.start(pixel)).unwrap();
        self.sh(pixel, "read a </data; [ -e /extra ] && a=$a+; echo $a").unwrap()
    }

    pub(crate) fn status(&self, pixel: &Name) -> Option<Status> {
        self.wait(self.engine.get(pixel)).ok().map(|i| i.status)
    }

    /// Remembers whose interfaces are to go.
    fn note_slots(&mut self) {
        self.slots.extend(self.names("slots").iter().filter_map(|n| n.parse::<u32>().ok()));
    }

    /// Lists, sweeps and removes everything, and looks whether anything is left.
    pub(crate) fn clear(&mut self) {
        self.note_slots();
        for instance in self.wait(self.engine.list()).unwrap() {
            assert_ne!(instance.status, Status::Error, "{}", instance.name);
        }
        self.wait(self.engine.sweep()).unwrap();
        for instance in self.wait(self.engine.list()).unwrap() {
            self.wait(self.engine.delete(&instance.name)).unwrap();
        }
        self.wait(self.engine.close()).unwrap();
        self.wait(self.engine.sweep()).unwrap();
        self.nothing_left();
        // Locks are files that stay; whoever sweeps has one itself.
        let locks = self.names("locks");
        assert!(locks.iter().all(|name| name == "aliases"), "{locks:?}");
    }

    /// Whether any pixel has control groups.
    pub(crate) fn has_groups(&self) -> bool {
        !groups(&self.root).is_empty()
    }

    /// Nothing is left, after a moment that the kernel may take.
    pub(crate) fn nothing_left(&mut self) {
        let start = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() {
                self.slots.clear();
                return;
            }
            assert!(start.elapsed() < SOON, "left: {left:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for dir in ["pixels", "slots", "trash", "tmp"] {
            left.extend(self.names(dir).iter().map(|n| format!("{dir}/{n}")));
        }
        let hidden = self.names("images").into_iter().filter(|n| n.starts_with('.'));
        left.extend(hidden.map(|n| format!("images/{n}")));
        for layer in self.names("layers").difference(&self.layers) {
            let refs = self.names(&format!("layers/{layer}/refs"));
            left.push(format!("layer {layer} with {refs:?}"));
        }
        left.extend(children());
        left.extend(groups(&self.root));
        let root = self.root.to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let within = format!("{root}/");
        left.extend(mounts.lines().filter(|l| l.contains(&within)).map(str::to_owned));
        let devices = fs::read_to_string("/proc/self/net/dev").unwrap();
        for slot in &self.slots {
            let name = format!("pxl{slot:x}:");
            if devices.split_ascii_whitespace().any(|word| word == name) {
                left.push(format!("interface {name}"));
            }
        }
        left
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            // Pixels may still have it mounted.
            for instance in self.rt.block_on(self.engine.list()).unwrap_or_default() {
                let _ = self.rt.block_on(self.engine.delete(&instance.name));
            }
            let _ = self.rt.block_on(self.engine.close());
            drop(dir);
        }
    }
}

/// This process's children, those that have ended reaped. None of them is
/// anybody's who waits for it.
fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((before, after)) = stat.rsplit_once(')') else { continue };
        let mut fields = after.split_ascii_whitespace();
        let (state, parent) = (fields.next().unwrap(), fields.next().unwrap());
        if parent != own {
            continue;
        }
        let pid = before.split_ascii_whitespace().next().unwrap().parse().unwrap();
        if state == "Z" {
            let pid = rustix::process::Pid::from_raw(pid);
            let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::NOHANG);
        }
        all.push(format!("process {before}) {state}"));
    }
    all
}

/// Control groups of this store's pixels.
fn groups(root: &Path) -> Vec<String> {
    let root = fs::canonicalize(root).unwrap();
    let hash = root
        .to_str()
        .unwrap()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let tag = format!("{hash:08x}-");
    let top = Path::new("/sys/fs/cgroup");
    let mut parents = vec![top.join("pixels")];
    let below = fs::read_dir(top).unwrap().flatten();
    parents.extend(below.map(|e| e.path().join("pixels")));
    let all = parents.iter().flat_map(fs::read_dir).flatten().flatten();
    let ours = all.filter(|e| e.file_name().to_string_lossy().starts_with(&tag));
    ours.map(|e| format!("group {}", e.path().display())).collect()
}

/// The first process of a pixel, from its record.
pub(crate) fn init(world: &World, pixel: &Name) -> u32 {
    let path = world.root.join("pixels").join(pixel.as_str()).join("run.json");
    let run: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    run["pid"].as_u64().unwrap().try_into().unwrap()
}

pub(crate) fn kill_process(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
