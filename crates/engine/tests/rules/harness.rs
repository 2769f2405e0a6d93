//! A laboratory: the engine on the tests' store, and pixels that are removed
//! whatever becomes of the test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pixels_core::{Backend, CreateOpts, Exec, ExecOpts, Name, Process, SandboxExt, Settings};
use pixels_engine::Engine;
use pixels_testkit::engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long anything may take that is waited for.
pub const SOON: Duration = Duration::from_secs(30);

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// What a test works with.
pub struct Lab {
    /// The backend.
    pub engine: Arc<Engine>,
    /// Its store.
    pub root: PathBuf,
}

/// A pixel of the test's, and its first process.
pub struct Pixel {
    /// What it is called.
    pub name: Name,
    /// Its init, as the host numbers it.
    pub pid: u32,
    engine: Arc<Engine>,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Said {
    /// The number a shell would give.
    pub code: u8,
    /// Standard output and error, each trimmed.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs a test with the engine as root: these look at the host's side too.
pub fn as_root<F>(test: impl FnOnce(Lab) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    assert!(engine::is_root(), "this test looks at the host's side of pixels: run it as root");
    anyone(&[], test);
}

/// Runs a test as whoever this is, with settings besides the usual ones.
pub fn anyone<F>(settings: &[(&str, &str)], test: impl FnOnce(Lab) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let lab = Lab::new(settings).await;
        let mine = Lab { engine: Arc::clone(&lab.engine), root: lab.root.clone() };
        let ended = tokio::spawn(test(mine)).await;
        for pixel in lab.engine.list().await.unwrap() {
            if pixel.name.as_str().starts_with(&format!("{}-", prefix())) {
                // Another test of this process may be using it: those have their own.
                if lab.made().contains(&pixel.name) {
                    let _ = lab.engine.delete(&pixel.name).await;
                }
            }
        }
        lab.engine.close().await.unwrap();
        if let Err(e) = ended {
            std::panic::resume_unwind(e.into_panic());
        }
    });
}

fn prefix() -> String {
    format!("rule{}", std::process::id())
}

static MADE: std::sync::Mutex<BTreeMap<usize, Vec<Name>>> = std::sync::Mutex::new(BTreeMap::new());

