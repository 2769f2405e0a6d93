//! `[env]`: variables for pixels.

use toml::de::{DeTable, DeValue};

use super::secret::Secret;
use super::value::type_name;

/// How a variable of `[env]` reaches pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VarValue {
    /// Written to the pixel's `/etc/environment` when it is provisioned:
    /// `K = "v"` or `K = { value = "v" }`.
    Stored(Secret),
    /// Given to each exec and console, never stored:
    /// `K = { value = "v", session_only = true }`.
    Session(Secret),
    /// The host's value at the time, given to each exec and console, never
    /// stored: `K = { forward = true }`. Nothing where the host has none.
    Forward,
}

/// A variable of `[env]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Var {
    /// Its name.
    pub name: String,
    /// Its value and way.
    pub value: VarValue,
    /// The line of the file it is on.
    pub(super) line: usize,
}

/// A refusal: where in the text, which key, why.
type Refusal = (usize, String, String);

/// Reads one entry of `[env]`.
pub(super) fn read(name: &str, at: usize, raw: &DeValue<'_>) -> Result<VarValue, Refusal> {
    let key = format!("env.{name}");
    if name.is_empty() || name.contains(['=', '\0', '\n']) {
        return Err((
            at,
            key,
            "a variable's name has no =, newline or NUL and is not empty".into(),
        ));
    }
    match raw {
        DeValue::String(text) => stored(text).map_err(|why| (at, key, why)),
        DeValue::Table(table) => from_table(&key, at, table),
        other => {
            let why = format!("expected a string or a table, not {}", type_name(other));
            Err((at, key, why))
        }
    }
}

fn from_table(key: &str, at: usize, table: &DeTable<'_>) -> Result<VarValue, Refusal> {
    let (mut value, mut forward, mut session) = (None, None, false);
    for (name, item) in table.iter() {
        let (sub, at) = (format!("{key}.{}", name.get_ref()), item.span().start);
        match (name.get_ref().as_ref(), item.get_ref()) {
            ("value", DeValue::String(text)) => value = Some(text.to_string()),
            ("forward", DeValue::Boolean(on)) => forward = Some(*on),
            ("session_only", DeValue::Boolean(on)) => session = *on,
            ("value", other) => {
                return Err((at, sub, format!("expected a string, not {}", type_name(other))));
            }
            ("forward" | "session_only", other) => {
                return Err((at, sub, format!("expected true or false, not {}", type_name(other))));
            }
            _ => {
                let why = "unknown key; there are value, session_only and forward";
                return Err((name.span().start, sub, why.into()));
            }
        }
    }
    match (value, forward) {
        (Some(_), Some(true)) => {
            Err((at, key.into(), "has both a value and forward = true; choose one".into()))
        }
        (Some(text), _) if session => session_only(text).map_err(|why| (at, key.into(), why)),
        (Some(text), _) => stored(&text).map_err(|why| (at, key.into(), why)),
        (None, Some(true)) => Ok(VarValue::Forward),
        (None, _) => Err((at, key.into(), "needs a value or forward = true".into())),
    }
}

fn stored(text: &str) -> Result<VarValue, String> {
    if text.contains(['\n', '\r', '\0']) {
        return Err("a stored value is one line; session_only = true takes any".into());
    }
    Ok(VarValue::Stored(Secret::new(text)))
}

fn session_only(text: String) -> Result<VarValue, String> {
    if text.contains('\0') {
        return Err("a value must not hold a NUL".into());
    }
    Ok(VarValue::Session(Secret::new(text)))
}
