//! Man pages and completions. The binary writes them itself, from the same
//! definitions that it parses its arguments with.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run_lines, target};
use crate::report;

/// Each shell with the name under which it looks for the file.
const SHELLS: [(&str, &str); 3] = [("bash", "pixels"), ("zsh", "_pixels"), ("fish", "pixels.fish")];

/// Writes `man/*.1` and `completions/*` below `dir`.
///
/// # Errors
/// The binary does not build, or a file cannot be written.
pub fn run(dir: Option<PathBuf>) -> Result<()> {
    let binary = build()?;
    let dir = dir.unwrap_or_else(|| target().join("dist"));
    let (man, completions) = (dir.join("man"), dir.join("completions"));
    fs::create_dir_all(&completions)
        .with_context(|| format!("making {}", completions.display()))?;
    output(&binary, &["man".as_ref(), man.as_os_str()])?;
    for (shell, name) in SHELLS {
        let text = output(&binary, &["completions".as_ref(), shell.as_ref()])?;
        let path = completions.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Builds the program for development, and says where it is.
///
/// # Errors
/// It does not build.
pub fn build() -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--locked", "--package", "pixels"]);
    if !run_lines(&mut cargo, report::line)?.success() {
        bail!("the program does not build");
    }
    Ok(target().join("debug").join("pixels"))
}

fn output(binary: &Path, args: &[&OsStr]) -> Result<Vec<u8>> {
    let done = Command::new(binary).args(args).output()?;
    if !done.status.success() {
        bail!("{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(done.stdout)
}
