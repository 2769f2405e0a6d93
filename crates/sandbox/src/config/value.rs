//! The values of configuration keys: their kinds, how they are read from TOML
//! and from text, and how they are shown.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use pixels_core::{EgressMode, size};
use serde::{Serialize, Serializer};
use toml::de::DeValue;

use super::check;
use crate::duration;

/// What a key's value has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number, 0 included.
    Count,
    /// A TCP port.
    Port,
    /// The name of a backend.
    Backend,
    /// CPUs: a count or a set such as `0-3`; text or a number.
    Cpu,
    /// Bytes: a number of MiB, or text with a suffix.
    Size,
    /// A length of time such as `90m`.
    Duration,
    /// A file. `~/` is the home directory; a relative one in the file is
    /// relative to the file's directory, elsewhere to the working directory.
    Path,
    /// A list of files, each as [`Kind::Path`].
    Paths,
    /// An `https://` address.
    Url,
    /// An address and port to listen on.
    Listen,
    /// An IPv4 network of /8 to /28.
    Subnet,
    /// The path part of a URL, beginning with `/`.
    Endpoint,
    /// An egress mode.
    Egress,
    /// A list of domains, `*.` wildcards and CIDRs, each with an optional `:port`.
    Domains,
    /// A list of IP addresses.
    Addresses,
    /// `true`, `false` or a list of tools.
    Devtools,
    /// The beginning of pixels' names.
    Prefix,
}

impl Kind {
    /// What the value has to be, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Bool => "true or false",
            Self::Count => "a whole number",
            Self::Port => "a port from 1 to 65535",
            Self::Backend => "local, incus or truenas",
            Self::Cpu => "a number of CPUs or a set such as \"0-3\"",
            Self::Size => "a number of MiB or a string such as \"4GiB\"",
            Self::Duration => "a string such as \"90m\"",
            Self::Path => "a path",
            Self::Paths => "a list of paths",
            Self::Url => "an https:// address",
            Self::Listen => "an address and port such as \"127.0.0.1:8765\"",
            Self::Subnet => "an IPv4 network such as \"10.209.0.0/16\"",
            Self::Endpoint => "a path such as \"/mcp\"",
            Self::Egress => "unrestricted, agent or allowlist",
            Self::Domains => "a list of domains",
            Self::Addresses => "a list of IP addresses",
            Self::Devtools => "true, false or a list of tools",
            Self::Prefix => "lower-case letters, digits and hyphens",
        }
    }

    /// Reads a value of this kind from text: a variable's, a flag's or a default.
    pub(super) fn read_text(self, raw: &str, paths: &Paths<'_>) -> Result<Value, String> {
        match self {
            Self::Bool => flag(raw).map(Value::Bool).ok_or_else(|| self.not(raw)),
            Self::Count => raw.parse().map(Value::Count).map_err(|_| self.not(raw)),
            Self::Devtools => match flag(raw) {
                Some(on) => Ok(Value::Bool(on)),
                None => self.read_list(split(raw), paths),
            },
            Self::Paths | Self::Domains | Self::Addresses => self.read_list(split(raw), paths),
            _ => self.read_scalar(raw, paths),
        }
    }

    /// Reads a value of this kind from TOML.
    pub(super) fn read_toml(self, raw: &DeValue<'_>, paths: &Paths<'_>) -> Result<Value, String> {
        match (self, raw) {
            (Self::Bool | Self::Devtools, DeValue::Boolean(on)) => Ok(Value::Bool(*on)),
            (Self::Bool, _) => Err(self.wrong_type(raw)),
            (Self::Count | Self::Port | Self::Cpu | Self::Size, DeValue::Integer(n)) => {
                let number = i64::from_str_radix(n.as_str(), n.radix())
                    .map_err(|_| format!("expected {}, not {n}", self.words()))?;
                self.read_text(&number.to_string(), paths)
            }
            (Self::Count | Self::Port, _) => Err(self.wrong_type(raw)),
            (
                Self::Paths | Self::Domains | Self::Addresses | Self::Devtools,
                DeValue::Array(items),
            ) => {
                let mut texts = Vec::new();
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::String(text) => texts.push(text.to_string()),
                        other => {
                            return Err(format!(
                                "expected a list of strings, with {} in it",
                                type_name(other)
                            ));
                        }
                    }
                }
                self.read_list(texts, paths)
            }
            (Self::Paths | Self::Domains | Self::Addresses | Self::Devtools, _) => {
                Err(self.wrong_type(raw))
            }
            (_, DeValue::String(text)) => self.read_scalar(text, paths),
            _ => Err(self.wrong_type(raw)),
        }
    }

    fn read_scalar(self, raw: &str, paths: &Paths<'_>) -> Result<Value, String> {
        if raw.is_empty() {
            return Err("must not be empty".into());
        }
        if raw.contains('\0') {
            return Err("must not hold a NUL".into());
        }
        let text = || Value::Text(raw.to_owned());
        let checked = |ok: bool| if ok { Ok(text()) } else { Err(self.not(raw)) };
        match self {
            Self::Text => Ok(text()),
            Self::Port => match raw.parse::<u16>() {
                Ok(port) if port > 0 => Ok(Value::Count(port.into())),
                _ => Err(self.not(raw)),
            },
            Self::Backend => checked(matches!(raw, "local" | "incus" | "truenas")),
            Self::Cpu => checked(check::cpus(raw)),
            Self::Size => {
                size::parse("size", raw, size::MIB).map(Value::Size).map_err(|_| self.not(raw))
            }
            Self::Duration => {
                duration::parse("duration", raw).map(Value::Duration).map_err(|_| self.not(raw))
            }
            Self::Path => paths.resolve(raw).map(Value::Path),
            Self::Url => checked(check::https(raw)),
            Self::Listen => raw.parse().map(Value::Listen).map_err(|_| self.not(raw)),
            Self::Subnet => checked(check::subnet(raw)),
            Self::Endpoint => checked(check::endpoint(raw)),
            Self::Egress => raw.parse().map(Value::Egress).map_err(|_| self.not(raw)),
            Self::Prefix => checked(check::prefix(raw)),
            Self::Bool
            | Self::Count
            | Self::Paths
            | Self::Domains
            | Self::Addresses
            | Self::Devtools => Err(self.not(raw)),
        }
    }

    fn read_list(self, items: Vec<String>, paths: &Paths<'_>) -> Result<Value, String> {
        if self == Self::Paths {
            let all: Result<Vec<_>, _> = items.iter().map(|raw| paths.resolve(raw)).collect();
            return all.map(Value::Paths);
        }
        for item in &items {
            let ok = match self {
                Self::Domains => check::domain(item),
                Self::Addresses => item.parse::<IpAddr>().is_ok(),
                _ => check::word(item),
            };
            if !ok {
                let one = match self {
                    Self::Domains => "a domain, a *. wildcard or a CIDR, with an optional :port",
                    Self::Addresses => "an IP address",
                    _ => "a tool",
                };
                return Err(format!("expected {one}, not {item:?}"));
            }
        }
        Ok(Value::List(items))
    }

    fn not(self, raw: &str) -> String {
        format!("expected {}, not {raw:?}", self.words())
    }

    fn wrong_type(self, raw: &DeValue<'_>) -> String {
        format!("expected {}, not {}", self.words(), type_name(raw))
    }
}

