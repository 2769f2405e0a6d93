use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pixels_core::TtySize;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::exit::Manner;

/// A command that ends when it is told to, and remembers what reached it.
struct Fake {
    ends_by: Option<u8>,
    dies: bool,
    seen: Mutex<Vec<u8>>,
    end: watch::Sender<Option<ExitStatus>>,
}

#[async_trait]
impl Control for Fake {
    async fn signal(&self, signal: Signal) -> Result<()> {
        self.seen.lock().unwrap().push(signal.0);
        if self.ends_by == Some(signal.0) {
            self.end.send_replace(Some(ExitStatus::Code(3)));
        }
        Ok(())
    }
    async fn resize(&self, _: TtySize) -> Result<()> {
        Ok(())
    }
    async fn kill(&self) -> Result<()> {
        self.seen.lock().unwrap().push(9);
        if self.dies {
            self.end.send_if_modified(|end| end.replace(ExitStatus::Signal(9)).is_none());
        }
        Ok(())
    }
}

struct Signals(mpsc::UnboundedReceiver<Caught>);

impl Catch for Signals {
    async fn next(&mut self) -> Caught {
        match self.0.recv().await {
            Some(caught) => caught,
            None => std::future::pending().await,
        }
    }
}

/// Runs a command that ends by `ends_by`, sends it `signals`, and gives the
/// outcome with what reached the command.
fn run(ends_by: Option<u8>, dies: bool, grace: u64, signals: &[Caught]) -> (Outcome, Vec<u8>) {
    let fake =
        Arc::new(Fake { ends_by, dies, seen: Mutex::default(), end: watch::channel(None).0 });
    let mut end = fake.end.subscribe();
    let exit = async move { Ok(end.wait_for(Option::is_some).await.unwrap().unwrap()) };
    let process = Process::new(None, None, None, fake.clone(), exit);
    let (tx, rx) = mpsc::unbounded_channel();
    signals.iter().for_each(|s| tx.send(*s).unwrap());
    let outcome = block_on(pump(process, &mut Signals(rx), Duration::from_millis(grace)));
    let seen = fake.seen.lock().unwrap().clone();
    (outcome, seen)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

const LONG: u64 = 60_000;

#[test]
fn a_signal_is_passed_on_and_what_is_left_is_killed() {
    let (outcome, seen) = run(Some(15), true, LONG, &[Caught::End(Signal::TERM)]);
    assert_eq!(outcome.unwrap(), 3, "the command's own code");
    assert_eq!(seen, [15, 9]);
}

#[test]
fn a_second_signal_kills() {
    let twice = [Caught::End(Signal::INT), Caught::End(Signal::INT)];
    let (outcome, seen) = run(None, true, LONG, &twice);
    assert_eq!(outcome.unwrap(), 137);
    assert_eq!(seen, [2, 9]);
}

#[test]
fn patience_ends() {
    let (outcome, seen) = run(None, true, 20, &[Caught::End(Signal::HUP)]);
    assert_eq!(outcome.unwrap(), 137);
    assert_eq!(seen, [1, 9]);
}

#[test]
fn a_console_is_killed_at_once_and_even_if_nobody_says_so() {
    let (outcome, seen) = run(None, false, 0, &[Caught::End(Signal::TERM)]);
    assert_eq!(outcome.unwrap(), 137);
    assert_eq!(seen, [15, 9]);
}

#[test]
fn other_signals_are_passed_on_alone() {
    let signals = [Caught::User(Signal::USR1), Caught::Resize, Caught::User(Signal::USR2)];
    let (outcome, seen) = run(Some(12), true, LONG, &signals);
    assert_eq!(outcome.unwrap(), 3);
    assert_eq!(seen, [10, 12]);
}

#[test]
fn a_lost_connection_is_our_failure() {
    let fake = Arc::new(Fake {
        ends_by: None,
        dies: true,
        seen: Mutex::default(),
        end: watch::channel(None).0,
    });
    let lost = Error::Unreachable { target: "x".into(), reason: "gone".into() };
    // Its output never ends: nothing but patience does.
    let (stuck, _held) = tokio::io::duplex(64);
    let process = Process::new(None, Some(Box::pin(stuck)), None, fake, async { Err(lost) });
    let (_tx, rx) = mpsc::unbounded_channel();
    let outcome = block_on(pump(process, &mut Signals(rx), GRACE));
    assert_eq!(outcome.unwrap_err().code(Manner::Proxy), 125);
}
