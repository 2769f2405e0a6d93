//! A pixel's `/etc/environment`: the stored variables of `[env]` and of `create --env`.

use pixels_core::{Bytes, Error, Name, Reader, Result, Sandbox, WriteOpts};
use tokio::io::AsyncReadExt;

use super::CreateRequest;
use crate::config::{Config, Environ, VarValue};

/// The file, as PAM and every login know it.
const PATH: &[u8] = b"/etc/environment";
/// The largest one that is read, in bytes. It belongs to the guest.
const MAX: u64 = 1 << 20;

/// The variables that a new pixel is to hold, the last of a name counting.
///
/// # Errors
/// `Invalid` for one that the file cannot hold, or for `--env` together with `--no-provision`.
pub(super) fn wanted(config: &Config, req: &CreateRequest) -> Result<Vec<(Bytes, Bytes)>> {
    if req.no_provision {
        return match req.env.first() {
            None => Ok(Vec::new()),
            Some((name, _)) => Err(Error::invalid(
                "variable",
                &String::from_utf8_lossy(name),
                "--no-provision leaves the pixel's files alone, --env changes one",
            )),
        };
    }
    let mut vars: Vec<(Bytes, Bytes)> = Vec::new();
    // A clone has its source's; only what is asked for now is added.
    if config.provision.enabled && req.from.is_none() {
        for var in &config.vars {
            if let VarValue::Stored(text) = &var.value {
                let value = expand(text.expose(), config.environ());
                vars.push((var.name.clone().into_bytes(), value));
            }
        }
    }
    for (name, value) in &req.env {
        vars.retain(|(known, _)| known != name);
        vars.push((name.clone(), value.clone()));
    }
    for (name, value) in &vars {
        let odd = |b: &u8| matches!(b, b'\n' | b'\r' | 0);
        let refuse = |rule| Err(Error::invalid("variable", &String::from_utf8_lossy(name), rule));
        let letters = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        if !name.iter().all(letters) || name.first().is_none_or(u8::is_ascii_digit) {
            return refuse("/etc/environment holds names of letters, digits and _");
        }
        if value.iter().any(odd) {
            return refuse("/etc/environment holds values of one line");
        }
    }
    Ok(vars)
}

/// `$NAME` and `${NAME}` replaced by the host's values; one that is unset by nothing.
fn expand(text: &str, environ: &Environ) -> Bytes {
    use std::os::unix::ffi::OsStrExt;
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let tail = &rest[at + 1..];
        let (name, after) = match tail.strip_prefix('{').and_then(|t| t.split_once('}')) {
            Some((name, after)) => (name, after),
            None => tail.split_at(tail.bytes().take_while(|b| is_word(*b)).count()),
        };
        if name.is_empty() || !name.bytes().all(is_word) {
            out.push(b'$');
            rest = tail;
            continue;
        }
        out.extend_from_slice(environ.raw(name).map_or(b"", OsStrExt::as_bytes));
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Sets `vars` in the pixel's file and keeps what else it holds.
pub(super) async fn write(
    backend: &dyn Sandbox,
    name: &Name,
    vars: &[(Bytes, Bytes)],
) -> Result<()> {
    let session = backend.files(name).await?;
    let mut old = Vec::new();
    match session.open_read(PATH).await {
        Ok((_, reader)) => {
            let read = reader.take(MAX + 1).read_to_end(&mut old).await;
            read.map_err(|e| Error::backend("read /etc/environment", e.to_string()))?;
            if old.len() as u64 > MAX {
                return Err(Error::backend("read /etc/environment", "larger than 1 MiB"));
            }
        }
        Err(e) if e.is_not_found() => {}
        Err(e) => return Err(e),
    }
    let content: Reader = Box::pin(std::io::Cursor::new(merge(&old, vars)));
    session.write(PATH, content, WriteOpts::default()).await.map(drop)
}

fn merge(old: &[u8], vars: &[(Bytes, Bytes)]) -> Bytes {
    let mut out = Vec::new();
    for line in old.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let name = line.split(|b| *b == b'=').next().unwrap_or(line);
        if !vars.iter().any(|(known, _)| known == name.trim_ascii()) {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
    }
    for (name, value) in vars {
        out.extend_from_slice(name);
        out.push(b'=');
        // PAM drops one pair of quotes and the blanks at both ends, and knows no escapes.
        let quote = value.trim_ascii() != value.as_slice()
            || value.first().is_some_and(|b| matches!(b, b'"' | b'\''));
        let mark: &[u8] = if quote { b"\"" } else { b"" };
        out.extend_from_slice(mark);
        out.extend_from_slice(value);
        out.extend_from_slice(mark);
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion() {
        let environ: Environ = [("A", "1"), ("B_2", "two")].into_iter().collect();
        for (text, want) in [
            ("$A", "1"),
            ("${A}x$B_2", "1xtwo"),
            ("$NOPE.", "."),
            ("5$", "5$"),
            ("$ A", "$ A"),
            ("${A", "${A"),
            ("$$A", "$1"),
        ] {
            assert_eq!(expand(text, &environ), want.as_bytes(), "{text}");
        }
    }

    #[test]
    fn merging_keeps_the_rest() {
        let vars = vec![(b"A".to_vec(), b"new".to_vec()), (b"C".to_vec(), b" c".to_vec())];
        let merged = merge(b"PATH=\"/bin\"\nA=old\n# A=x", &vars);
        assert_eq!(merged, b"PATH=\"/bin\"\n# A=x\nA=new\nC=\" c\"\n");
    }
}
