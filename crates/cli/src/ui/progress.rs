//! Progress of long operations: a spinner or a bar on stderr, for a person who
//! looks, and only once there is something to wait for.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pixels_core::{Event, Progress, text};

use super::{Ui, time};

/// How long an operation may take before anything is drawn.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// How often it is redrawn after that.
pub const TICK: Duration = Duration::from_millis(100);

/// What is going on, as last reported.
#[derive(Default)]
struct State {
    phase: String,
    bytes: Option<(u64, Option<u64>)>,
    bar: Option<ProgressBar>,
}

/// The progress of one operation. It draws when [`Meter::tick`] is called and
/// never from a thread of its own.
pub struct Meter {
    ui: Ui,
    started: Instant,
    state: Arc<Mutex<State>>,
    held: Cell<bool>,
}

impl Meter {
    /// A meter that first says `what`: `creating mybox`.
    pub fn new(ui: Ui, what: &str) -> Self {
        let state = State { phase: what.to_owned(), ..State::default() };
        Self {
            ui,
            started: Instant::now(),
            state: Arc::new(Mutex::new(state)),
            held: Cell::new(false),
        }
    }

    /// Where the operation reports to.
    pub fn sink(&self) -> Progress {
        let (ui, state) = (self.ui, Arc::clone(&self.state));
        Progress::new(move |event| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Event::Phase(phase) => state.phase = text::clean_short(&phase, 120),
                Event::Bytes { done, total } => state.bytes = Some((done, total)),
                Event::Warning(message) => match &state.bar {
                    Some(bar) => bar.suspend(|| ui.warn(&message)),
                    None => ui.warn(&message),
                },
                _ => {}
            }
        })
    }

    /// Time since the operation began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Draws, if there is a person and it has taken long enough.
    pub fn tick(&self) {
        if self.held.get() || !self.ui.draws() || self.elapsed() < PATIENCE {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (phase, bytes) = (state.phase.clone(), state.bytes);
        let bar = state.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style("{spinner} {msg}"));
            bar
        });
        match bytes {
            Some((done, Some(total))) => {
                if bar.length() != Some(total) {
                    bar.set_length(total);
                    bar.set_style(style(
                        "{spinner} {msg} [{bar:24}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
                    ));
                }
                bar.set_position(done);
            }
            Some((done, None)) => {
                bar.set_style(style("{spinner} {msg} {binary_bytes} {binary_bytes_per_sec}"));
                bar.set_position(done);
            }
            None => {}
        }
        bar.set_message(format!("{phase} ({})", time::elapsed(self.started.elapsed())));
        bar.tick();
    }

    /// Takes away what was drawn and draws nothing until this is undone.
    pub fn hold(&self, hold: bool) {
        self.held.set(hold);
        self.clear();
    }

    /// Whether it is held.
    pub fn held(&self) -> bool {
        self.held.get()
    }

    /// Takes away what was drawn.
    pub fn clear(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // A template that does not parse is a mistake of ours and costs only looks.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