impl Lab {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let place = engine::place().unwrap();
        let mut all: Settings = [
            ("root", place.root.display().to_string()),
            ("memory", (256u64 << 20).to_string()),
            ("disable", std::env::var("PIXELS_ENGINE_DISABLE").unwrap_or_default()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        if let Some(network) = &place.network {
            all.insert("network".into(), network.clone());
        }
        all.extend(settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let root = PathBuf::from(&all["root"]);
        let backend = Engine::new(&all).unwrap();
        // A store of the test's own gets images of the test's own.
        if root == place.root {
            engine::have_image(&backend, &place).await.unwrap();
        }
        Self { engine: Arc::new(backend), root }
    }

    fn key(&self) -> usize {
        Arc::as_ptr(&self.engine).addr()
    }

    fn made(&self) -> Vec<Name> {
        MADE.lock().unwrap().get(&self.key()).cloned().unwrap_or_default()
    }

    /// A name of nobody's.
    pub fn name(&self, role: &str) -> Name {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = Name::new(&format!("{}-{n}-{role}", prefix())).unwrap();
        MADE.lock().unwrap().entry(self.key()).or_default().push(name.clone());
        name
    }

    /// A new pixel of the tests' image.
    pub async fn pixel(&self, role: &str) -> Pixel {
        let name = self.name(role);
        let image = Some(engine::IMAGE.to_owned());
        self.create(CreateOpts { image, ..CreateOpts::new(name) }).await
    }

    /// A new pixel.
    pub async fn create(&self, opts: CreateOpts) -> Pixel {
        let name = opts.name.clone();
        self.engine.create(opts).await.unwrap();
        let pid = self.note(&name)["pid"].as_u64().unwrap();
        Pixel { name, pid: u32::try_from(pid).unwrap(), engine: Arc::clone(&self.engine) }
    }

    /// What the engine has written down of a pixel's processes.
    pub fn note(&self, name: &Name) -> serde_json::Value {
        let path = self.root.join("pixels").join(name.as_str()).join("run.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }
}

impl Pixel {
    /// Runs something as root; what it says must be text.
    pub async fn root(&self, cmd: &[&str]) -> Said {
        self.exec(ExecOpts {
            root: true,
            ..ExecOpts::new(cmd.iter().map(|w| w.as_bytes().to_vec()))
        })
        .await
    }

    /// Runs something as the pixel's user.
    pub async fn user(&self, cmd: &[&str]) -> Said {
        self.exec(ExecOpts::new(cmd.iter().map(|w| w.as_bytes().to_vec()))).await
    }

    /// A shell script as root, which must succeed; what it said.
    pub async fn sh(&self, script: &str) -> String {
        let said = self.root(&["sh", "-c", script]).await;
        assert_eq!(said.code, 0, "{script}: {said:?}");
        said.out
    }

    async fn exec(&self, mut opts: ExecOpts) -> Said {
        opts.no_stdin = true;
        opts.timeout = Some(SOON * 3);
        let mut process = self.engine.spawn(&self.name, opts).await.unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (mut a, mut b) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
        let (_, _, status) =
            tokio::join!(a.read_to_end(&mut out), b.read_to_end(&mut err), process.exit());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        let code = match status {
            Ok(status) => status.code(),
            // Memory ran out and its parent was the one to go.
            Err(e) if e.to_string().contains("died of signal 9") => 128 + 9,
            Err(e) => panic!("{e}"),
        };
        Said { code, out: text(out), err: text(err) }
    }

    /// Starts something as root that goes on, once it has said a line.
    pub async fn start(&self, script: &str) -> Process {
        let opts = ExecOpts { root: true, ..ExecOpts::new(["sh", "-c", script]) };
        let mut process = self.engine.spawn(&self.name, opts).await.unwrap();
        let mut byte = [0];
        let out = process.stdout.as_mut().unwrap();
        let heard = tokio::time::timeout(SOON, out.read_exact(&mut byte)).await;
        heard.expect("it says nothing").unwrap();
        process
    }

    /// A program of the test's own in the pixel.
    pub async fn program(&self, path: &str, content: &[u8]) {
        self.engine.write_file(&self.name, path, content, 0o755, None).await.unwrap();
    }

    /// The user `pixel`, who may do everything by sudo, as provisioning makes it.
    pub async fn have_user(&self) {
        self.sh(
            "useradd -m -u 1000 -s /bin/sh -G games pixel && \
             echo 'pixel ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/pixel && chmod 440 /etc/sudoers.d/pixel",
        )
        .await;
    }

    /// Something of the first process, as the host sees it.
    pub fn proc(&self, what: &str) -> String {
        read_proc(self.pid, what)
    }
}

/// Ends a command that goes on.
pub async fn end(process: Process) {
    let control = process.control();
    control.kill().await.unwrap();
    let _ = tokio::time::timeout(SOON, process.wait()).await;
}

/// Feeds a command its input and closes it.
#[allow(dead_code, reason = "not every topic has input")]
pub async fn feed(process: &mut Process, input: &[u8]) {
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(input).await.unwrap();
    stdin.shutdown().await.unwrap();
}

/// A file of a process.
pub fn read_proc(pid: u32, what: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default()
}

/// A field of `/proc/<pid>/status`.
pub fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or("missing").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The host's processes whose command line holds this word.
pub fn processes(word: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.split('\0').any(|arg| arg == word) {
            found.push(pid);
        }
    }
    found
}

/// Waits until something is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while !so() {
        assert!(began.elapsed() < SOON, "{what}: not after {SOON:?}");
        ticks.tick().await;
    }
}
