//! Progress of bytes, told some times a second whoever counts them.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pixels_core::{Event, Progress};

/// How often a sink is bothered.
const PERIOD: Duration = Duration::from_millis(50);

/// Counts the bytes of one phase. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Meter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    progress: Progress,
    total: Option<u64>,
    done: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Meter {
    /// Begins a phase.
    pub(crate) fn new(progress: &Progress, phase: impl Into<String>, total: Option<u64>) -> Self {
        progress.phase(phase);
        let meter = Self(Arc::new(Inner {
            progress: progress.clone(),
            total,
            done: AtomicU64::new(0),
            told: Mutex::new(None),
        }));
        meter.add(0);
        meter
    }

    /// Counts.
    pub(crate) fn add(&self, bytes: u64) {
        let done = self.0.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let now = Instant::now();
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|at| now.duration_since(at) >= PERIOD);
        if due || self.0.total == Some(done) {
            *told = Some(now);
            drop(told);
            self.0.progress.emit(Event::Bytes { done, total: self.0.total });
        }
    }

    /// Counts what was counted in vain back.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.0.done.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Counts what is read.
pub(crate) struct Metered<R> {
    pub(crate) input: R,
    pub(crate) meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buf)?;
        self.meter.add(n as u64);
        Ok(n)
    }
}
