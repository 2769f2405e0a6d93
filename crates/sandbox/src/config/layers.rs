//! The layers and their order: defaults, file, environment, flags.

use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::bases::{self, Base};
use super::environ::Environ;
use super::error::ConfigError;
use super::keys::{self, KEYS, Key};
use super::value::{Paths, Value, type_name};
use super::vars::{self, Var};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A variable.
    Env {
        /// Its name.
        var: String,
    },
    /// A flag.
    Flag {
        /// Its name with the dashes.
        name: String,
    },
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => {
                write!(f, "{}:{line}", pixels_core::text::clean(&path.to_string_lossy()))
            }
            Self::Env { var } => f.write_str(var),
            Self::Flag { name } => f.write_str(name),
        }
    }
}

/// A value given on the command line for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The key it sets: `backend`.
    pub key: String,
    /// The flag, with its dashes, for messages: `--backend`.
    pub name: String,
    /// What was given.
    pub value: String,
}

/// The values of all keys, by their place in [`KEYS`], and the sections of free names.
#[derive(Clone)]
pub(super) struct Layers {
    pub values: Vec<(Option<Value>, Source)>,
    pub vars: Vec<Var>,
    pub bases: Vec<Base>,
}

impl std::fmt::Debug for Layers {
    /// Nothing of it: secrets are still plain in here.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Layers")
    }
}

/// The largest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads the file as text; `None` where there is none and none was asked for.
pub(super) fn read_file(path: &Path, required: bool) -> Result<Option<String>, ConfigError> {
    let place = path.display().to_string();
    let refuse = |problem: String| ConfigError::new(place.clone(), None, problem);
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            if !required {
                return Ok(None);
            }
            let hint = "without --config the default file is read, where there is one";
            return Err(refuse("no such file".into()).hint(hint));
        }
        Err(e) => return Err(refuse(e.to_string())),
    };
    // Opening a FIFO would wait for its writer.
    if !meta.is_file() {
        return Err(refuse("not a regular file".into()));
    }
    if meta.len() > MAX_FILE {
        return Err(refuse("larger than 1 MiB".into()));
    }
    let bytes = std::fs::read(path).map_err(|e| refuse(e.to_string()))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(e) => {
            let upto = e.utf8_error().valid_up_to();
            let line = line_of(e.as_bytes(), upto);
            Err(ConfigError::new(format!("{}:{line}", path.display()), None, "not UTF-8"))
        }
    }
}

fn line_of(text: &[u8], at: usize) -> usize {
    text[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
}

impl Layers {
    /// The defaults.
    pub fn defaults(environ: &Environ) -> Self {
        let paths = Paths { home: environ.home(), base: None };
        let values = KEYS
            .iter()
            .map(|key| {
                // A default below an unknown home directory is no default.
                let value = key.default.and_then(|text| key.kind.read_text(text, &paths).ok());
                (value, Source::Default)
            })
            .collect();
        Self { values, vars: Vec::new(), bases: Vec::new() }
    }

    /// Lays a file's content over them.
    pub fn file(
        &mut self,
        path: &Path,
        base: Option<&Path>,
        text: &str,
        environ: &Environ,
    ) -> Result<(), ConfigError> {
        let line = |at: usize| line_of(text.as_bytes(), at);
        let refuse = |(at, key, why): (usize, String, String)| {
            ConfigError::new(format!("{}:{}", path.display(), line(at)), Some(&key), why)
        };
        let document = DeTable::parse(text).map_err(|e| {
            let at = e.span().map_or(0, |s| s.start);
            ConfigError::new(format!("{}:{}", path.display(), line(at)), None, e.message())
        })?;
        let mut reader = FileReader {
            layers: self,
            path,
            line: &line,
            paths: Paths { home: environ.home(), base },
        };
        reader.table("", document.get_ref()).map_err(refuse)?;
        bases::check_cycles(&self.bases).map_err(|(line, key, why)| {
            ConfigError::new(format!("{}:{line}", path.display()), Some(&key), why)
        })
    }

    /// Lays the variables of `environ` over them.
    pub fn environment(
        &mut self,
        environ: &Environ,
        cwd: Option<&Path>,
    ) -> Result<(), ConfigError> {
        let paths = Paths { home: environ.home(), base: cwd };
        for (place, key) in self.values.iter_mut().zip(KEYS) {
            let Some((var, raw)) =
                key.vars.iter().find_map(|var| environ.get(var).map(|raw| (*var, raw)))
            else {
                continue;
            };
            let text =
                raw.to_str().ok_or_else(|| ConfigError::new(var, Some(key.name), "not UTF-8"))?;
            let value = read_text(key, text, &paths)
                .map_err(|why| ConfigError::new(var, Some(key.name), why))?;
            *place = (Some(value), Source::Env { var: var.to_owned() });
        }
        Ok(())
    }

    /// Lays flags over them, in order.
    pub fn flags(
        &mut self,
        flags: &[Flag],
        environ: &Environ,
        cwd: Option<&Path>,
    ) -> Result<(), ConfigError> {
        let paths = Paths { home: environ.home(), base: cwd };
        for flag in flags {
            let refuse = |why: String| ConfigError::new(&flag.name, Some(&flag.key), why);
            let at = keys::index(&flag.key).ok_or_else(|| refuse("unknown key".into()))?;
            let value = read_text(&KEYS[at], &flag.value, &paths).map_err(refuse)?;
            self.values[at] = (Some(value), Source::Flag { name: flag.name.clone() });
        }
        Ok(())
    }
}

fn read_text(key: &Key, text: &str, paths: &Paths<'_>) -> Result<Value, String> {
    let value = key.kind.read_text(text, paths);
    if key.secret { value.map_err(|_| "not a usable value".into()) } else { value }
}

struct FileReader<'a> {
    layers: &'a mut Layers,
    path: &'a Path,
    line: &'a dyn Fn(usize) -> usize,
    paths: Paths<'a>,
}