/// A TOML type with its article. Never the value: it may be a secret in the wrong place.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn flag(raw: &str) -> Option<bool> {
    match raw {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn split(raw: &str) -> Vec<String> {
    raw.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// What a path in a value is relative to.
pub(super) struct Paths<'a> {
    /// The home directory, where it is known.
    pub home: Option<&'a std::path::Path>,
    /// The directory that relative paths start from.
    pub base: Option<&'a std::path::Path>,
}

impl Paths<'_> {
    fn resolve(&self, raw: &str) -> Result<PathBuf, String> {
        if raw.is_empty() || raw.contains('\0') {
            return Err(format!("expected a path, not {raw:?}"));
        }
        if raw == "~" || raw.starts_with("~/") {
            let home = self.home.ok_or("~ is used, but HOME is not set")?;
            return Ok(home.join(raw[1..].trim_start_matches('/')));
        }
        if raw.starts_with('~') {
            return Err(format!("only ~/ is expanded, not {raw:?}"));
        }
        Ok(match self.base {
            Some(base) => base.join(raw),
            None => PathBuf::from(raw),
        })
    }
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Count(u64),
    /// Text.
    Text(String),
    /// A file.
    Path(PathBuf),
    /// Files.
    Paths(Vec<PathBuf>),
    /// Bytes.
    Size(u64),
    /// A length of time.
    Duration(Duration),
    /// Where to listen.
    Listen(SocketAddr),
    /// An egress mode.
    Egress(EgressMode),
    /// A list.
    List(Vec<String>),
    /// A secret that is set. What it is is not in here.
    Hidden,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => v.fmt(f),
            Self::Count(v) => v.fmt(f),
            Self::Text(v) => f.write_str(&pixels_core::text::clean(v)),
            Self::Path(v) => f.write_str(&pixels_core::text::clean(&v.to_string_lossy())),
            Self::Paths(v) => {
                let all: Vec<_> = v.iter().map(|p| p.to_string_lossy()).collect();
                f.write_str(&pixels_core::text::clean(&all.join(",")))
            }
            Self::Size(v) => f.write_str(&size::human(*v)),
            Self::Duration(v) => f.write_str(&duration::format(*v)),
            Self::Listen(v) => v.fmt(f),
            Self::Egress(v) => v.fmt(f),
            Self::List(v) => f.write_str(&pixels_core::text::clean(&v.join(","))),
            Self::Hidden => f.write_str("(hidden)"),
        }
    }
}

impl Serialize for Value {
    /// Booleans, numbers (sizes in bytes) and lists as such; all else as text; a secret as null.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(v) => s.serialize_bool(*v),
            Self::Count(v) | Self::Size(v) => s.serialize_u64(*v),
            Self::Paths(v) => s.collect_seq(v.iter().map(|p| p.to_string_lossy())),
            Self::List(v) => s.collect_seq(v),
            Self::Hidden => s.serialize_none(),
            other => s.collect_str(other),
        }
    }
}
