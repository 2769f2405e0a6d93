//! The program while it runs, and what it came to. Shared by the tests on real
//! backends.

#![allow(dead_code, reason = "not every binary needs all of it")]

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long anything may take on a busy machine. Nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a run came to.
#[derive(Clone)]
pub struct Done {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// That signal.
    pub signal: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// How long it took.
    pub took: Duration,
}

impl Done {
    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its stdout as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Its stderr as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned();
            if bytes.len() > 2000 { format!("{text}… ({} bytes)", bytes.len()) } else { text }
        };
        f.debug_struct("Done")
            .field("code", &self.code)
            .field("signal", &self.signal)
            .field("stdout", &short(&self.stdout))
            .field("stderr", &short(&self.stderr))
            .field("took", &self.took)
            .finish()
    }
}

/// What a stream has given so far, and whether it has ended.
#[derive(Default)]
struct Captured {
    state: Mutex<(Vec<u8>, bool)>,
    more: Condvar,
}

impl Captured {
    fn reading(mut from: impl Read + Send + 'static) -> (Arc<Self>, JoinHandle<()>) {
        let captured = Arc::new(Self::default());
        let to = Arc::clone(&captured);
        let thread = std::thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            loop {
                let n = from.read(&mut chunk).unwrap_or(0);
                let mut state = to.state.lock().unwrap();
                state.0.extend_from_slice(&chunk[..n]);
                state.1 = n == 0;
                to.more.notify_all();
                if n == 0 {
                    return;
                }
            }
        });
        (captured, thread)
    }

    fn until(&self, timeout: Duration, done: impl Fn(&(Vec<u8>, bool)) -> bool) -> bool {
        let state = self.state.lock().unwrap();
        let (state, _) = self.more.wait_timeout_while(state, timeout, |s| !done(s)).unwrap();
        done(&state)
    }
}

/// The program while it runs. Dropping it kills it.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Arc<Captured>,
    err: Arc<Captured>,
    started: Instant,
}

impl Running {
    /// Starts `command` with its output captured. A piped stdin can be written to.
    pub fn start(mut command: Command) -> Self {
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, _) = Captured::reading(child.stdout.take().unwrap());
        let (err, _) = Captured::reading(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        Self { child, stdin, out, err, started }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its stdin, where that was piped. Taking and dropping it is end of file.
    pub fn stdin(&mut self) -> &mut Option<ChildStdin> {
        &mut self.stdin
    }

    /// Writes `input` to its stdin on a thread, then closes that.
    pub fn feed(&mut self, input: Vec<u8>) {
        let mut stdin = self.stdin.take().expect("a piped stdin");
        std::thread::spawn(move || {
            // The program may end first.
            let _ = stdin.write_all(&input);
        });
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let fd = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).unwrap();
        pidfd_send_signal(fd, signal).unwrap();
    }

    /// Waits until its stdout holds `bytes`.
    pub fn until_out(&self, bytes: &[u8]) {
        let found = self.out.until(PATIENCE, |(got, ended)| has(got, bytes) || *ended);
        let got = &self.out.state.lock().unwrap().0;
        let err = String::from_utf8_lossy(&self.err.state.lock().unwrap().0).into_owned();
        assert!(
            found && has(got, bytes),
            "no {:?} in {:?}; stderr {err:?}",
            String::from_utf8_lossy(bytes),
            String::from_utf8_lossy(got),
        );
    }

    /// Waits for its first line.
    pub fn line(&self) -> String {
        self.until_out(b"\n");
        let got = String::from_utf8_lossy(&self.out.state.lock().unwrap().0).into_owned();
        got.lines().next().unwrap_or_default().to_owned()
    }

    /// Waits until its stderr holds `text`.
    pub fn until_err(&self, text: &str) {
        let found = self.err.until(PATIENCE, |(got, ended)| has(got, text.as_bytes()) || *ended);
        let got = &self.err.state.lock().unwrap().0;
        let shown = String::from_utf8_lossy(got);
        assert!(found && has(got, text.as_bytes()), "no {text:?} in {shown:?}");
    }

    /// Waits for its end and that of its output.
    pub fn wait(mut self, timeout: Duration) -> Done {
        let until = Instant::now() + timeout;
        let ended = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).unwrap();
        let in_time = wait_readable(&ended, until)
            && self.out.until(until.saturating_duration_since(Instant::now()), |s| s.1)
            && self.err.until(until.saturating_duration_since(Instant::now()), |s| s.1);
        let took = self.started.elapsed();
        if !in_time {
            let _ = self.child.kill();
        }
        let status = self.child.wait().unwrap();
        let done = Done {
            code: status.code(),
            signal: status.signal(),
            stdout: std::mem::take(&mut self.out.state.lock().unwrap().0),
            stderr: std::mem::take(&mut self.err.state.lock().unwrap().0),
            took,
        };
        assert!(in_time, "not ended after {timeout:?}: {done:?}");
        done
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended and been waited for: then both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|w| w == part)
}

/// Waits until `fd` is readable; whether it is before `until`.
fn wait_readable(fd: &impl std::os::fd::AsFd, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&left)) {
            Ok(n) => return n > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }
}
