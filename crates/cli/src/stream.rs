//! A command in a pixel, connected to our own streams and signals until it ends.

use std::io;
use std::pin::pin;
use std::time::Duration;

use pixels_core::{Control, Error, ExitStatus, Process, Reader, Result, Signal};
use tokio::io::AsyncReadExt;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep_until, timeout};

use crate::exit::{self, Failure, Outcome, SIGPIPE};
use crate::input::{self, CHUNK, Output, Stream};
use crate::signals::{Catch, Caught};
use crate::tty;

/// How long a command may take to end after a signal that we passed on.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long its end may take to reach us after it was killed.
const KILL_WAIT: Duration =
    if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(5) };
/// How long its last output may take to reach us once it was made to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a command may be silent when nobody reads what it writes: it may be
/// about to end by itself.
const UNREAD: Duration = Duration::from_secs(1);

/// Why a stream of the command's came to an end that is not its own.
#[derive(Debug)]
enum Cut {
    /// Whoever read ours is gone.
    Pipe,
    /// Something failed.
    Error(Error),
}

/// Where the command is in its life, and why.
struct Run {
    ended: Option<Result<ExitStatus>>,
    /// A signal that wants us to end was passed on.
    asked: bool,
    killed: bool,
    /// Nobody reads what it writes.
    pipe: bool,
    /// Reading or writing failed.
    failed: Option<Error>,
    /// The next moment at which patience ends.
    limit: Option<Instant>,
}

/// Runs `process` to its end, and returns the code to leave with.
///
/// Signals are passed on to it. One that wants us to end has `grace` to work;
/// then, or at a second one, the command's whole tree is killed. Whatever is
/// left of the tree when the command itself has ended after such a signal is
/// killed too.
pub async fn pump(mut process: Process, signals: &mut impl Catch, grace: Duration) -> Outcome {
    let control = process.control();
    let feed = process.stdin.take().map(|to| tokio::spawn(input::feed(to)));
    let mut out = tokio::spawn(drain(process.stdout.take(), Stream::Out));
    let mut err = tokio::spawn(drain(process.stderr.take(), Stream::Err));
    let (mut out_open, mut err_open) = (true, true);
    let mut run =
        Run { ended: None, asked: false, killed: false, pipe: false, failed: None, limit: None };

    while run.ended.is_none() || out_open || err_open {
        tokio::select! {
            status = process.exit(), if run.ended.is_none() => {
                if status.is_err() || run.asked || run.killed {
                    run.limit = Some(Instant::now() + LAST_WORDS);
                }
                run.ended = Some(status);
            }
            cut = &mut out, if out_open => {
                out_open = false;
                run.cut(cut, &*control).await;
            }
            cut = &mut err, if err_open => {
                err_open = false;
                run.cut(cut, &*control).await;
            }
            caught = signals.next() => match caught {
                Caught::Resize => {
                    if let Some(size) = tty::size() {
                        let _ = timeout(KILL_WAIT, control.resize(size)).await;
                    }
                }
                Caught::User(signal) => pass_on(&*control, signal).await,
                Caught::End(_) if run.ended.is_some() => break,
                Caught::End(_) if run.asked => run.kill(&*control).await,
                Caught::End(signal) => {
                    run.asked = true;
                    run.limit = Some(Instant::now() + grace);
                    pass_on(&*control, signal).await;
                }
            },
            () = at(run.limit) => {
                if run.ended.is_some() || run.killed {
                    break;
                }
                run.kill(&*control).await;
            }
        }
    }

    if run.asked && !run.killed {
        // The command is gone; what it started may not be.
        run.kill(&*control).await;
    }
    if let Some(feed) = feed {
        feed.abort();
    }
    out.abort();
    err.abort();
    run.outcome()
}

impl Run {
    /// One of the command's streams ended.
    async fn cut(&mut self, cut: Result<Result<(), Cut>, JoinError>, control: &dyn Control) {
        match cut {
            Ok(Ok(())) => return,
            Ok(Err(Cut::Pipe)) => self.pipe = self.ended.is_none(),
            Ok(Err(Cut::Error(e))) => {
                self.failed.get_or_insert(e);
            }
            Err(e) => {
                self.failed.get_or_insert(Error::backend("command output", e.to_string()));
            }
        }
        // A command on this machine would be ended by the closed pipe.
        if self.ended.is_none() && !self.killed {
            self.kill(control).await;
        }
    }

    async fn kill(&mut self, control: &dyn Control) {
        self.killed = true;
        // It may fail because nothing is left to kill or to talk to; the
        // process's own end says which.
        let _ = timeout(KILL_WAIT, control.kill()).await;
        self.limit = Some(Instant::now() + KILL_WAIT);
    }

    fn outcome(self) -> Outcome {
        if self.pipe {
            return Ok(exit::signalled(SIGPIPE));
        }
        match (self.ended, self.failed) {
            // The connection's failure says more than that of a stream of it.
            (Some(Err(error)), _) => exit::of_command(Err(error)),
            (_, Some(error)) => Err(Failure::Error(error)),
            (Some(status), None) => exit::of_command(status),
            (None, None) => Ok(exit::signalled(Signal::KILL.0)),
        }
    }
}

/// Passes a signal on. It may come too late, which is no failure.
async fn pass_on(control: &dyn Control, signal: Signal) {
    let _ = timeout(KILL_WAIT, control.signal(signal)).await;
}

/// Sleeps until then; for ever where there is no then.
async fn at(limit: Option<Instant>) {
    match limit {
        Some(limit) => sleep_until(limit).await,
        None => std::future::pending().await,
    }
}

/// Copies one of the command's streams to one of ours, to the end of either.
async fn drain(from: Option<Reader>, stream: Stream) -> Result<(), Cut> {
    let Some(mut from) = from else { return Ok(()) };
    let mut out = Output::start(stream)
        .map_err(|e| Cut::Error(Error::backend("starting a thread", e.to_string())))?;
    let mut left = pin!(input::left(stream));
    let mut unread = None;
    let read = loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        tokio::select! {
            biased;
            error = out.refused() => return Err(refused(error)),
            // Whoever reads ours may leave while the command is silent.
            () = &mut left, if unread.is_none() => unread = Some(Instant::now() + UNREAD),
            () = at(unread) => return Err(Cut::Pipe),
            n = from.read_buf(&mut chunk) => match n {
                Ok(0) => break Ok(()),
                Ok(_) => out.send(chunk).await,
                Err(e) => {
                    break Err(Cut::Error(Error::backend("command output", e.to_string())));
                }
            },
        }
    };
    out.finish().await.map_err(refused)?;
    read
}

fn refused(error: io::Error) -> Cut {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Cut::Pipe
    } else {
        Cut::Error(Error::backend("writing the command's output", error.to_string()))
    }
}

#[cfg(test)]
mod tests;
