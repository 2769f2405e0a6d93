//! What a case is given: the backend, names, pixels that are removed after it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt;
use pixels_core::{
    Bytes, CloneOpts, CreateOpts, ExecOpts, ExitStatus, Label, Name, Process, Reader, Sandbox,
    SandboxExt,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OnceCell;

use crate::Subject;

/// How long a pixel may take to come up.
const READY: Duration = Duration::from_secs(90);

/// What the cases of one subject share.
pub(crate) struct Shared {
    pub(crate) subject: Subject,
    base: OnceCell<Name>,
    counter: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(subject: Subject) -> Self {
        Self { subject, base: OnceCell::new(), counter: AtomicUsize::new(0) }
    }

    fn next(&self) -> usize {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// Removes every pixel of this run, also those that no case has owned up to.
    ///
    /// # Errors
    /// What could not be removed.
    pub(crate) async fn teardown(&self) -> Result<()> {
        let all = self.subject.backend.list().await.context("list at the end")?;
        let ours: Vec<Name> = all
            .into_iter()
            .map(|i| i.name)
            .filter(|n| n.as_str().starts_with(&self.subject.prefix))
            .collect();
        remove(&*self.subject.backend, ours).await
    }
}

/// Removes pixels, a few at a time; those that are missing are fine.
async fn remove(backend: &dyn Sandbox, names: Vec<Name>) -> Result<()> {
    let failed: Vec<String> = futures_util::stream::iter(names)
        .map(|name| async move {
            match backend.delete(&name).await {
                Ok(()) => None,
                Err(e) if e.is_not_found() => None,
                Err(e) => Some(e.to_string()),
            }
        })
        .buffer_unordered(4)
        .filter_map(|e| async { e })
        .collect()
        .await;
    if !failed.is_empty() {
        bail!("left behind: {}", failed.join("; "));
    }
    Ok(())
}

/// What one case works with. Every pixel that it names is removed after it,
/// however it ends.
#[derive(Clone)]
pub struct Ctx {
    shared: Arc<Shared>,
    made: Arc<Mutex<Vec<Name>>>,
}

/// What a command left.
#[derive(Debug, PartialEq, Eq)]
pub struct Out {
    /// The number a shell would give.
    pub code: u8,
    /// Its standard output.
    pub stdout: Bytes,
    /// Its standard error.
    pub stderr: Bytes,
}

impl Ctx {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, made: Arc::default() }
    }

    /// The backend under test.
    pub fn sandbox(&self) -> &dyn Sandbox {
        &*self.shared.subject.backend
    }

    /// The backend under test, for tasks.
    pub fn backend(&self) -> Arc<dyn Sandbox> {
        Arc::clone(&self.shared.subject.backend)
    }

    /// The subject.
    pub fn subject(&self) -> &Subject {
        &self.shared.subject
    }

    /// A name nobody has; what it comes to stand for is removed after the case.
    pub fn name(&self, role: &str) -> Result<Name> {
        let Shared { subject, .. } = &*self.shared;
        let name = Name::new(&format!("{}-{}-{role}", subject.prefix, self.shared.next()))?;
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        Ok(name)
    }

    /// What to create: `name` from the subject's image.
    pub fn spec(&self, name: &Name) -> CreateOpts {
        CreateOpts { image: self.subject().image.clone(), ..CreateOpts::new(name.clone()) }
    }

    /// The pixel that all cases share. It runs; nobody stops it or changes
    /// anything outside a directory of [`Ctx::dir`].
    pub async fn shared(&self) -> Result<Name> {
        let base = self.shared.base.get_or_try_init(|| async {
            let name = Name::new(&format!("{}-base", self.subject().prefix))?;
            self.sandbox().create(self.spec(&name)).await.context("create the shared pixel")?;
            self.sandbox().ready(&name, READY).await.context("the shared pixel")?;
            if self.subject().linux {
                // What a first boot makes (host keys) is part of every clone's
                // identity, and not a change that a case made.
                let booted =
                    "command -v systemctl >/dev/null && systemctl is-system-running --wait; true";
                self.sandbox()
                    .output(&name, &["sh", "-c", booted])
                    .await
                    .context("its first boot")?;
            }
            if self.sandbox().capabilities().snapshots {
                self.sandbox().create_snapshot(&name, &base_label()?).await?;
            }
            anyhow::Ok(name)
        });
        base.await.cloned()
    }

    /// A running pixel of the case's own: a clone of the shared one where that can be.
    pub async fn fresh(&self, role: &str) -> Result<Name> {
        let name = self.name(role)?;
        let can = self.sandbox().capabilities();
        if can.clone_from && can.snapshots {
            let base = self.shared().await?;
            let label = base_label()?;
            self.sandbox()
                .clone_from(&base, Some(&label), &name, CloneOpts::default())
                .await
                .with_context(|| format!("clone {base}:{label} to {name}"))?;
        } else {
            self.sandbox().create(self.spec(&name)).await?;
        }
        self.sandbox().ready(&name, READY).await?;
        Ok(name)
    }

    /// An empty directory of the case's own in `pixel`, writable by everyone.
    pub async fn dir(&self, pixel: &Name) -> Result<String> {
        let path = format!("/tmp/{}-{}", self.subject().prefix, self.shared.next());
        let session = self.sandbox().files(pixel).await?;
        session.mkdir(path.as_bytes(), 0o777, None).await?;
        // The mode given to mkdir may have passed through a umask.
        let opts = pixels_core::WriteOpts { mode: Some(0o777), ..Default::default() };
        session.set_attrs(path.as_bytes(), opts).await?;
        Ok(path)
    }

    /// Runs a command with `stdin` and collects all it leaves.
    pub async fn exec(&self, pixel: &Name, opts: ExecOpts, stdin: &[u8]) -> Result<Out> {
        collect(self.sandbox().spawn(pixel, opts).await?, stdin).await
    }

    /// Runs a command without input.
    pub async fn cmd(&self, pixel: &Name, cmd: &[&str]) -> Result<Out> {
        let opts = ExecOpts { no_stdin: true, ..ExecOpts::new(cmd.iter().copied()) };
        self.exec(pixel, opts, b"").await
    }

    /// Runs a command as root, which must succeed, and returns its stdout without blanks around it.
    pub async fn ask(&self, pixel: &Name, cmd: &[&str]) -> Result<String> {
        let opts = ExecOpts { no_stdin: true, root: true, ..ExecOpts::new(cmd.iter().copied()) };
        let out = self.exec(pixel, opts, b"").await?;
        if out.code != 0 {
            bail!("{cmd:?}: {} {}", out.code, String::from_utf8_lossy(&out.stderr));
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    /// Removes what the case named.
    pub(crate) async fn clean(&self) -> Result<()> {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        remove(self.sandbox(), made).await
    }
}

/// The label of the shared pixel's checkpoint.
fn base_label() -> Result<Label> {
    Ok(Label::new("base")?)
}

/// Feeds and drains a process to its end.
pub(crate) async fn collect(mut process: Process, input: &[u8]) -> Result<Out> {
    let stdin = process.stdin.take();
    let feed = async move {
        if let Some(mut to) = stdin {
            // The command may end without reading it all.
            let _ = to.write_all(input).await;
            let _ = to.shutdown().await;
        }
    };
    let (out, err) = (process.stdout.take(), process.stderr.take());
    let (stdout, stderr, status, ()) =
        tokio::join!(read_all(out), read_all(err), process.exit(), feed);
    let status: ExitStatus = status?;
    Ok(Out { code: status.code(), stdout: stdout?, stderr: stderr? })
}

async fn read_all(from: Option<Reader>) -> Result<Bytes> {
    let mut bytes = Bytes::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}
