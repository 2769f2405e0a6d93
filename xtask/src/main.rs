//! Chores: `cargo xtask <chore>`.

mod checks;
mod demo;
mod dist;
mod docs;
mod engine;
mod full;
mod process;
mod report;
mod rig;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <chore>

  demo            a pixel's whole life on this machine, step by step
  demo incus      the same on a real Incus
  test [--quick]  every check and every test; --quick: those that need no image and no Incus
  full            the long tests and the benchmarks; writes docs/benchmarks.md
  docs [--check]  docs/config.md from the table of keys
  dist [DIR]      man pages and shell completions, to DIR (target/dist)
";

fn main() -> ExitCode {
    match chore() {
        Ok(code) => code,
        Err(e) => {
            report::line(&format!("error: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

fn chore() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["demo"] => return demo::run(demo::On::Local),
        ["demo", "incus"] => return demo::run(demo::On::Incus),
        ["test"] => return test::run(false),
        ["test", "--quick"] => return test::run(true),
        ["full"] => return full::run(),
        ["docs"] => docs::run(false)?,
        ["docs", "--check"] => docs::run(true)?,
        ["dist"] => dist::run(None)?,
        ["dist", dir] => dist::run(Some(PathBuf::from(dir)))?,
        ["help" | "--help" | "-h"] => report::line(USAGE),
        _ => bail!("no such chore\n{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}
