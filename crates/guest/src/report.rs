//! The report: why a command did not run, or was cut short.

use std::fmt;

use crate::codec::Reader;
use crate::request::Nonce;

/// The longest message in bytes. A whole frame stays below the 4096 bytes that
/// Linux writes to a pipe in one piece.
pub const MAX_MESSAGE: usize = 2048;

/// Bytes of a payload before its message: kind, errno, exit code.
const FIXED: usize = 1 + 4 + 1;

/// The longest payload a filter waits for.
pub(crate) const MAX_PAYLOAD: usize = FIXED + MAX_MESSAGE;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReportKind {
    /// The request could not be decoded or breaks a rule.
    BadRequest,
    /// The user does not exist in the guest, or cannot be switched to.
    User,
    /// The working directory cannot be entered.
    Cwd,
    /// No such command.
    NotFound,
    /// The command exists and cannot be executed.
    NotExecutable,
    /// Arguments and environment exceed what the guest's kernel takes.
    TooLong,
    /// The login shell ended before it reached the command.
    LoginShell,
    /// The command outlived its timeout and was killed with its descendants.
    Timeout,
    /// Any other failure of a system call.
    System,
}

impl ReportKind {
    const ALL: [Self; 9] = [
        Self::BadRequest,
        Self::User,
        Self::Cwd,
        Self::NotFound,
        Self::NotExecutable,
        Self::TooLong,
        Self::LoginShell,
        Self::Timeout,
        Self::System,
    ];

    /// A short stable name, for logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "request",
            Self::User => "user",
            Self::Cwd => "cwd",
            Self::NotFound => "not-found",
            Self::NotExecutable => "not-executable",
            Self::TooLong => "too-long",
            Self::LoginShell => "login-shell",
            Self::Timeout => "timeout",
            Self::System => "system",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::BadRequest => 1,
            Self::User => 2,
            Self::Cwd => 3,
            Self::NotFound => 4,
            Self::NotExecutable => 5,
            Self::TooLong => 6,
            Self::LoginShell => 7,
            Self::Timeout => 8,
            Self::System => 9,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.code() == code)
    }
}

impl fmt::Display for ReportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One report. It comes out of an untrusted guest: it may explain a failure, it
/// must not decide anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What went wrong.
    pub kind: ReportKind,
    /// The `errno` behind it as Linux numbers them, 0 for none.
    pub errno: i32,
    /// What the `exec` face exits with.
    pub exit_code: u8,
    /// One line for people, at most [`MAX_MESSAGE`] bytes, without control
    /// characters.
    pub message: String,
}

/// A payload that is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportError;

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed report from the guest")
    }
}

impl std::error::Error for ReportError {}

impl Report {
    /// The payload alone: kind, errno, exit code, message (cut at
    /// [`MAX_MESSAGE`], control characters replaced by spaces).
    pub fn encode_payload(&self) -> Vec<u8> {
        let message = clean(&self.message);
        let mut out = Vec::with_capacity(FIXED + message.len());
        out.push(self.kind.code());
        out.extend_from_slice(&self.errno.to_be_bytes());
        out.push(self.exit_code);
        out.extend_from_slice(message.as_bytes());
        out
    }

    /// The frame as it is written to stderr: nonce, u32 length, payload.
    pub fn encode(&self, nonce: &Nonce) -> Vec<u8> {
        let payload = self.encode_payload();
        let mut out = Vec::with_capacity(20 + payload.len());
        out.extend_from_slice(&nonce.0);
        // At most MAX_PAYLOAD, so it fits.
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&payload);
        out
    }

    /// Decodes a payload. The message is read leniently (bad UTF-8 is replaced,
    /// control characters become spaces) and the rest strictly.
    ///
    /// # Errors
    /// Too short, too long, or an unknown kind.
    pub fn decode_payload(payload: &[u8]) -> Result<Self, ReportError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(ReportError);
        }
        let mut r = Reader::new(payload);
        let kind = r.u8().and_then(ReportKind::from_code).ok_or(ReportError)?;
        let errno = r.i32().ok_or(ReportError)?;
        let exit_code = r.u8().ok_or(ReportError)?;
        let message = clean(&String::from_utf8_lossy(r.rest()));
        Ok(Self { kind, errno, exit_code, message })
    }
}

/// One line, without what could steer a terminal, at most [`MAX_MESSAGE`] bytes.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_MESSAGE));
    for c in text.chars() {
        let c = if c.is_control() || is_format(c) { ' ' } else { c };
        if out.len() + c.len_utf8() > MAX_MESSAGE {
            break;
        }
        out.push(c);
    }
    out
}

/// Invisible characters that reorder or hide text on a terminal.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
