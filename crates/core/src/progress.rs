//! How long operations tell what they are doing.

use std::fmt;
use std::sync::Arc;

/// One step of a long operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The operation entered a phase, in the words a person reads: `starting`.
    Phase(String),
    /// Bytes done, and of how many where that is known.
    Bytes {
        /// Bytes so far.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// Something a person should know although the operation goes on.
    Warning(String),
}

/// Where progress goes. The default goes nowhere.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Fn(Event) + Send + Sync>>);

impl Progress {
    /// Sends every event to `sink`, which must be quick and must not block.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(sink)))
    }

    /// Reports one event.
    pub fn emit(&self, event: Event) {
        if let Some(sink) = &self.0 {
            sink(event);
        }
    }

    /// Reports a phase.
    pub fn phase(&self, text: impl Into<String>) {
        self.emit(Event::Phase(text.into()));
    }

    /// Reports a warning.
    pub fn warn(&self, text: impl Into<String>) {
        self.emit(Event::Warning(text.into()));
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Progress(on)" } else { "Progress(off)" })
    }
}
