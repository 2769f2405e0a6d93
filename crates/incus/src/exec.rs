//! Running commands through the guest binary.
//!
//! A command is one operation of the daemon with three sockets for its streams
//! and one for control. What is run is always `guest exec`, as root; the
//! request with argv, environment and cwd as bytes goes ahead of the command's
//! own input, because the API's JSON holds only UTF-8. The control socket is
//! the lifeline: the daemon kills the guest binary when it closes, and that
//! takes the command's whole tree along.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pixels_core::{
    ConsoleOpts, Control, Error, Exec, ExecOpts, ExitStatus, Instance, Name, Process, Result,
    Signal, TtySize, What, text,
};
use pixels_guest_api as api;
use pixels_guest_api::{
    ExecRequest, Nonce, ReadyScanner, Report, ReportFilter, ReportKind, UserSpec,
};
use pixels_wire::{Message, WebSocket, WebSocketReceiver, WebSocketSender};
use serde_json::{Value, json};
use tokio::sync::{Mutex, oneshot};

use crate::api::{Api, Fault, wire_error};
use crate::lifecycle::random;
use crate::streams::{self, ReportSlot};
use crate::{Incus, plain};

/// How often a command is asked for whose sockets came too late.
const LAUNCHES: usize = 4;
/// How many commands are being started at once: each needs four connections
/// in time, over HTTPS with a handshake each. More at once is no faster.
pub(crate) const STARTING: usize = 8;

/// A command that the daemon has started.
pub(crate) struct Launched {
    pub operation: String,
    /// Standard input, or all of a terminal.
    pub main: WebSocket,
    /// Standard output and error; none with a terminal.
    pub outputs: Option<(WebSocket, WebSocket)>,
    pub control: WebSocket,
}

/// Why the guest binary did not come up.
pub(crate) enum NotUp {
    /// It is not there yet.
    Missing,
    /// It is there and cannot be executed.
    CannotRun(String),
    /// Something else.
    Other(Error),
}

impl Incus {
    /// Starts `command` in a pixel with sockets for its streams.
    ///
    /// The daemon gives up on a command whose sockets are not all there within
    /// a few seconds (five in Incus 6.0), which a busy machine can need for
    /// them. It has not begun then, so it is simply asked for again.
    ///
    /// # Errors
    /// `WrongState` for a pixel that does not run.
    pub(crate) async fn launch(
        &self,
        name: &Name,
        body: Value,
        tty: Option<TtySize>,
    ) -> Result<Launched> {
        let mut tries = 1;
        loop {
            match self.try_launch(name, body.clone(), tty).await? {
                Ok(launched) => return Ok(launched),
                Err(fault) if tries < LAUNCHES => {
                    tracing::debug!(?fault, "the command's sockets came too late");
                    tries += 1;
                }
                Err(fault) => return Err(fault.during(&format!("exec in {name}"))),
            }
        }
    }

    /// One try; the inner failure is that of a socket which the daemon refused.
    async fn try_launch(
        &self,
        name: &Name,
        mut body: Value,
        tty: Option<TtySize>,
    ) -> Result<std::result::Result<Launched, Fault>> {
        // Never closed.
        let _turn = self.launching.acquire().await;
        body["wait-for-websocket"] = json!(true);
        body["interactive"] = json!(tty.is_some());
        if let Some(size) = tty {
            body["width"] = json!(size.cols);
            body["height"] = json!(size.rows);
        }
        let reply = match self.api.post(Self::at(name).seg("exec"), &body).await {
            Ok(reply) => reply,
            Err(fault @ Fault::Wire(_)) => return Err(fault.during("exec")),
            Err(fault) => {
                let status = self.raw(name, false).await?.status();
                if status.is_running() {
                    return Err(fault.about(
                        What::Pixel,
                        name.as_str(),
                        &format!("exec in {name}"),
                    ));
                }
                return Err(Error::WrongState {
                    name: name.to_string(),
                    state: status,
                    needs: "and commands need it running".into(),
                });
            }
        };
        let operation = reply
            .operation
            .clone()
            .ok_or_else(|| Fault::Answer("no operation".into()).during("exec"))?;
        let fds = &reply.metadata["metadata"]["fds"];
        let open = async |fd: &str| {
            let secret = fds[fd].as_str().unwrap_or_default();
            // The secret is hexadecimal of the daemon's making.
            let path = format!("{operation}/websocket?secret={secret}");
            self.api.http.websocket(&path).await.map_err(Fault::from)
        };
        let opened = async {
            if tty.is_some() {
                let (main, control) = tokio::try_join!(open("0"), open("control"))?;
                return Ok((main, None, control));
            }
            let (control, main, out, err) =
                tokio::try_join!(open("control"), open("0"), open("1"), open("2"))?;
            Ok((main, Some((out, err)), control))
        };
        match opened.await {
            Ok((main, outputs, control)) => Ok(Ok(Launched { operation, main, outputs, control })),
            Err(fault @ Fault::Api { .. }) => Ok(Err(fault)),
            Err(fault) => Err(fault.during("exec")),
        }
    }

