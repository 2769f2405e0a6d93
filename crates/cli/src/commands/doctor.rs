use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use pixels_core::{Error, Finding, Instance, Level, Sandbox, text};
use pixels_sandbox::Pixels;

use crate::context::{Context, Job};
use crate::exit::{self, Failure, Outcome};
use crate::ui::{Ui, count};

/// Say what works, what does not, and how to mend it
///
/// Exits with 1 if something does not work.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Mend what can be mended: remove what interrupted commands left, and pixels past their --ttl
    #[arg(long)]
    fix: bool,
}

/// How long the backend may take to answer before that is the finding.
const PATIENCE: Duration = Duration::from_secs(30);

/// What went wrong, as a finding.
fn failed(check: &str, error: &Error) -> Finding {
    let finding = Finding::new(Level::Fail, check, error.to_string());
    // The hint of an unreachable backend names this command.
    match error.hint().filter(|hint| !hint.starts_with("pixels doctor")) {
        Some(hint) => finding.with_hint(hint),
        None => finding,
    }
}

impl Doctor {
    pub fn run(self, ctx: &Context) -> Outcome {
        let mut checks = Vec::new();
        match ctx.config() {
            Err(Failure::Config(e)) => {
                let finding = Finding::new(Level::Fail, "configuration", e.to_string());
                checks.push(Finding { hint: e.hint, ..finding });
                return report(ctx.ui, &checks);
            }
            Err(other) => return Err(other),
            Ok(config) => {
                let detail = match config.file() {
                    Some(file) if file.exists() => format!("{} is good", file.display()),
                    Some(file) => format!("no {}: the defaults apply", file.display()),
                    None => "no file: the defaults apply".to_owned(),
                };
                checks.push(Finding::new(Level::Ok, "configuration", detail));
            }
        }
        let examined = ctx.run(async |job| {
            examine(job, self.fix, &mut checks).await?;
            report(job.ui, &checks)
        });
        match examined {
            // It could not be opened: that is a finding, not a failure of ours.
            Err(Failure::Error(error)) if checks.len() == 1 => {
                checks.push(failed("backend", &error));
                report(ctx.ui, &checks)
            }
            other => other,
        }
    }
}

async fn examine(job: &mut Job<'_>, fix: bool, checks: &mut Vec<Finding>) -> Result<(), Failure> {
    let pixels = job.pixels.clone();
    let backend = pixels.backend();
    let choice = pixels.choice();
    let chosen = format!("{}, because {}", choice.backend, choice.why);
    checks.push(Finding::new(Level::Ok, "backend", chosen));
    let asked = job
        .operate("examining the backend", async |_| {
            match tokio::time::timeout(PATIENCE, backend.doctor(fix)).await {
                Ok(findings) => Ok(findings),
                Err(_) => Err(Error::Timeout { what: choice.backend.clone(), after: PATIENCE }),
            }
        })
        .await;
    match asked {
        Ok(findings) => checks.extend(findings),
        Err(Failure::Error(error)) => checks.push(failed("connection", &error)),
        Err(other) => return Err(other),
    }
    if checks.iter().all(|c| c.level != Level::Fail) {
        job.operate("looking at the pixels", async |_| {
            lifetimes(&pixels, fix, checks).await;
            Ok(())
        })
        .await?;
    }
    abilities(backend.as_ref(), checks);
    Ok(())
}

/// What is past its time; with `fix` it is destroyed, with what was left behind.
async fn lifetimes(pixels: &Pixels, fix: bool, checks: &mut Vec<Finding>) {
    const CHECK: &str = "pixels";
    let now = Timestamp::now();
    if fix {
        match pixels.gc(now).await {
            Ok(report) => {
                let gone = report.expired.iter().filter(|o| o.result.is_ok()).count();
                let detail = format!(
                    "destroyed {} past its time, removed {}",
                    count(gone as u64, "pixel"),
                    count(report.swept.len() as u64, "leftover")
                );
                checks.push(Finding::new(Level::Ok, CHECK, detail));
                let errors = report.expired.iter().filter_map(|o| o.result.as_ref().err());
                checks.extend(errors.map(|error| failed(CHECK, error)));
            }
            Err(error) => checks.push(failed(CHECK, &error)),
        }
        return;
    }
    checks.push(match pixels.list().await {
        Err(error) => failed(CHECK, &error),
        Ok(all) => {
            let past = |i: &Instance| i.meta.expires_at.is_some_and(|at| at <= now);
            let running = all.iter().filter(|i| i.status.is_running()).count();
            let detail = format!("{}, {running} running", count(all.len() as u64, "pixel"));
            match all.iter().filter(|i| past(i)).count() {
                0 => Finding::new(Level::Ok, CHECK, detail),
                n => Finding::new(Level::Warn, CHECK, format!("{detail}, {n} past its time"))
                    .with_hint("pixels gc (or pixels doctor --fix) destroys what is past its time"),
            }
        }
    });
}

/// What the backend cannot do, or does with a loss.
fn abilities(backend: &dyn Sandbox, checks: &mut Vec<Finding>) {
    let can = backend.capabilities();
    if !can.egress_control {
        let detail = "restricted egress modes are not supported: every pixel is unrestricted";
        checks.push(Finding::new(Level::Warn, "egress", detail));
    }
    for (what, note) in &can.notes {
        // The backend's own findings may have said more about it.
        if !checks.iter().any(|c| c.check == *what && c.level > Level::Ok) {
            checks.push(Finding::new(Level::Warn, what, note));
        }
    }
}

fn report(ui: Ui, checks: &[Finding]) -> Outcome {
    if ui.json {
        ui.json_out(&checks)?;
    } else {
        let width = checks.iter().map(|c| c.check.chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for c in checks {
            let state = match c.level {
                Level::Ok => "ok",
                Level::Warn => "warn",
                Level::Fail => "fail",
            };
            let check = text::clean(&c.check);
            out.push_str(&format!("{state:<4}  {check:<width$}  {}\n", text::clean(&c.detail)));
            if let Some(hint) = &c.hint {
                out.push_str(&format!("{:<width$}        hint: {}\n", "", text::clean(hint)));
            }
        }
        ui.out(out)?;
    }
    exit::all(checks.iter().all(|c| c.level != Level::Fail))
}
