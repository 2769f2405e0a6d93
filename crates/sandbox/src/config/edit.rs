//! Setting keys in the user's file without losing what else is in it.
//!
//! The text is changed line by line: an assignment of the key in its section's
//! table is replaced, else a line is added to the table, else the table is
//! added at the end. What comes out is parsed again before it is written, and
//! refused if anything but the keys named would change.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use toml::{Table, Value};

use super::error::ConfigError;
use super::layers;

/// Sets text keys of a top-level section: `set(file, "incus", &[("remote", "https://…")])`.
/// An empty section means the keys above the first table. The file is made if
/// there is none, with its directory (0700); it is replaced at once and is 0600 afterwards.
///
/// # Errors
/// A file that does not parse, or in which the keys are written in a way that
/// a line cannot be replaced in (an inline or dotted table); the file is then as it was.
pub fn set(path: &Path, section: &str, values: &[(&str, &str)]) -> Result<(), ConfigError> {
    let old = layers::read_file(path, false)?.unwrap_or_default();
    let new = edited(&old, section, values).map_err(|why| {
        let place = path.display().to_string();
        ConfigError::new(place, (!section.is_empty()).then_some(section), why)
            .hint("set these keys in the file by hand, or move the file away")
    })?;
    replace(path, &new).map_err(|e| {
        ConfigError::new(path.display().to_string(), None, format!("cannot be written: {e}"))
    })
}

/// `old` with the keys set.
fn edited(old: &str, section: &str, values: &[(&str, &str)]) -> Result<String, String> {
    let before: Table = old.parse().map_err(|e: toml::de::Error| e.message().to_owned())?;
    let mut text = old.to_owned();
    for (key, value) in values {
        text = set_one(&text, section, key, value)?;
    }
    let after: Table = text.parse().map_err(|_| "cannot be changed by machine".to_owned())?;
    let mut want = before;
    let table = if section.is_empty() {
        &mut want
    } else {
        let entry = want.entry(section).or_insert_with(|| Value::Table(Table::new()));
        entry.as_table_mut().ok_or("is no table")?
    };
    for (key, value) in values {
        table.insert((*key).to_owned(), Value::String((*value).to_owned()));
    }
    if after == want { Ok(text) } else { Err("cannot be changed by machine".into()) }
}

fn set_one(text: &str, section: &str, key: &str, value: &str) -> Result<String, String> {
    let document = DeTable::parse(text).map_err(|e| e.message().to_owned())?;
    let line = format!("{key} = {}", Value::String(value.to_owned()));
    let table = if section.is_empty() {
        Some(document.get_ref())
    } else {
        document.get_ref().get(section).and_then(|item| item.get_ref().as_table())
    };
    // The parser knows where the value is; only those bytes change, so a
    // comment after it stays.
    if let Some((_, item)) = table.and_then(|t| t.get_key_value(key)) {
        let span = item.span();
        let mut out = text.to_owned();
        out.replace_range(span, &Value::String(value.to_owned()).to_string());
        return Ok(out);
    }
    let mut out = String::new();
    if section.is_empty() {
        // Above the first table, below comments that open the file.
        let at = first_table(text);
        push_line(&mut out, &text[..at]);
        push_line(&mut out, &line);
        out.push_str(&text[at..]);
        return Ok(out);
    }
    let header = document.get_ref().get_key_value(section).and_then(|(name, _)| {
        let start = text[..name.span().start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at + 1);
        let head = text[start..end].split('#').next().unwrap_or("").trim();
        (head == format!("[{section}]")).then_some(end)
    });
    match header {
        Some(end) => {
            push_line(&mut out, &text[..end]);
            push_line(&mut out, &line);
            out.push_str(&text[end..]);
        }
        None if table.is_some() => return Err("is not written as a table of its own".into()),
        None => {
            push_line(&mut out, text);
            if !out.is_empty() {
                out.push('\n');
            }
            push_line(&mut out, &format!("[{section}]\n{line}"));
        }
    }
    Ok(out)
}

/// Appends `text`, ending in a newline unless empty.
fn push_line(out: &mut String, text: &str) {
    out.push_str(text);
    if !text.is_empty() && !text.ends_with('\n') {
        out.push('\n');
    }
}

/// Where the first `[table]` line begins, else the end.
fn first_table(text: &str) -> usize {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            return at;
        }
        at += line.len();
    }
    at
}

/// Writes a sibling, syncs it, renames it over `path`. A link at `path` stays:
/// what it points to is replaced.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path: PathBuf = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(&dir)?;
    let name = format!(".config.toml.{}.tmp", std::process::id());
    let temp = dir.join(name);
    // A crashed process of the same number may have left one.
    let _ = std::fs::remove_file(&temp);
    let written = (|| {
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temp, &path)?;
        File::open(&dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(old: &str, section: &str, values: &[(&str, &str)]) -> String {
        edited(old, section, values).unwrap()
    }

    #[test]
    fn comments_and_order_stay() {
        let old = "# mine\nbackend = \"incus\" # yes\n\n[incus] # the box\nremote = \"https://a\"   # old\n# project = \"x\"\n[env]\nA = \"1\"\n";
        let new = set(old, "incus", &[("remote", "https://b"), ("client_key", "/k")]);
        let want = "# mine\nbackend = \"incus\" # yes\n\n[incus] # the box\nclient_key = \"/k\"\nremote = \"https://b\"   # old\n# project = \"x\"\n[env]\nA = \"1\"\n";
        assert_eq!(new, want);
        assert_eq!(set("", "incus", &[("a", "b")]), "[incus]\na = \"b\"\n");
        assert_eq!(set("x = 1", "incus", &[("a", "b")]), "x = 1\n\n[incus]\na = \"b\"\n");
        assert_eq!(
            set("# c\n[env]\n", "", &[("backend", "incus")]),
            "# c\nbackend = \"incus\"\n[env]\n"
        );
        assert_eq!(
            set("[incus.hardening]\nx=1\n", "", &[("b", "c")]),
            "b = \"c\"\n[incus.hardening]\nx=1\n"
        );
    }

    #[test]
    fn any_text_comes_back() {
        for value in ["a\"b", "a\\b", "a\nb", "'", "\u{1}", "é # x", "'''"] {
            let new = set("[incus]\nremote = '''\nold\n''' # c\n", "incus", &[("remote", value)]);
            let table: Table = new.parse().unwrap();
            assert_eq!(table["incus"]["remote"].as_str(), Some(value));
            assert!(new.ends_with("# c\n"));
        }
    }

    #[test]
    fn what_a_line_cannot_change_is_refused() {
        assert!(edited("incus = { remote = 'x' }\n", "incus", &[("project", "p")]).is_err());
        assert!(edited("incus.remote = 'x'\n", "incus", &[("project", "p")]).is_err());
        assert!(edited("incus = 3\n", "incus", &[("project", "p")]).is_err());
        assert!(edited("broken", "incus", &[("project", "p")]).is_err());
        // A value inside a one-line table can be replaced where it is.
        assert_eq!(
            set("incus = { remote = 'x' }\n", "incus", &[("remote", "y")]),
            "incus = { remote = \"y\" }\n"
        );
    }

    #[test]
    fn the_file_is_replaced_whole_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/config.toml");
        super::set(&path, "incus", &[("remote", "https://x")]).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        super::set(&path, "incus", &[("project", "p")]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "[incus]\nproject = \"p\"\nremote = \"https://x\"\n");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        std::fs::write(&path, "broken").unwrap();
        let err = super::set(&path, "incus", &[("project", "p")]).unwrap_err();
        assert!(err.hint.is_some());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "broken");
    }
}