impl FileReader<'_> {
    fn table(&mut self, section: &str, table: &DeTable<'_>) -> Result<(), (usize, String, String)> {
        let mut items: Vec<_> = table.iter().collect();
        // The map is by name; the first mistake in the file is the one to name.
        items.sort_by_key(|(key, _)| key.span().start);
        for (key, item) in items {
            let name: &str = key.get_ref();
            let full = if section.is_empty() { name.into() } else { format!("{section}.{name}") };
            self.item(&full, key.span().start, item.span().start, item.get_ref())?;
        }
        Ok(())
    }

    fn item(
        &mut self,
        full: &str,
        key_at: usize,
        value_at: usize,
        value: &DeValue<'_>,
    ) -> Result<(), (usize, String, String)> {
        if let Some(at) = keys::index(full) {
            let key = &KEYS[at];
            let read = key.kind.read_toml(value, &self.paths);
            let value = read.map_err(|why| {
                let why = if key.secret {
                    format!("expected {}, not {}", key.kind.words(), type_name(value))
                } else {
                    why
                };
                (value_at, full.to_owned(), why)
            })?;
            let source = Source::File { path: self.path.to_owned(), line: (self.line)(key_at) };
            self.layers.values[at] = (Some(value), source);
            return Ok(());
        }
        if full == "mcp.bases" {
            self.layers.bases = bases::read_all(key_at, value, &self.paths, self.line)?;
            return Ok(());
        }
        if !keys::is_section(full) {
            return Err((key_at, full.into(), unknown(full)));
        }
        let DeValue::Table(table) = value else {
            let why = format!("expected a table, not {}", type_name(value));
            return Err((value_at, full.into(), why));
        };
        if full != "env" {
            return self.table(full, table);
        }
        for (name, item) in table.iter() {
            let at = name.span().start;
            let value = vars::read(name.get_ref(), at, item.get_ref())?;
            let line = (self.line)(at);
            self.layers.vars.push(Var { name: name.get_ref().to_string(), value, line });
        }
        Ok(())
    }
}

/// What to say of a key that there is not, with the nearest that there is.
fn unknown(full: &str) -> String {
    let near =
        KEYS.iter().map(|key| (distance(full, key.name), key.name)).min().filter(|(d, _)| *d <= 3);
    match near {
        Some((_, name)) => format!("unknown key; {name} is near it"),
        None => "unknown key".into(),
    }
}

/// Levenshtein's distance, bounded by short inputs.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let up = row[j + 1];
            row[j + 1] = (corner + usize::from(x != y)).min(up + 1).min(row[j] + 1);
            corner = up;
        }
    }
    row[b.len()]
}
