//! What people and programs read: results on stdout, everything else on stderr.

pub mod progress;
pub mod table;
pub mod time;

use std::io::{self, IsTerminal, Write};

use pixels_core::{Error, text};
use serde::Serialize;

use crate::exit::Failure;

/// How to speak.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ui {
    /// Results, errors and warnings are JSON.
    pub json: bool,
    /// No notes, no progress.
    pub quiet: bool,
}

#[derive(Serialize)]
struct Told<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Ui {
    /// Prints a result.
    ///
    /// # Errors
    /// [`Failure::Pipe`] once nobody reads it.
    pub fn out(self, text: impl AsRef<[u8]>) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()).map_err(stdout_failed)
    }

    /// Prints a result and ends the line.
    pub fn line(self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.out(format!("{}\n", text.as_ref()))
    }

    /// Prints a result as JSON, indented.
    pub fn json_out(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Error::backend("writing JSON", e.to_string()))?;
        self.line(text)
    }

    /// Whether progress may be drawn: only for a person who looks.
    pub fn draws(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Says what happened, to a person: not with `--quiet`, and not with
    /// `--json`, where the result says it.
    pub fn note(self, text: impl AsRef<str>) {
        if !self.quiet && !self.json {
            say(text.as_ref());
        }
    }

    /// Says what a person should know although it worked.
    pub fn warn(self, message: &str) {
        let message = text::clean(message);
        if self.json {
            say(&serde_json::json!({"warning": {"message": message}}).to_string());
        } else if !self.quiet {
            say(&format!("warning: {message}"));
        }
    }

    /// Says why something failed and what to do next.
    pub fn error(self, error: &Error) {
        self.told(error.code(), &error.to_string(), error.hint().as_deref());
    }

    /// As [`Ui::error`], from its parts.
    pub fn told(self, code: &str, message: &str, hint: Option<&str>) {
        // Messages quote values from outside; a second look costs nothing.
        let message = text::clean(message);
        let hint = hint.map(text::clean);
        if self.json {
            let told = Told { code, message: &message, hint: hint.as_deref() };
            say(&serde_json::json!({ "error": told }).to_string());
            return;
        }
        let mut all = format!("error: {message}");
        if let Some(hint) = hint {
            all.push_str("\nhint: ");
            all.push_str(&hint);
        }
        say(&all);
    }

    /// Reports a failure, unless it is one that needs no words.
    pub fn failure(self, failure: &Failure) {
        match failure {
            Failure::Error(e) | Failure::Coded(e, _) | Failure::Usage(e) => self.error(e),
            Failure::Config(e) => self.told("invalid", &e.to_string(), e.hint.as_deref()),
            Failure::Interrupted(_) => self.told("interrupted", "interrupted", None),
            Failure::Pipe | Failure::Reported => {}
        }
    }
}

/// A number of things: `1 file`, `2 files`.
pub fn count(n: u64, thing: &str) -> String {
    match (n, thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        (n, Some(stem)) => format!("{n} {stem}ies"),
        (n, None) => format!("{n} {thing}s"),
    }
}

/// What a failed write to stdout means.
pub fn stdout_failed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::Pipe
    } else {
        Failure::Error(Error::backend("writing to stdout", error.to_string()))
    }
}

/// Writes a line to stderr. It may be closed, and then nobody is there to tell.
fn say(line: &str) {
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}