    /// Starts the guest binary and waits until it has said that it is there:
    /// only then does the command's input go anywhere.
    async fn launch_guest(
        &self,
        name: &Name,
        args: &[&str],
        tty: Option<TtySize>,
    ) -> Result<Up, NotUp> {
        let path = self.guest.path().map_err(NotUp::Other)?;
        let command: Vec<&str> = std::iter::once(path).chain(args.iter().copied()).collect();
        let body = json!({"command": command, "user": 0, "group": 0, "cwd": "/"});
        let launched = self.launch(name, body, tty).await.map_err(NotUp::Other)?;
        let (sender, receiver) = launched.main.split();
        let (control, control_events) = launched.control.split();
        let (out, mut marked) = match launched.outputs {
            Some((out, err)) => (Some((receiver, out.receive_only())), err.receive_only()),
            None => (None, receiver),
        };
        let mut scanner = ReadyScanner::default();
        let mut early = Vec::new();
        while let streams::Piece::Bytes(chunk) = streams::next(&mut marked).await {
            if scanner.push(&chunk, &mut early) {
                return Ok(Up {
                    operation: launched.operation,
                    sender,
                    out: out.map(|(_, out)| out),
                    marked,
                    early,
                    control,
                    control_events,
                });
            }
        }
        // It ended before it spoke. A terminal's operation ends only once its socket is closed.
        drop((sender, marked, out));
        Err(match self.api.wait_operation(&launched.operation, None).await {
            Ok(op) => by_code(op.metadata["return"].as_i64(), ""),
            Err(Fault::Api { message, .. }) => by_code(by_text(&message), &message),
            Err(fault) => NotUp::Other(fault.during(&format!("exec in {name}"))),
        })
    }

    /// As [`Incus::launch_guest`], putting the binary there if it is missing.
    async fn guest_up(
        &self,
        name: &Name,
        args: &[&str],
        tty: Option<TtySize>,
    ) -> Result<Up, NotUp> {
        match self.launch_guest(name, args, tty).await {
            Err(NotUp::Missing) => {}
            other => return other,
        }
        self.push_guest(name).await.map_err(NotUp::Other)?;
        match self.launch_guest(name, args, tty).await {
            // It is there now, and still the kernel finds "no such file": not an
            // executable of this architecture's.
            Err(NotUp::Missing) => Err(NotUp::CannotRun("it does not start".into())),
            other => other,
        }
    }

    /// Runs another face of the guest binary as root, with these arguments byte
    /// for byte: exit code, stdout, stderr (both bounded, stderr stripped).
    pub(crate) async fn guest_call(
        &self,
        name: &Name,
        args: &[&[u8]],
    ) -> Result<(u8, Vec<u8>, String)> {
        let path = self.guest.path()?.as_bytes();
        let argv = std::iter::once(path).chain(args.iter().copied());
        let opts = ExecOpts { root: true, no_stdin: true, ..ExecOpts::new(argv) };
        let mut process = self.start(name, opts, false).await?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let (_, _, status) =
            tokio::join!(read_some(stdout, &mut out), read_some(stderr, &mut err), process.exit());
        Ok((status?.code(), out, text::clean_bytes(&err)))
    }

