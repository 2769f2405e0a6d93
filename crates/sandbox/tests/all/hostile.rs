//! A backend that does what memory does, except where a test says otherwise.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pixels_sandbox::memory::Memory;
use pixels_sandbox::*;

type Hook = Box<dyn FnMut(&str, &[u8]) -> Act + Send>;
type Listing = Arc<dyn Fn(&[u8], Vec<DirEntry>) -> Vec<DirEntry> + Send + Sync>;

/// What a file operation does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Go,
    Fail,
    Hang,
}

#[derive(Clone)]
pub struct Hostile {
    pub inner: Memory,
    pub calls: Arc<AtomicUsize>,
    pub egress: bool,
    hook: Arc<Mutex<Hook>>,
    listing: Listing,
}

impl Hostile {
    pub fn new(inner: Memory) -> Self {
        Self {
            inner,
            calls: Arc::default(),
            egress: false,
            hook: Arc::new(Mutex::new(Box::new(|_, _| Act::Go))),
            listing: Arc::new(|_, entries| entries),
        }
    }

    /// Asks `hook` before every file operation.
    pub fn hook(mut self, hook: impl FnMut(&str, &[u8]) -> Act + Send + 'static) -> Self {
        self.hook = Arc::new(Mutex::new(Box::new(hook)));
        self
    }

    /// Changes what directories list.
    pub fn listing(
        mut self,
        change: impl Fn(&[u8], Vec<DirEntry>) -> Vec<DirEntry> + Send + Sync + 'static,
    ) -> Self {
        self.listing = Arc::new(change);
        self
    }

    pub fn pixels(&self) -> Pixels {
        Pixels::with_backend(Config::default(), Arc::new(self.clone()))
    }

    fn count(&self) -> &Memory {
        self.calls.fetch_add(1, Ordering::SeqCst);
        &self.inner
    }
}

#[async_trait]
impl Backend for Hostile {
    fn kind(&self) -> &'static str {
        "hostile"
    }
    async fn create(&self, opts: CreateOpts) -> Result<Instance> {
        self.count().create(opts).await
    }
    async fn get(&self, name: &Name) -> Result<Instance> {
        self.count().get(name).await
    }
    async fn list(&self) -> Result<Vec<Instance>> {
        self.count().list().await
    }
    async fn start(&self, name: &Name) -> Result<()> {
        self.count().start(name).await
    }
    async fn stop(&self, name: &Name, opts: StopOpts) -> Result<()> {
        self.count().stop(name, opts).await
    }
    async fn delete(&self, name: &Name) -> Result<()> {
        self.count().delete(name).await
    }
    async fn create_snapshot(&self, name: &Name, label: &Label) -> Result<Snapshot> {
        self.count().create_snapshot(name, label).await
    }
    async fn list_snapshots(&self, name: &Name) -> Result<Vec<Snapshot>> {
        self.count().list_snapshots(name).await
    }
    async fn delete_snapshot(&self, name: &Name, label: &Label) -> Result<()> {
        self.count().delete_snapshot(name, label).await
    }
    async fn restore_snapshot(&self, name: &Name, label: &Label) -> Result<()> {
        self.count().restore_snapshot(name, label).await
    }
    async fn clone_from(
        &self,
        source: &Name,
        label: Option<&Label>,
        name: &Name,
        opts: CloneOpts,
    ) -> Result<Instance> {
        Backend::clone_from(self.count(), source, label, name, opts).await
    }
    async fn list_images(&self) -> Result<Vec<ImageInfo>> {
        self.count().list_images().await
    }
    async fn sweep(&self) -> Result<Vec<String>> {
        self.count().sweep().await
    }
    async fn doctor(&self, fix: bool) -> Vec<Finding> {
        self.count().doctor(fix).await
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { egress_control: self.egress, ..self.inner.capabilities() }
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl Exec for Hostile {
    async fn spawn(&self, name: &Name, opts: ExecOpts) -> Result<Process> {
        self.count().spawn(name, opts).await
    }
    async fn console(&self, name: &Name, opts: ConsoleOpts) -> Result<Process> {
        self.count().console(name, opts).await
    }
    async fn ready(&self, name: &Name, timeout: Duration) -> Result<Instance> {
        self.count().ready(name, timeout).await
    }
}

#[async_trait]
impl NetworkPolicy for Hostile {
    async fn set_egress_mode(&self, name: &Name, mode: EgressMode) -> Result<()> {
        self.count().set_egress_mode(name, mode).await
    }
    async fn allow_domain(&self, name: &Name, domain: &str) -> Result<()> {
        self.count().allow_domain(name, domain).await
    }
    async fn deny_domain(&self, name: &Name, domain: &str) -> Result<()> {
        self.count().deny_domain(name, domain).await
    }
    async fn get_policy(&self, name: &Name) -> Result<Policy> {
        self.count().get_policy(name).await
    }
}

#[async_trait]
impl Files for Hostile {
    async fn files(&self, name: &Name) -> Result<Box<dyn FileSession>> {
        let inner = self.count().files(name).await?;
        Ok(Box::new(Session { inner, hook: self.hook.clone(), listing: self.listing.clone() }))
    }
}

struct Session {
    inner: Box<dyn FileSession>,
    hook: Arc<Mutex<Hook>>,
    listing: Listing,
}

impl Session {
    async fn ask(&self, op: &str, path: &[u8]) -> Result<()> {
        let act = (self.hook.lock().unwrap())(op, path);
        match act {
            Act::Go => Ok(()),
            Act::Fail => Err(Error::backend(op, "the test says no")),
            Act::Hang => std::future::pending().await,
        }
    }
}

#[async_trait]
impl FileSession for Session {
    async fn stat(&self, path: &[u8], follow: bool) -> Result<FileStat> {
        self.ask("stat", path).await?;
        self.inner.stat(path, follow).await
    }
    async fn read_dir(&self, path: &[u8]) -> Result<Vec<DirEntry>> {
        self.ask("read_dir", path).await?;
        Ok((self.listing)(path, self.inner.read_dir(path).await?))
    }
    async fn read_link(&self, path: &[u8]) -> Result<Bytes> {
        self.ask("read_link", path).await?;
        self.inner.read_link(path).await
    }
    async fn open_read(&self, path: &[u8]) -> Result<(FileStat, Reader)> {
        self.ask("open_read", path).await?;
        self.inner.open_read(path).await
    }
    async fn write(&self, path: &[u8], content: Reader, opts: WriteOpts) -> Result<u64> {
        self.ask("write", path).await?;
        self.inner.write(path, content, opts).await
    }
    async fn mkdir(&self, path: &[u8], mode: u32, owner: Option<Owner>) -> Result<()> {
        self.ask("mkdir", path).await?;
        self.inner.mkdir(path, mode, owner).await
    }
    async fn symlink(&self, target: &[u8], path: &[u8], owner: Option<Owner>) -> Result<()> {
        self.ask("symlink", path).await?;
        self.inner.symlink(target, path, owner).await
    }
    async fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.ask("rename", to).await?;
        self.inner.rename(from, to).await
    }
    async fn remove_file(&self, path: &[u8]) -> Result<()> {
        self.ask("remove_file", path).await?;
        self.inner.remove_file(path).await
    }
    async fn remove_dir(&self, path: &[u8]) -> Result<()> {
        self.ask("remove_dir", path).await?;
        self.inner.remove_dir(path).await
    }
    async fn set_attrs(&self, path: &[u8], opts: WriteOpts) -> Result<()> {
        self.ask("set_attrs", path).await?;
        self.inner.set_attrs(path, opts).await
    }
}
