//! The test rig: a real Incus of its own, or the one that
//! `PIXELS_TEST_INCUS_SOCKET` names. See rig/README.md.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{root, run_lines, target};
use crate::report;

/// A rig of this checkout's, taken down by [`Rig::down`].
pub struct Rig {
    id: OsString,
    dir: PathBuf,
    /// Held while the rig is used: a second run in this checkout waits.
    _lock: File,
}

/// What a rig can be used for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Server,
    Cluster,
}

/// Whether a rig can be had: why not otherwise.
pub fn possible(part: Part) -> Result<(), String> {
    if external() {
        return match part {
            Part::Server => Ok(()),
            Part::Cluster => Err("PIXELS_TEST_INCUS_SOCKET is set: that Incus is yours".into()),
        };
    }
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err("bringing up an Incus needs root; hint: run it as root, or set \
         PIXELS_TEST_INCUS_SOCKET to the socket of an Incus of your own"
        .into())
}

/// Whether the Incus is somebody's own.
pub fn external() -> bool {
    std::env::var_os("PIXELS_TEST_INCUS_SOCKET").is_some_and(|v| !v.is_empty())
}

impl Rig {
    /// Reserves this checkout's rig for `what`; nothing is brought up yet. One
    /// that an earlier run left is taken over, and mended where it is broken.
    ///
    /// # Errors
    /// The target directory cannot be written to.
    pub fn reserve(what: &str) -> Result<Self> {
        let dir = target().join("rig").join(what);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let lock = File::create(dir.join("lock"))?;
        if lock.try_lock().is_err() {
            report::line(&format!("waiting for another `cargo xtask {what}` of this checkout"));
            lock.lock()?;
        }
        let id =
            std::env::var_os("PIXELS_RIG_ID").filter(|id| !id.is_empty()).unwrap_or_else(|| {
                let mut hash = DefaultHasher::new();
                root().hash(&mut hash);
                format!("{what}-{:08x}", hash.finish() as u32).into()
            });
        Ok(Self { id, dir, _lock: lock })
    }

    /// Brings a part up. Answers its variables and the file they are in.
    ///
    /// # Errors
    /// `rig/up` has said why on stderr.
    pub fn up(&self, part: Part) -> Result<(BTreeMap<String, String>, PathBuf)> {
        let (verb, file) = match part {
            Part::Server => ("server", self.dir.join("server.env")),
            Part::Cluster => ("cluster", self.dir.join("cluster.env")),
        };
        let mut text = String::new();
        let status = run_lines(self.script("up").arg(verb), |line| {
            text.push_str(line);
            text.push('\n');
        })?;
        if !status.success() {
            bail!("rig/up {verb} failed ({status})");
        }
        write_private(&file, &text)?;
        Ok((variables(&text)?, file))
    }

    /// Takes everything down that was brought up.
    ///
    /// # Errors
    /// `rig/down` has said why on stderr.
    pub fn down(&self) -> Result<()> {
        let status = run_lines(self.script("down").arg("all"), report::line)?;
        if !status.success() {
            bail!("rig/down failed ({status})");
        }
        Ok(())
    }

    /// The rig's id for the tests, which may restart it.
    pub fn id(&self) -> &OsString {
        &self.id
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(root().join("rig").join(name));
        command.env("PIXELS_RIG_ID", &self.id);
        command
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// `NAME=value` and `NAME='value'` lines.
fn variables(text: &str) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (name, value) =
            line.split_once('=').with_context(|| format!("not a variable: {line}"))?;
        let bare = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\''));
        let value = bare.map_or_else(|| value.to_owned(), |v| v.replace("'\\''", "'"));
        all.insert(name.to_owned(), value);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::variables;

    #[test]
    fn variables_are_unquoted() {
        let all = variables("A=b\nC='d e'\nF='it'\\''s'\n").unwrap();
        assert_eq!(all["A"], "b");
        assert_eq!(all["C"], "d e");
        assert_eq!(all["F"], "it's");
        assert!(variables("what").is_err());
    }
}
