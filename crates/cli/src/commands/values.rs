//! Values of arguments, checked where they enter.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use pixels_core::size::{self, MIB};
use pixels_core::{Bytes, Error};
use pixels_sandbox::{Remote, duration};

/// A size of memory: MiB, or with a suffix.
pub fn memory(raw: &str) -> Result<u64, Error> {
    size::parse("memory", raw, MIB)
}

/// A size of a disk: MiB, or with a suffix.
pub fn disk(raw: &str) -> Result<u64, Error> {
    size::parse("disk", raw, MIB)
}

/// How long something may take: seconds, as timeout(1) and docker count, or
/// with a unit.
pub fn timeout(raw: &str) -> Result<Duration, Error> {
    match raw.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(u64::from(seconds))),
        Err(_) => duration::parse("timeout", raw),
    }
}

/// How long a pixel is to live. Always with a unit, so that nobody has to
/// guess it; zero would be gone before it is there.
pub fn ttl(raw: &str) -> Result<Duration, Error> {
    match duration::parse("ttl", raw)? {
        Duration::ZERO => Err(Error::invalid("ttl", raw, "a lifetime is longer than zero")),
        ttl => Ok(ttl),
    }
}

/// A variable for a command: `K=V`, or `K` for the value that it has here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    name: Bytes,
    value: Option<Bytes>,
}

impl EnvVar {
    /// The parser for clap: bytes, not text.
    pub fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(Self::parse)
    }

    fn parse(raw: OsString) -> Result<Self, Error> {
        let raw = raw.into_vec();
        let (name, value) = match raw.iter().position(|b| *b == b'=') {
            Some(at) => (raw[..at].to_vec(), Some(raw[at + 1..].to_vec())),
            None => (raw.clone(), None),
        };
        if name.is_empty() {
            let shown = String::from_utf8_lossy(&raw);
            return Err(Error::invalid("variable", &shown, "a variable is NAME=VALUE, or NAME"));
        }
        Ok(Self { name, value })
    }

    /// The variables with their values. One without a value that is not set
    /// here either is left out, as docker does.
    pub fn resolve(all: Vec<Self>) -> Vec<(Bytes, Bytes)> {
        all.into_iter()
            .filter_map(|var| {
                let value = match var.value {
                    Some(value) => value,
                    None => {
                        let name = std::ffi::OsStr::from_bytes(&var.name);
                        std::env::var_os(name)?.into_vec()
                    }
                };
                Some((var.name, value))
            })
            .collect()
    }
}

/// The parser of a place in a pixel, `NAME:PATH`: bytes, not text.
pub fn remote() -> impl TypedValueParser<Value = Remote> {
    OsStringValueParser::new().try_map(|raw| Remote::parse(&raw.into_vec()))
}

/// Bytes of arguments.
pub fn bytes(args: Vec<OsString>) -> Vec<Bytes> {
    args.into_iter().map(OsStringExt::into_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_bytes() {
        let parse = |raw: &[u8]| EnvVar::parse(OsString::from_vec(raw.to_vec()));
        let all = vec![
            parse(b"A=1=2").unwrap(),
            parse(b"B=").unwrap(),
            parse(b"odd-name.\xff=\xfe\n").unwrap(),
            parse(b"PIXELS_SURELY_NOT_SET").unwrap(),
        ];
        assert_eq!(
            EnvVar::resolve(all),
            [
                (b"A".to_vec(), b"1=2".to_vec()),
                (b"B".to_vec(), Vec::new()),
                (b"odd-name.\xff".to_vec(), b"\xfe\n".to_vec()),
            ]
        );
        assert!(parse(b"=x").is_err());
        assert!(parse(b"").is_err());
    }
}
