//! Exit codes, all of them decided here.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | it worked, or whoever read our output had enough of it |
//! | 1 | it failed |
//! | 2 | the arguments are wrong; nothing was done |
//! | 124 | `exec --timeout` ran out, as timeout(1) says it |
//! | 125 | `exec`, `run` and `console`: a failure of ours, not of the command |
//! | 126, 127 | the command cannot be executed, or does not exist |
//! | 128 + n | signal n ended the command, or interrupted us |
//!
//! Otherwise `exec`, `run` and `console` exit with the command's own code.

use pixels_core::{Error, ExitStatus, What};
use pixels_sandbox::ConfigError;

/// SIGPIPE's number on Linux: what ends a command whose output nobody reads.
pub const SIGPIPE: u8 = 13;

const FAILURE: u8 = 1;
const USAGE: u8 = 2;
const TIMEOUT: u8 = 124;
const OURS: u8 = 125;
const CANNOT_EXECUTE: u8 = 126;
const NO_COMMAND: u8 = 127;

/// What a command gives back: an exit code, or why there is none.
pub type Outcome = Result<u8, Failure>;

/// Why a command did not come to its end.
#[derive(Debug)]
pub enum Failure {
    /// It failed.
    Error(Error),
    /// It failed, and the exit code says more than that.
    Coded(Error, u8),
    /// The arguments contradict each other or the place; nothing was done.
    Usage(Error),
    /// The configuration is refused.
    Config(ConfigError),
    /// Nobody reads our stdout any more.
    Pipe,
    /// A signal of this number ended it; what was half-made is gone.
    Interrupted(u8),
    /// It failed and has already said why.
    Reported,
}

/// Which family of exit codes a command has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Failures of ours are 1.
    #[default]
    Plain,
    /// The code belongs to a command in the pixel; failures of ours are 125.
    Proxy,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Failure {
    /// The number to leave with.
    pub fn code(&self, manner: Manner) -> u8 {
        let failure = match manner {
            Manner::Plain => FAILURE,
            Manner::Proxy => OURS,
        };
        match self {
            Self::Error(_) | Self::Reported => failure,
            Self::Coded(_, code) => *code,
            Self::Usage(_) => USAGE,
            // A flag that sets a key is an argument, whoever checks it.
            Self::Config(e) if e.place.starts_with("--") => USAGE,
            Self::Config(_) => failure,
            Self::Pipe => 0,
            Self::Interrupted(n) => 128u8.saturating_add(*n),
        }
    }
}

/// The code for arguments that could not be parsed.
pub fn usage() -> u8 {
    USAGE
}

/// 0 if everything worked that was reported on one by one.
pub fn all(worked: bool) -> Outcome {
    if worked { Ok(0) } else { Err(Failure::Reported) }
}

/// What the end of a command in a pixel means for us.
pub fn of_command(ended: Result<ExitStatus, Error>) -> Outcome {
    match ended {
        Ok(status) => Ok(status.code()),
        Err(error) => {
            let code = match error.kind() {
                Error::Timeout { .. } => TIMEOUT,
                Error::NotFound { what: What::Command, .. } => NO_COMMAND,
                Error::Denied { .. } => CANNOT_EXECUTE,
                _ => OURS,
            };
            Err(Failure::Coded(error, code))
        }
    }
}

/// The code of a command that a signal of this number ended.
pub fn signalled(n: u8) -> u8 {
    ExitStatus::Signal(n).code()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn codes() {
        let error = || Error::backend("x", "y");
        assert_eq!(Failure::Error(error()).code(Manner::Plain), 1);
        assert_eq!(Failure::Error(error()).code(Manner::Proxy), 125);
        assert_eq!(Failure::Usage(error()).code(Manner::Proxy), 2);
        assert_eq!(Failure::Pipe.code(Manner::Plain), 0);
        assert_eq!(Failure::Interrupted(2).code(Manner::Plain), 130);
        assert_eq!(Failure::Interrupted(15).code(Manner::Proxy), 143);
    }

    #[test]
    fn ends_of_commands() {
        assert_eq!(of_command(Ok(ExitStatus::Code(7))).unwrap(), 7);
        assert_eq!(of_command(Ok(ExitStatus::Signal(9))).unwrap(), 137);
        let code = |e| of_command(Err(e)).unwrap_err().code(Manner::Proxy);
        assert_eq!(code(Error::Timeout { what: "x".into(), after: Duration::from_secs(1) }), 124);
        assert_eq!(code(Error::not_found(What::Command, "x")), 127);
        assert_eq!(code(Error::not_found(What::Path, "x")), 125);
        assert_eq!(code(Error::not_found(What::Command, "x").with_hint("y")), 127);
    }
}
