//! Commands inside pixels: a process of the launcher enters the pixel, gives up
//! what the pixel does not have, and becomes the command's parent. Nothing but
//! the kernel is between the caller and the command's streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pixels_core::{
    ConsoleOpts, Control, Error, Exec, ExecOpts, ExitStatus, Instance, Name, Process, Reader,
    Result, Signal, TtySize, What, Writer, text,
};
use pixels_guest_api::host::{Answer, EnterSpec, Run as Enter};
use pixels_guest_api::{ExecRequest, Nonce, Report, ReportKind, SIGNAL_KILL_TREE, UserSpec, face};
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::Mutex;

use crate::cgroup;
use crate::engine::Engine;
use crate::launcher::{Running, failed, read_answer, said, system};
use crate::process::Handle;
use crate::terminal::Terminal;

/// How much later than its commands a pixel may end.
const LAST: Duration = Duration::from_millis(100);

impl Engine {
    /// A process of the launcher inside a running pixel.
    pub(crate) fn enter(
        &self,
        name: &Name,
        needs: &str,
        run: Enter,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Running> {
        let ready = self.ready()?;
        let (record, process) = ready.running(name, needs)?;
        self.watch(ready, name, &record, &process);
        self.wake(ready, name, &record);
        let spec = EnterSpec {
            pid: process.pid,
            start_time: process.start_time,
            cgroups: cgroup::bytes(&ready.cgroups.dirs(&record.id)),
            lockdown: self.lockdown(&ready.owner),
            run,
        };
        ready.launcher.start(face::ENTER, &spec.encode(), fds)
    }

    /// Whose errors these are.
    pub(crate) fn of(&self, name: &Name) -> Of {
        Of { engine: self.clone(), name: name.clone() }
    }

    /// Starts a command.
    async fn command(&self, name: &Name, opts: ExecOpts) -> Result<Process> {
        let mut request = ExecRequest::new(Nonce([0; 16]), opts.cmd.clone());
        request.env = opts.env.clone();
        request.cwd = opts.cwd.clone();
        request.user = if opts.root {
            UserSpec::Root
        } else {
            UserSpec::NameOrRoot(self.config.user.clone().into_bytes())
        };
        request.timeout_ms =
            opts.timeout.map_or(0, |t| t.as_millis().clamp(1, u64::MAX.into()) as u64);
        if opts.tty.is_some() {
            let term = opts.env.iter().rev().find(|(k, _)| k == b"TERM");
            request.term = term.map(|(_, v)| v.clone());
        }
        let shown = text::clean_bytes(opts.cmd.first().map_or(&[][..], Vec::as_slice));
        let request =
            request.encode().map_err(|e| Error::invalid("command", &shown, &e.to_string()))?;
        let needs = "and commands need it running";
        match opts.tty {
            Some(size) => {
                let run = Enter::Exec { request, terminal: Some((size.cols, size.rows)) };
                let running = self.enter(name, needs, run, &[])?;
                match on_terminal(running, opts, self.of(name)).await {
                    Err(e) => Err(self.of(name).explain(e).await),
                    started => started,
                }
            }
            None => {
                let run = Enter::Exec { request, terminal: None };
                let what = "make the command's streams";
                let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
                let (in_read, in_write) = pipe().map_err(system(what))?;
                let (out_read, out_write) = pipe().map_err(system(what))?;
                let (err_read, err_write) = pipe().map_err(system(what))?;
                let theirs = [in_read.as_fd(), out_write.as_fd(), err_write.as_fd()];
                let running = self.enter(name, needs, run, &theirs)?;
                drop((in_read, out_write, err_write));
                let stdin = if opts.no_stdin { None } else { Some(writer(in_write)?) };
                let (stdout, stderr) = (reader(out_read)?, reader(err_read)?);
                let pixel = self.of(name);
                Ok(process(running, stdin, Some(stdout), Some(stderr), None, opts, pixel))
            }
        }
    }
}

/// A pixel that something was to be done in.
pub(crate) struct Of {
    engine: Engine,
    name: Name,
}

impl Of {
    /// What went wrong in or on the way into the pixel: if it is being stopped or
    /// removed meanwhile, that.
    pub(crate) async fn explain(&self, error: Error) -> Error {
        if !matches!(error.kind(), Error::Backend { .. }) {
            return error;
        }
        let Ok(ready) = self.engine.ready() else { return error };
        let running = || ready.running(&self.name, "and this needs it running");
        if let Ok((_, run)) = running()
            && let Ok(Some(handle)) = Handle::open(&run)
        {
            // Of a pixel that is killed its first process may be the last to go.
            let _ = tokio::time::timeout(LAST, handle.ended()).await;
        }
        running().err().unwrap_or(error)
    }
}

fn writer(fd: OwnedFd) -> Result<Writer> {
    let sender = pipe::Sender::from_owned_fd(fd).map_err(|e| failed("open the input", e))?;
    Ok(Box::pin(sender))
}

fn reader(fd: OwnedFd) -> Result<Reader> {
    let receiver = pipe::Receiver::from_owned_fd(fd).map_err(|e| failed("open the output", e))?;
    Ok(Box::pin(receiver))
}

async fn on_terminal(running: Running, opts: ExecOpts, pixel: Of) -> Result<Process> {
    let received = crate::terminal::receive(&running.socket).await?;
    let terminal = match received {
        Ok(master) => Arc::new(Terminal::new(master)?),
        // An answer instead: it failed.
        Err(first) => {
            let (mut socket, _child) = running.split();
            let first = [first];
            let mut all = (&first[..]).chain(&mut socket);
            let answered = read_answer(&mut all)
                .await
                .map_err(|e| failed("open a terminal in the pixel", e))?;
            return Err(said(&answered.payload));
        }
    };
    let (stdin, stdout) = (terminal.writer(), terminal.reader());
    Ok(process(running, Some(stdin), Some(stdout), None, Some(terminal), opts, pixel))
}

fn process(
    running: Running,
    stdin: Option<Writer>,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    terminal: Option<Arc<Terminal>>,
    opts: ExecOpts,
    pixel: Of,
) -> Process {
    let (socket, child) = running.split();
    let (from, to) = socket.into_split();
    let control = Arc::new(Channel { to: Mutex::new(Some(to)), terminal });
    let exit = async move {
        match exit(from, child, opts).await {
            Err(e) => Err(pixel.explain(e).await),
            ended => ended,
        }
    };
    Process::new(stdin, stdout, stderr, control, exit)
}

/// Waits for the end and says what it was.
async fn exit(
    mut from: tokio::net::unix::OwnedReadHalf,
    mut child: Child,
    opts: ExecOpts,
) -> Result<ExitStatus> {
    use std::os::unix::process::ExitStatusExt;
    // Whoever is in the pixel says at most one thing, and is gone at the end of file.
    let told = read_answer(&mut from).await;
    let status = child.wait().await.map_err(|e| failed("wait for the command", e))?;
    match told {
        Ok(answer) if answer.kind == Answer::Failed => return Err(said(&answer.payload)),
        Ok(answer) if answer.kind == Answer::Report => {
            let report = Report::decode_payload(&answer.payload)
                .map_err(|e| Error::backend("exec", e.to_string()))?;
            return reported(report, &opts);
        }
        _ => {}
    }
    match (status.code().and_then(|code| u8::try_from(code).ok()), status.signal()) {
        (Some(code), _) => Ok(ExitStatus::Code(code)),
        (None, signal) => Err(Error::backend(
            "exec",
            format!("the helper process died of signal {}", signal.unwrap_or_default()),
        )),
    }
}

/// What the guest said of a command that did not run to its own end.
fn reported(report: Report, opts: &ExecOpts) -> Result<ExitStatus> {
    let shown = |bytes: Option<&Vec<u8>>| text::clean_bytes(bytes.map_or(&[][..], Vec::as_slice));
    match report.kind {
        ReportKind::NotFound | ReportKind::NotExecutable => Ok(ExitStatus::Code(report.exit_code)),
        ReportKind::Timeout => Err(Error::Timeout {
            what: text::clean_short(&shown(opts.cmd.first()), 80),
            after: opts.timeout.unwrap_or_default(),
        }),
        // ENOENT
        ReportKind::Cwd if report.errno == 2 => {
            Err(Error::not_found(What::Path, shown(opts.cwd.as_ref())))
        }
        ReportKind::Cwd => Err(Error::invalid("cwd", &shown(opts.cwd.as_ref()), &report.message)),
        ReportKind::User => Err(Error::not_found(What::User, report.message)),
        ReportKind::TooLong => {
            Err(Error::invalid("command", &shown(opts.cmd.first()), &report.message))
        }
        _ => Err(Error::backend("exec", report.message)),
    }
}

/// The socket to the command's parent: a byte on it is a signal, its end cancels.
struct Channel {
    to: Mutex<Option<OwnedWriteHalf>>,
    terminal: Option<Arc<Terminal>>,
}

impl Channel {
    async fn send(&self, signal: u8) -> Result<()> {
        use tokio::io::AsyncWriteExt;
        if let Some(to) = self.to.lock().await.as_mut() {
            // A command that has ended hears nothing: that is no error.
            let _ = to.write_all(&[signal]).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Control for Channel {
    async fn signal(&self, signal: Signal) -> Result<()> {
        self.send(signal.0).await
    }

    async fn resize(&self, size: TtySize) -> Result<()> {
        match &self.terminal {
            Some(terminal) => terminal.resize(size),
            None => Ok(()),
        }
    }

    async fn kill(&self) -> Result<()> {
        self.send(u8::try_from(SIGNAL_KILL_TREE).unwrap_or_default()).await
    }
}

#[async_trait]
impl Exec for Engine {
    async fn spawn(&self, name: &Name, opts: ExecOpts) -> Result<Process> {
        if opts.cmd.is_empty() {
            return Err(Error::invalid("command", "", "a command has at least one word"));
        }
        self.command(name, opts).await
    }

    async fn console(&self, name: &Name, opts: ConsoleOpts) -> Result<Process> {
        let exec = ExecOpts {
            cmd: opts.remote_cmd.unwrap_or_default(),
            env: opts.env,
            root: opts.root,
            tty: Some(opts.size.unwrap_or(TtySize { cols: 80, rows: 24 })),
            ..ExecOpts::default()
        };
        self.command(name, exec).await
    }

    async fn dial(&self, name: &Name, port: u16) -> Result<(Reader, Writer)> {
        let needs = "and connections need it running";
        let running = self.enter(name, needs, Enter::Dial(port), &[])?;
        let (socket, _child) = running.split();
        let stream = crate::net::dial::receive(socket, name, port).await?;
        let (from, to) = stream.into_split();
        Ok((Box::pin(from), Box::pin(to)))
    }

    async fn ready(&self, name: &Name, _timeout: Duration) -> Result<Instance> {
        // A pixel is up when its start returns: there is nothing to wait for.
        Engine::ready(self)?.running(name, "and has to be started to become ready")?;
        self.get_pixel(name)
    }
}