    /// Starts a command; through the user's login shell if `login`.
    async fn start(&self, name: &Name, opts: ExecOpts, login: bool) -> Result<Process> {
        let nonce = Nonce(random());
        let mut request = ExecRequest::new(nonce, opts.cmd.clone());
        request.env = opts.env.clone();
        request.cwd = opts.cwd.clone();
        request.user = if opts.root {
            UserSpec::Root
        } else {
            UserSpec::NameOrRoot(self.config.user.clone().into_bytes())
        };
        request.login = login;
        request.drain_output = true;
        request.timeout_ms =
            opts.timeout.map_or(0, |t| t.as_millis().clamp(1, u64::MAX.into()) as u64);
        if opts.tty.is_some() {
            request.term =
                opts.env.iter().rev().find(|(k, _)| k == b"TERM").map(|(_, v)| v.clone());
        }
        let frame = request.encode().map_err(|e| {
            Error::invalid(
                "command",
                &pixels_core::text::clean_bytes(&first(&opts.cmd)),
                &e.to_string(),
            )
        })?;
        let mut up = match self.guest_up(name, &[api::face::EXEC], opts.tty).await {
            Ok(up) => up,
            Err(NotUp::Missing) => return Err(Error::not_found(What::Path, api::GUEST_DIR)),
            Err(NotUp::CannotRun(why)) => return plain::start(self, name, opts, &why).await,
            Err(NotUp::Other(e)) => return Err(e),
        };
        let sent = up.sender.send(Message::Binary(Bytes::from(frame))).await;
        sent.map_err(wire_error)?;
        Ok(up.process(self.api.clone(), nonce, opts))
    }
}

/// A guest binary that waits for its request.
struct Up {
    operation: String,
    sender: WebSocketSender,
    out: Option<WebSocketReceiver>,
    /// The stream that carried the marker and may carry a report.
    marked: WebSocketReceiver,
    early: Vec<u8>,
    control: WebSocketSender,
    control_events: WebSocketReceiver,
}

impl Up {
    fn process(self, api: Api, nonce: Nonce, opts: ExecOpts) -> Process {
        let tty = self.out.is_none();
        let (ended, until) = oneshot::channel();
        let (ended, keep) = if tty { (Some(ended), None) } else { (None, Some(ended)) };
        let filtered =
            streams::filtered(self.marked, ReportFilter::new(nonce), self.early, tty, ended);
        let stdin = streams::input(self.sender, until);
        let stdin = if opts.no_stdin && !tty { None } else { Some(stdin) };
        let (stdout, stderr) = match self.out {
            Some(out) => (streams::output(out), Some(filtered.reader)),
            None => (filtered.reader, None),
        };
        let control = Arc::new(Channel(Mutex::new(self.control)));
        let (report, task) = (filtered.report, filtered.task);
        let exit = exit(api, self.operation, self.control_events, report, task, opts, keep);
        Process::new(stdin, Some(stdout), stderr, control, exit)
    }
}

/// Waits for the end and says what it was.
async fn exit(
    api: Api,
    operation: String,
    mut events: WebSocketReceiver,
    report: ReportSlot,
    reporter: tokio::task::JoinHandle<()>,
    opts: ExecOpts,
    _input_open: Option<oneshot::Sender<()>>,
) -> Result<ExitStatus> {
    let code = ended(&api, &operation, &mut events).await?;
    // The report is the last thing on its stream, and the daemon has sent all of it.
    let _ = reporter.await;
    let report = report.lock().ok().and_then(|mut slot| slot.take());
    match report {
        Some(report) => reported(report, &opts),
        None => status(code),
    }
}

/// Waits for a command's operation: the exit code it ended with, if it says one.
pub(crate) async fn ended(
    api: &Api,
    operation: &str,
    events: &mut WebSocketReceiver,
) -> Result<Option<i64>> {
    // Nothing comes on the control socket but pings, which want an answer.
    let listen = async {
        while let Ok(Some(_)) = events.recv().await {}
        std::future::pending::<()>().await
    };
    let ended = tokio::select! {
        ended = api.wait_operation(operation, None) => ended,
        () = listen => unreachable!("listening never completes"),
    };
    match ended {
        Ok(op) => Ok(op.metadata["return"].as_i64()),
        Err(Fault::Api { message, .. }) if by_text(&message).is_some() => Ok(by_text(&message)),
        Err(fault) => Err(fault.during("exec")),
    }
}

