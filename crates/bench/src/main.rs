//! The speed figures of the Incus backend, as ratios against a floor that is
//! measured in the same run: the same REST calls on one open connection and
//! nothing else.
//!
//! `cargo xtask full` builds this optimised and gives it the `pixels` binary
//! to measure. It prints Markdown, and fails if a bound does not hold.

mod figures;
mod floor;
mod local;
mod measure;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use pixels_testkit::rig::Rig;

fn main() -> ExitCode {
    let done = run();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            report::complain(&format!("error: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let binary = std::env::args_os().nth(1).map(PathBuf::from);
    let binary = binary.context("the path of the pixels binary is the first argument")?;
    let mut only: Vec<String> = std::env::args().skip(2).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if only.first().is_some_and(|o| o == "local") {
        let figures = runtime.block_on(local::all(&binary, &only.split_off(1)))?;
        report::print(&figures);
        return Ok(figures.iter().all(|f| f.holds()));
    }
    let rig = Rig::server()?;
    runtime.block_on(async {
        let bench = measure::Bench::new(&binary, rig)?;
        let base = bench.prepare().await?;
        let figures = figures::all(&bench, &base, &only).await;
        bench.clean().await?;
        let figures = figures?;
        report::print(&figures);
        Ok(figures.iter().all(|f| f.holds()))
    })
}
