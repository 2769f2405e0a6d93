//! `[mcp.bases.<name>]`: templates of the user's own.

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::value::{Kind, Paths, Value};

/// A base: what to make it from and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Its name.
    pub name: String,
    /// The image it is made from, unless it is made from another base.
    pub parent_image: Option<String>,
    /// The base it is made from.
    pub from: Option<String>,
    /// The script that makes it, run as root.
    pub setup_script: Option<PathBuf>,
    /// What it is, for people and agents.
    pub description: Option<String>,
    /// The line of the file it is on.
    pub(super) line: usize,
}

type Refusal = (usize, String, String);

/// Reads one `[mcp.bases.<name>]`.
pub(super) fn read(
    name: &str,
    at: usize,
    table: &DeTable<'_>,
    paths: &Paths<'_>,
) -> Result<Base, Refusal> {
    let section = format!("mcp.bases.{name}");
    if pixels_core::Name::new(name).is_err() || name.starts_with("px-") {
        return Err((
            at,
            section,
            "a base's name is lower-case letters, digits and inner hyphens".into(),
        ));
    }
    let mut base = Base { name: name.to_owned(), ..Base::default() };
    for (key, item) in table.iter() {
        let sub = format!("{section}.{}", key.get_ref());
        let kind = match key.get_ref().as_ref() {
            "parent_image" | "from" | "description" => Kind::Text,
            "setup_script" => Kind::Path,
            _ => {
                let why = "unknown key; there are parent_image, from, setup_script and description";
                return Err((key.span().start, sub, why.into()));
            }
        };
        let value = kind
            .read_toml(item.get_ref(), paths)
            .map_err(|why| (item.span().start, sub.clone(), why))?;
        match (key.get_ref().as_ref(), value) {
            ("parent_image", Value::Text(text)) => base.parent_image = Some(text),
            ("from", Value::Text(text)) => base.from = Some(text),
            ("description", Value::Text(text)) => base.description = Some(text),
            (_, Value::Path(path)) => base.setup_script = Some(path),
            _ => {}
        }
    }
    if base.parent_image.is_some() && base.from.is_some() {
        return Err((at, section, "has both parent_image and from; choose one".into()));
    }
    Ok(base)
}

/// Reads the table `mcp.bases`.
pub(super) fn read_all(
    at: usize,
    raw: &DeValue<'_>,
    paths: &Paths<'_>,
    line: &dyn Fn(usize) -> usize,
) -> Result<Vec<Base>, Refusal> {
    let DeValue::Table(table) = raw else {
        return Err((at, "mcp.bases".into(), "expected a table".into()));
    };
    let mut bases = Vec::new();
    for (name, item) in table.iter() {
        let at = name.span().start;
        match item.get_ref() {
            DeValue::Table(fields) => {
                let mut base = read(name.get_ref(), at, fields, paths)?;
                base.line = line(at);
                bases.push(base);
            }
            _ => {
                return Err((
                    at,
                    format!("mcp.bases.{}", name.get_ref()),
                    "expected a table".into(),
                ));
            }
        }
    }
    Ok(bases)
}

/// Follows `from` from every base; a cycle is refused.
pub(super) fn check_cycles(bases: &[Base]) -> Result<(), (usize, String, String)> {
    for start in bases {
        let mut seen = vec![start.name.as_str()];
        let mut at = start;
        // A parent that is not here is one that ships with the program, or is missed when built.
        while let Some(next) = at.from.as_deref().and_then(|n| bases.iter().find(|b| b.name == n)) {
            if seen.contains(&next.name.as_str()) {
                seen.push(&next.name);
                let why = format!("the bases come from each other: {}", seen.join(" from "));
                return Err((start.line, format!("mcp.bases.{}.from", start.name), why));
            }
            seen.push(&next.name);
            at = next;
        }
    }
    Ok(())
}