/// An operation's exit code as a command's end.
pub(crate) fn status(code: Option<i64>) -> Result<ExitStatus> {
    code.and_then(|c| u8::try_from(c).ok())
        .map(ExitStatus::Code)
        .ok_or_else(|| Error::backend("exec", "the command ended without an exit code"))
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

/// The exit code that a failed operation stands for. Incus gives both cases
/// status 400 and tells them apart by text alone (its exec driver's
/// ErrExecCommandNotFound and ErrExecCommandNotExecutable).
fn by_text(message: &str) -> Option<i64> {
    match message {
        "Command not found" => Some(127),
        "Command not executable" => Some(126),
        _ => None,
    }
}

fn by_code(code: Option<i64>, message: &str) -> NotUp {
    match code {
        Some(127) => NotUp::Missing,
        Some(code) => NotUp::CannotRun(format!("it exits with {code} {message}").trim_end().into()),
        None if message.is_empty() => NotUp::CannotRun("it does not start".into()),
        None => NotUp::CannotRun(message.to_owned()),
    }
}

fn first(cmd: &[Vec<u8>]) -> Vec<u8> {
    cmd.first().cloned().unwrap_or_default()
}

/// At most 64 KiB; what is beyond is read and dropped.
async fn read_some(from: Option<pixels_core::Reader>, to: &mut Vec<u8>) {
    use tokio::io::AsyncReadExt;
    let Some(mut from) = from else { return };
    let _ = (&mut from).take(64 * 1024).read_to_end(to).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
}

/// The control socket.
pub(crate) struct Channel(pub Mutex<WebSocketSender>);

impl Channel {
    async fn send(&self, message: Value) -> Result<()> {
        // A command that has ended has closed it: nothing is left to control.
        let _ = self.0.lock().await.send(Message::Text(message.to_string())).await;
        Ok(())
    }
}

#[async_trait]
impl Control for Channel {
    async fn signal(&self, signal: Signal) -> Result<()> {
        self.send(json!({"command": "signal", "signal": signal.0})).await
    }

    async fn resize(&self, size: TtySize) -> Result<()> {
        let args = json!({"width": size.cols.to_string(), "height": size.rows.to_string()});
        self.send(json!({"command": "window-resize", "args": args})).await
    }

    async fn kill(&self) -> Result<()> {
        self.send(json!({"command": "signal", "signal": api::SIGNAL_KILL_TREE})).await
    }
}

#[async_trait]
impl Exec for Incus {
    async fn spawn(&self, name: &Name, opts: ExecOpts) -> Result<Process> {
        if opts.cmd.is_empty() {
            return Err(Error::invalid("command", "", "a command has at least one word"));
        }
        self.start(name, opts, true).await
    }

    async fn console(&self, name: &Name, opts: ConsoleOpts) -> Result<Process> {
        let exec = ExecOpts {
            cmd: opts.remote_cmd.unwrap_or_default(),
            env: opts.env,
            root: opts.root,
            tty: Some(opts.size.unwrap_or(TtySize { cols: 80, rows: 24 })),
            ..ExecOpts::default()
        };
        self.start(name, exec, true).await
    }

    async fn ready(&self, name: &Name, timeout: Duration) -> Result<Instance> {
        let raw = self.raw(name, true).await?;
        if !raw.status().is_running() {
            return Err(Error::WrongState {
                name: name.to_string(),
                state: raw.status(),
                needs: "and has to be started to become ready".into(),
            });
        }
        if !raw.addresses().is_empty() || !raw.has_nic() {
            return raw.instance().ok_or_else(|| Error::not_found(What::Pixel, name.as_str()));
        }
        let limit = timeout.as_millis().to_string();
        let args = [api::face::READY.as_bytes(), limit.as_bytes()];
        let called = self.guest_call(name, &args);
        let (code, ..) = tokio::time::timeout(timeout, called).await.map_err(|_| {
            Error::Timeout { what: format!("waiting for {name} to run commands"), after: timeout }
        })??;
        if code != 0 {
            return Err(Error::Timeout {
                what: format!("waiting for an address of {name} (commands run in it)"),
                after: timeout,
            }
            .with_hint("look at its network: pixels exec --root <name> -- ip address"));
        }
        pixels_core::Backend::get(self, name).await
    }
}
