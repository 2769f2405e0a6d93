//! Processes: tasks between pipes, ended by their own return, a signal, their
//! timeout or their pixel's power.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::DuplexStream;
use tokio::sync::{oneshot, watch};

use super::{Memory, builtins, console};
use crate::{
    Bytes, ConsoleOpts, Control, Error, Exec, ExecOpts, ExitStatus, FileKind, Instance, Name,
    Process, Reader, Result, Signal, TtySize, Writer, text,
};

/// The one port that something listens on: what is sent to it comes back, as RFC 862 has it.
const ECHO: u16 = 7;

/// What a pipe holds, in bytes: as on Linux.
const PIPE: usize = 64 * 1024;

/// Where a built-in command runs.
pub(super) struct Context {
    pub(super) memory: Memory,
    pub(super) name: Name,
    pub(super) env: BTreeMap<Bytes, Bytes>,
    pub(super) cwd: Bytes,
    pub(super) tty: watch::Receiver<Option<TtySize>>,
}

/// A built-in command's ends of its pipes. A terminal has no stderr of its own.
pub(super) struct Io {
    pub(super) stdin: Option<DuplexStream>,
    pub(super) stdout: DuplexStream,
    pub(super) stderr: Option<DuplexStream>,
}

/// The caller's ends.
struct Ends {
    stdin: Option<Writer>,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
}

/// The side channel: a signal and a size to be noticed by the task.
struct Handle {
    signal: watch::Sender<Option<u8>>,
    tty: watch::Sender<Option<TtySize>>,
}

#[async_trait]
impl Control for Handle {
    async fn signal(&self, signal: Signal) -> Result<()> {
        // Signal 0 asks whether there is a process; no other is survived in here.
        if signal.0 != 0 {
            self.signal.send_replace(Some(signal.0));
        }
        Ok(())
    }

    async fn resize(&self, size: TtySize) -> Result<()> {
        self.tty.send_modify(|tty| {
            if tty.is_some() {
                *tty = Some(size);
            }
        });
        Ok(())
    }

    async fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL).await
    }
}

/// Kills when the process's owner drops it.
struct KillOnDrop(Arc<Handle>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.signal.send_replace(Some(Signal::KILL.0));
    }
}

#[async_trait]
impl Exec for Memory {
    async fn spawn(&self, name: &Name, opts: ExecOpts) -> Result<Process> {
        check(&opts.cmd, &opts.env)?;
        let power = self.power(name)?;
        let (handle, tty) = handle(opts.tty);
        let (io, ends) = pipes(!opts.no_stdin, opts.tty.is_some());
        let cwd = opts.cwd.unwrap_or_else(|| b"/root".to_vec());
        let context =
            Context { memory: self.clone(), name: name.clone(), env: login(opts.env), cwd, tty };
        let program = async move {
            context.check_cwd()?;
            builtins::run(&context, &opts.cmd, io).await
        };
        Ok(launch(name, handle, power, opts.timeout, ends, program))
    }

    async fn console(&self, name: &Name, opts: ConsoleOpts) -> Result<Process> {
        let size = opts.size.unwrap_or(TtySize { cols: 80, rows: 24 });
        if let Some(cmd) = opts.remote_cmd {
            let opts = ExecOpts { cmd, env: opts.env, root: opts.root, ..ExecOpts::default() };
            return self.spawn(name, ExecOpts { tty: Some(size), ..opts }).await;
        }
        check(&[b"sh".to_vec()], &opts.env)?;
        let power = self.power(name)?;
        let (handle, tty) = handle(Some(size));
        let (io, ends) = pipes(true, true);
        let context = Context {
            memory: self.clone(),
            name: name.clone(),
            env: login(opts.env),
            cwd: b"/root".to_vec(),
            tty,
        };
        let program = async move { console::run(&context, io).await };
        Ok(launch(name, handle, power, None, ends, program))
    }

    async fn ready(&self, name: &Name, _: Duration) -> Result<Instance> {
        // One that runs is ready, and nothing but a call of `start` changes that.
        self.power(name)?;
        self.lock().pixel(name).map(|p| p.instance(name))
    }

    async fn dial(&self, name: &Name, port: u16) -> Result<(Reader, Writer)> {
        let mut power = self.power(name)?;
        if port != ECHO {
            let what = format!("connecting to port {port} of {name}");
            return Err(Error::backend(what, "Connection refused"));
        }
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(far);
            tokio::select! {
                // Both directions end when this does.
                _ = tokio::io::copy(&mut from, &mut to) => {}
                _ = power.changed() => {}
            }
        });
        let (reader, writer) = tokio::io::split(near);
        Ok((Box::pin(reader), Box::pin(writer)))
    }
}

impl Memory {
    /// What ends when the pixel stops.
    fn power(&self, name: &Name) -> Result<watch::Receiver<()>> {
        let world = self.lock();
        let pixel = world.pixel(name)?;
        match &pixel.power {
            Some(power) => Ok(power.subscribe()),
            None => Err(Error::WrongState {
                name: name.to_string(),
                state: pixel.status(),
                needs: "exec needs it running".into(),
            }),
        }
    }
}

