//! Chores: `cargo xtask <chore>`.

mod dist;

use std::path::PathBuf;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <chore>

  dist [DIR]   man pages and shell completions, to DIR (target/dist)
";

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let chore = args.next();
    match chore.as_ref().and_then(|c| c.to_str()) {
        Some("dist") => dist::run(args.next().map(PathBuf::from)),
        _ => bail!("{USAGE}"),
    }
}
