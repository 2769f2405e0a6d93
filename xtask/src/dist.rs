//! Man pages and completions. The binary writes them itself, from the same
//! definitions that it parses its arguments with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Each shell with the name under which it looks for the file.
const SHELLS: [(&str, &str); 3] = [("bash", "pixels"), ("zsh", "_pixels"), ("fish", "pixels.fish")];

/// Writes `man/*.1` and `completions/*` below `dir`.
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

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The workspace's target directory.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"),
    }
}

fn build() -> Result<PathBuf> {
    let built = cargo().args(["build", "--quiet", "--package", "pixels"]).status()?;
    if !built.success() {
        bail!("the binary does not build");
    }
    Ok(target().join("debug").join("pixels"))
}

fn output(binary: &Path, args: &[&std::ffi::OsStr]) -> Result<Vec<u8>> {
    let done = Command::new(binary).args(args).output()?;
    if !done.status.success() {
        bail!("{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(done.stdout)
}