impl Context {
    fn check_cwd(&self) -> Result<()> {
        let world = self.memory.lock();
        let stat = world.pixel(&self.name)?.tree.stat(&self.cwd, true)?;
        match stat.kind {
            FileKind::Dir => Ok(()),
            _ => Err(Error::invalid("cwd", &text::clean_bytes(&self.cwd), "it is not a directory")),
        }
    }
}

/// Refuses what no system call could carry.
fn check(cmd: &[Bytes], env: &[(Bytes, Bytes)]) -> Result<()> {
    if cmd.first().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("command", "", "a command has a name"));
    }
    if let Some(arg) = cmd.iter().find(|a| a.contains(&0)) {
        return Err(Error::invalid("argument", &text::clean_bytes(arg), "it holds a NUL byte"));
    }
    let bad = |(k, v): &&(Bytes, Bytes)| {
        k.is_empty() || k.contains(&0) || k.contains(&b'=') || v.contains(&0)
    };
    if let Some((key, _)) = env.iter().find(bad) {
        let rule = "a name is not empty and holds no =, and neither it nor its value a NUL byte";
        return Err(Error::invalid("environment variable", &text::clean_bytes(key), rule));
    }
    Ok(())
}

/// What a login gives, and on top of it what was asked for.
fn login(asked: Vec<(Bytes, Bytes)>) -> BTreeMap<Bytes, Bytes> {
    let given = [("HOME", "/root"), ("USER", "root"), ("PATH", "/usr/local/bin:/usr/bin:/bin")];
    let given = given.map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec()));
    given.into_iter().chain(asked).collect()
}

fn handle(size: Option<TtySize>) -> (Arc<Handle>, watch::Receiver<Option<TtySize>>) {
    let (tty, tty_rx) = watch::channel(size);
    (Arc::new(Handle { signal: watch::channel(None).0, tty }), tty_rx)
}

fn pipes(with_stdin: bool, tty: bool) -> (Io, Ends) {
    let (stdin, their_stdin) = tokio::io::duplex(PIPE);
    let (stdout, their_stdout) = tokio::io::duplex(PIPE);
    let (stderr, their_stderr) = tokio::io::duplex(PIPE);
    let io = Io {
        stdin: with_stdin.then_some(their_stdin),
        stdout: their_stdout,
        stderr: (!tty).then_some(their_stderr),
    };
    let ends = Ends {
        stdin: with_stdin.then(|| Box::pin(stdin) as Writer),
        stdout: Some(Box::pin(stdout)),
        stderr: (!tty).then(|| Box::pin(stderr) as Reader),
    };
    (io, ends)
}

/// Runs `program` as a task until it or something else ends it.
fn launch(
    name: &Name,
    handle: Arc<Handle>,
    mut power: watch::Receiver<()>,
    timeout: Option<Duration>,
    ends: Ends,
    program: impl Future<Output = Result<ExitStatus>> + Send + 'static,
) -> Process {
    let (done, exit) = oneshot::channel();
    let what = format!("command in pixel {name}");
    let interrupted = Error::Interrupted { what: what.clone() };
    let mut signal = handle.signal.subscribe();
    tokio::spawn(async move {
        let expired = async {
            match timeout {
                Some(after) => {
                    tokio::time::sleep(after).await;
                    after
                }
                None => std::future::pending().await,
            }
        };
        let signalled = async { signal.wait_for(Option::is_some).await.ok().and_then(|n| *n) };
        let result = tokio::select! {
            result = program => result,
            n = signalled => Ok(ExitStatus::Signal(n.unwrap_or(Signal::KILL.0))),
            // Nothing is ever sent: this returns when the sender is gone.
            _ = power.changed() => Ok(ExitStatus::Signal(Signal::KILL.0)),
            after = expired => Err(Error::Timeout { what, after }),
        };
        // Nobody waits any more: no one to tell.
        let _ = done.send(result);
    });
    let guard = KillOnDrop(Arc::clone(&handle));
    Process::new(ends.stdin, ends.stdout, ends.stderr, handle, async move {
        let result = exit.await.unwrap_or(Err(interrupted));
        drop(guard);
        result
    })
}

/// A path that a command's word names, from its directory.
pub(super) fn absolute(context: &Context, word: &[u8]) -> Bytes {
    if word.first() == Some(&b'/') {
        return word.to_vec();
    }
    let mut path = context.cwd.clone();
    path.push(b'/');
    path.extend_from_slice(word);
    path
}

/// What a shell returns for a word that it cannot run.
pub(super) fn unknown(context: &Context, word: &[u8]) -> (u8, &'static str) {
    let found = word.contains(&b'/') && {
        let world = context.memory.lock();
        world.pixel(&context.name).and_then(|p| p.tree.stat(&absolute(context, word), true)).is_ok()
    };
    if found { (126, "cannot execute") } else { (127, "not found") }
}
