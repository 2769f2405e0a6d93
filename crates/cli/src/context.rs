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

/// A key of the configuration, the option that sets it, and its value.
pub type Key = (&'static str, &'static str, String);

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
        self.config_with(&[])
    }

    /// As [`Context::config`], with the keys that a command's own options set.
    fn config_with(&self, keys: &[Key]) -> Result<Config, Failure> {
        let mut loader = Loader::of_process();
        if let Some(file) = &self.globals.config {
            loader = loader.file(file);
        }
        if let Some(backend) = &self.globals.backend {
            loader = loader.flag("backend", "--backend", backend);
        }
        for (key, option, value) in keys {
            loader = loader.flag(key, option, value);
        }
        Config::load(loader).map_err(Failure::Config)
    }

    /// Runs `work` with a backend, then closes that, whatever came of it.
    pub fn run(&self, work: impl AsyncFnOnce(&mut Job<'_>) -> Outcome) -> Outcome {
        self.run_with(&[], work)
    }

    /// As [`Context::run`], with the keys that a command's own options set.
    pub fn run_with(
        &self,
        keys: &[Key],
        work: impl AsyncFnOnce(&mut Job<'_>) -> Outcome,
    ) -> Outcome {
        let open = self.open;
        self.run_configured(self.config_with(keys)?, async |config, watch| {
            let mut job = Job { pixels: Arc::new(open(config)?), ui: watch.ui, watch };
            let outcome = work(&mut job).await;
            job.close(outcome).await
        })
    }

    /// Runs `work` with a runtime and the signals, but without a backend.
    pub fn run_unopened(&self, work: impl AsyncFnOnce(Config, &mut Watch) -> Outcome) -> Outcome {
        self.run_configured(self.config()?, work)
    }

    fn run_configured(
        &self,
        config: Config,
        work: impl AsyncFnOnce(Config, &mut Watch) -> Outcome,
    ) -> Outcome {
        let runtime = runtime()?;
        let outcome = runtime.block_on(async {
            let mut watch = Watch { signals: Signals::new().map_err(system)?, ui: self.ui };
            work(config, &mut watch).await
        });
        // A read or a name lookup may still be blocked on a thread of its own.
        runtime.shutdown_background();
        outcome
    }
}

fn system(e: std::io::Error) -> Error {
    Error::backend("starting the runtime", e.to_string())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)
}

/// See [`Watch::supervise`].
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

/// A command at work on a backend.
pub struct Job<'a> {
    /// The backend.
    pub pixels: Arc<Pixels>,
    /// What operations are done under.
    pub watch: &'a mut Watch,
    /// How to speak.
    pub ui: Ui,
}

impl Job<'_> {
    /// See [`Watch::operate`].
    ///
    /// # Errors
    /// The operation's, or [`Failure::Interrupted`].
    pub async fn operate<T>(
        &mut self,
        what: &str,
        work: impl AsyncFnOnce(Progress) -> Result<T>,
    ) -> Result<T, Failure> {
        self.watch.operate(what, work).await
    }

    /// Waits for what goes on in the background. Whoever interrupts that leaves at once.
    async fn close(self, outcome: Outcome) -> Outcome {
        let closed = self.watch.operate("cleaning up", async |_| self.pixels.close().await).await;
        match closed {
            Err(Failure::Interrupted(signal)) => app::leave(exit::signalled(signal)),
            // What was asked for has been done; something beside it has not.
            Err(Failure::Error(error)) if outcome.is_ok() => self.ui.warn(&error.to_string()),
            _ => {}
        }
        outcome
    }
}

/// What operations are done under: signals and, for a person, progress.
pub struct Watch {
    /// The signals that reach us.
    pub signals: Signals,
    /// How to speak.
    pub ui: Ui,
}

impl Watch {
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

    /// As [`Watch::operate`]; while `work` holds the meter, it sees to signals
    /// and to the terminal itself.
    ///
    /// # Errors
    /// As [`Watch::operate`].
    pub async fn supervise<T>(
        &mut self,
        what: &str,
        work: impl AsyncFnOnce(&Meter) -> Result<T>,
    ) -> Result<T, Failure> {
        supervised(self.ui, &mut self.signals, what, work).await
    }
}
