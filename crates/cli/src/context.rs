//! What a command works with: the options, the configuration and, once it needs
//! one, a runtime with a backend and the signals.

use std::pin::pin;
use std::sync::Arc;

use pixels_core::{Error, Progress, Result};
use pixels_sandbox::Pixels;
use pixels_sandbox::config::{Config, Loader};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::app;
use crate::args::Globals;
use crate::exit::{self, Failure, Outcome};
use crate::signals::Signals;
use crate::ui::Ui;
use crate::ui::progress::{Meter, PATIENCE, TICK};

/// How a backend is opened. It must not open a connection: the first call does.
pub type Opener = fn(Config) -> Result<Pixels>;

/// The options, before anything is done.
pub struct Context {
    globals: Globals,
    open: Opener,
    /// How to speak.
    pub ui: Ui,
}

impl Context {
    /// A context that has touched nothing yet.
    pub fn new(globals: Globals, open: Opener) -> Self {
        let ui = globals.ui();
        Self { globals, open, ui }
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// What is wrong with it, and where. A wrong flag is a usage error.
    pub fn config(&self) -> Result<Config, Failure> {
        let mut loader = Loader::of_process();
        if let Some(file) = &self.globals.config {
            loader = loader.file(file);
        }
        if let Some(backend) = &self.globals.backend {
            loader = loader.flag("backend", "--backend", backend);
        }
        Config::load(loader).map_err(Failure::Config)
    }

    /// Runs `work` with a backend, then closes that, whatever came of it.
    pub fn run(&self, work: impl AsyncFnOnce(&mut Job) -> Outcome) -> Outcome {
        let config = self.config()?;
        let runtime = runtime()?;
        let outcome = runtime.block_on(async {
            let signals = Signals::new().map_err(system)?;
            let pixels = Arc::new((self.open)(config)?);
            let mut job = Job { pixels, signals, ui: self.ui };
            let outcome = work(&mut job).await;
            job.close(outcome).await
        });
        // A read or a name lookup may still be blocked on a thread of its own.
        runtime.shutdown_background();
        outcome
    }

    /// Does one operation that needs no backend, with progress, until it is
    /// done or a signal wants us to end.
    ///
    /// # Errors
    /// The operation's, or [`Failure::Interrupted`].
    pub fn alone<T>(
        &self,
        what: &str,
        work: impl AsyncFnOnce() -> Result<T>,
    ) -> Result<T, Failure> {
        let runtime = runtime()?;
        let done = runtime.block_on(async {
            let mut signals = Signals::new().map_err(system)?;
            supervised(self.ui, &mut signals, what, async |_| work().await).await
        });
        runtime.shutdown_background();
        done
    }
}

fn system(e: std::io::Error) -> Error {
    Error::backend("starting the runtime", e.to_string())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)
}

/// See [`Job::supervise`].
async fn supervised<T>(
    ui: Ui,
    signals: &mut Signals,
    what: &str,
    work: impl AsyncFnOnce(&Meter) -> Result<T>,
) -> Result<T, Failure> {
    let meter = Meter::new(ui, what);
    let mut work = pin!(work(&meter));
    let mut ticks = interval_at(Instant::now() + PATIENCE, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done?),
            signal = signals.end() => if !meter.held() {
                return Err(Failure::Interrupted(signal.0));
            },
            _ = ticks.tick(), if ui.draws() => meter.tick(),
        }
    }
}

/// A command at work.
pub struct Job {
    /// The backend.
    pub pixels: Arc<Pixels>,
    /// The signals that reach us.
    pub signals: Signals,
    /// How to speak.
    pub ui: Ui,
}

impl Job {
    /// Does one operation, with progress, until it is done or a signal wants us
    /// to end. The operation is then dropped, which makes the backend take back
    /// what was half-made; closing it waits for that.
    ///
    /// # Errors
    /// The operation's, or [`Failure::Interrupted`].
    pub async fn operate<T>(
        &mut self,
        what: &str,
        work: impl AsyncFnOnce(Progress) -> Result<T>,
    ) -> Result<T, Failure> {
        self.supervise(what, async |meter| work(meter.sink()).await).await
    }

    /// As [`Job::operate`]; while `work` holds the meter, it sees to signals and
    /// to the terminal itself.
    ///
    /// # Errors
    /// As [`Job::operate`].
    pub async fn supervise<T>(
        &mut self,
        what: &str,
        work: impl AsyncFnOnce(&Meter) -> Result<T>,
    ) -> Result<T, Failure> {
        supervised(self.ui, &mut self.signals, what, work).await
    }

    /// Waits for what goes on in the background. Whoever interrupts that leaves at once.
    async fn close(mut self, outcome: Outcome) -> Outcome {
        let meter = Meter::new(self.ui, "cleaning up");
        let mut closing = pin!(self.pixels.close());
        let mut ticks = interval_at(Instant::now() + PATIENCE, TICK);
        let closed = loop {
            tokio::select! {
                biased;
                closed = &mut closing => break closed,
                signal = self.signals.end() => app::leave(exit::signalled(signal.0)),
                _ = ticks.tick(), if self.ui.draws() => meter.tick(),
            }
        };
        drop(meter);
        match (&outcome, closed) {
            // It did not finish: what was asked for has not all been done.
            (Ok(_), Err(error)) => {
                self.ui.warn(&error.to_string());
                outcome
            }
            _ => outcome,
        }
    }
}
