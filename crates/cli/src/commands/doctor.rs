use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use pixels_core::{Error, Result, Sandbox, text};
use pixels_sandbox::Pixels;
use serde::Serialize;

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

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    state: State,
    check: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn new(state: State, check: &str, detail: impl Into<String>) -> Self {
        Self { state, check: check.into(), detail: detail.into(), hint: None }
    }

    fn failed(check: &str, error: &Error) -> Self {
        // The hint of an unreachable backend names this command.
        let hint = error.hint().filter(|hint| !hint.starts_with("pixels doctor"));
        Self { hint, ..Self::new(State::Fail, check, error.to_string()) }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// How long the backend may take to answer before that is the finding.
const PATIENCE: Duration = Duration::from_secs(10);

impl Doctor {
    pub fn run(self, ctx: &Context) -> Outcome {
        let mut checks = Vec::new();
        match ctx.config() {
            Err(Failure::Config(e)) => {
                let check = Check::new(State::Fail, "configuration", e.to_string());
                checks.push(Check { hint: e.hint.clone(), ..check });
                return report(ctx.ui, &checks);
            }
            Err(other) => return Err(other),
            Ok(config) => {
                let detail = match config.file() {
                    Some(file) if file.exists() => format!("{} is good", file.display()),
                    Some(file) => format!("no {}: the defaults apply", file.display()),
                    None => "no file: the defaults apply".to_owned(),
                };
                checks.push(Check::new(State::Ok, "configuration", detail));
            }
        }
        let examined = ctx.run(async |job| {
            examine(job, self.fix, &mut checks).await?;
            report(job.ui, &checks)
        });
        match examined {
            // It could not be opened: that is a finding, not a failure of ours.
            Err(Failure::Error(error)) if checks.len() == 1 => {
                checks.push(Check::failed("backend", &error));
                report(ctx.ui, &checks)
            }
            other => other,
        }
    }
}

async fn examine(job: &mut Job, fix: bool, checks: &mut Vec<Check>) -> Result<(), Failure> {
    let pixels = job.pixels.clone();
    let backend = pixels.backend();
    let choice = pixels.choice();
    let chosen = format!("{}, because {}", choice.backend, choice.why);
    checks.push(Check::new(State::Ok, "backend", chosen));
    job.operate("examining the backend", async |_| {
        if let Some(reached) = reach(&pixels, checks).await {
            images(backend.as_ref(), checks).await;
            lifetimes(&pixels, fix, reached, checks).await;
        }
        Ok(())
    })
    .await?;
    abilities(backend.as_ref(), checks);
    Ok(())
}

/// Whether the backend answers; with how many pixels past their time.
async fn reach(pixels: &Pixels, checks: &mut Vec<Check>) -> Option<usize> {
    let begun = Instant::now();
    let listed = match tokio::time::timeout(PATIENCE, pixels.list()).await {
        Ok(listed) => listed,
        Err(_) => Err(Error::Timeout { what: "listing pixels".into(), after: PATIENCE }),
    };
    match listed {
        Ok(all) => {
            let millis = begun.elapsed().as_secs_f64() * 1000.0;
            let running = all.iter().filter(|i| i.status.is_running()).count();
            let detail = format!(
                "answers in {millis:.0} ms: {}, {running} running",
                count(all.len() as u64, "pixel")
            );
            checks.push(Check::new(State::Ok, "connection", detail));
            let now = Timestamp::now();
            Some(all.iter().filter(|i| i.meta.expires_at.is_some_and(|at| at <= now)).count())
        }
        Err(error) => {
            checks.push(Check::failed("connection", &error));
            None
        }
    }
}

async fn images(backend: &dyn Sandbox, checks: &mut Vec<Check>) {
    checks.push(match backend.list_images().await {
        Ok(images) if images.is_empty() => {
            Check::new(State::Ok, "images", "none at hand: the first create fetches its image")
        }
        Ok(images) => Check::new(State::Ok, "images", format!("{} at hand", images.len())),
        Err(error) => Check::failed("images", &error),
    });
}

/// What is past its time, and with `fix` what was left behind.
async fn lifetimes(pixels: &Pixels, fix: bool, expired: usize, checks: &mut Vec<Check>) {
    if !fix {
        checks.push(match expired {
            0 => Check::new(State::Ok, "lifetimes", "no pixel is past its time"),
            n => Check::new(
                State::Warn,
                "lifetimes",
                format!("{} past its time", count(n as u64, "pixel")),
            )
            .hint("pixels gc (or pixels doctor --fix) destroys them"),
        });
        return;
    }
    match pixels.gc(Timestamp::now()).await {
        Ok(report) => {
            let gone = report.expired.iter().filter(|o| o.result.is_ok()).count();
            let detail = format!(
                "destroyed {} past its time, removed {}",
                count(gone as u64, "pixel"),
                count(report.swept.len() as u64, "leftover")
            );
            checks.push(Check::new(State::Ok, "lifetimes", detail));
            for outcome in &report.expired {
                if let Err(error) = &outcome.result {
                    checks.push(Check::failed("lifetimes", error));
                }
            }
        }
        Err(error) => checks.push(Check::failed("lifetimes", &error)),
    }
}

/// What the backend cannot do, or does with a loss.
fn abilities(backend: &dyn Sandbox, checks: &mut Vec<Check>) {
    let can = backend.capabilities();
    if !can.egress_control {
        let detail = "restricted egress modes are not supported: every pixel is unrestricted";
        checks.push(Check::new(State::Warn, "egress", detail));
    }
    for (what, note) in &can.notes {
        checks.push(Check::new(State::Warn, what, note));
    }
}

fn report(ui: Ui, checks: &[Check]) -> Outcome {
    if ui.json {
        ui.json_out(&checks)?;
    } else {
        let width = checks.iter().map(|c| c.check.chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for c in checks {
            let state = match c.state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "fail",
            };
            let check = text::clean(&c.check);
            out.push_str(&format!("{state:<4}  {check:<width$}  {}\n", text::clean(&c.detail)));
            if let Some(hint) = &c.hint {
                out.push_str(&format!("{:<width$}        hint: {}\n", "", text::clean(hint)));
            }
        }
        ui.out(out)?;
    }
    exit::all(checks.iter().all(|c| c.state != State::Fail))
}
