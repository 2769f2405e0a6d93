//! The few programs of the host that are used.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pixels_core::{Error, Result, text};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::LOCAL;

/// Looked in after PATH: ordinary users seldom have them there.
const SYSTEM: &str = "/usr/sbin:/sbin:/usr/bin:/bin";
/// Longer than any of them takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// As much of a complaint as a message holds.
const COMPLAINT: usize = 600;

/// Where a program is.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all: Vec<_> = std::env::split_paths(&path).chain(std::env::split_paths(SYSTEM)).collect();
    all.into_iter().filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|file| {
        file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

/// Where a program is that `op` cannot do without.
///
/// # Errors
/// `Unsupported` with the package that has it.
pub(super) fn need(name: &str, package: &str, op: &str) -> Result<PathBuf> {
    find(name).ok_or_else(|| {
        Error::unsupported(LOCAL, format!("{op} without {name}")).with_hint(format!(
            "apt install {package}; --network none makes pixels without a network"
        ))
    })
}

/// Runs a program to its end with `input` on its stdin; its stdout.
///
/// # Errors
/// What it said, if it failed; `Timeout`.
pub(super) async fn run(mut command: Command, what: &str, input: &[u8]) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::backend(what, e.to_string());
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
    let mut stdin = child.stdin.take();
    let work = async {
        let feed = async {
            if let Some(mut stdin) = stdin.take() {
                // It may end without reading all: its exit status says why.
                let _ = stdin.write_all(input).await;
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), feed);
        output
    };
    let output = tokio::time::timeout(PATIENCE, work)
        .await
        .map_err(|_| Error::Timeout { what: what.into(), after: PATIENCE })?
        .map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = text::clean_bytes(&output.stderr);
    let said: String = said.trim().chars().take(COMPLAINT).collect();
    let said = if said.is_empty() { format!("it ended with {}", output.status) } else { said };
    Err(Error::backend(what, said))
}
