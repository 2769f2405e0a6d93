//! `-v`: what the libraries trace, on stderr.
//!
//! A subscriber of our own: a line an event, no spans, no colour, no
//! configuration. Field values can come from outside and are stripped.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pixels_core::text;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

struct Stderr {
    level: LevelFilter,
    /// Libraries that are not ours speak too, from `-vvv` on.
    foreign: bool,
    started: Instant,
    spans: AtomicU64,
}

/// Starts tracing: `-v` info, `-vv` debug, `-vvv` everything.
pub fn start(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let subscriber =
        Stderr { level, foreign: verbose > 2, started: Instant::now(), spans: AtomicU64::new(1) };
    // Fails only if there is one already, and then that one is as good.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

impl Subscriber for Stderr {
    fn enabled(&self, meta: &Metadata<'_>) -> bool {
        *meta.level() <= self.level && (self.foreign || meta.target().starts_with("pixels"))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed).max(1))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let meta = event.metadata();
        let mut line = Line::default();
        event.record(&mut line);
        let millis = self.started.elapsed().as_micros() as f64 / 1000.0;
        let level = meta.level().as_str().to_ascii_lowercase();
        let out = format!(
            "{level}: {millis:9.3} ms {}: {}{}\n",
            meta.target(),
            text::clean(&line.message),
            text::clean(&line.fields)
        );
        let _ = std::io::stderr().lock().write_all(out.as_bytes());
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
