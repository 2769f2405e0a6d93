//! The commands, one a file. The doc comment of a command is its help.

mod checkpoint;
mod completions;
mod config;
mod console;
mod create;
mod destroy;
mod doctor;
mod exec;
mod forward;
mod gc;
mod image;
mod list;
mod man;
mod names;
mod network;
mod pull;
mod push;
mod remote;
mod restart;
mod run;
mod shape;
mod start;
mod stop;
mod values;

use std::io;

use clap::Subcommand;
use pixels_core::{Error, size};
use pixels_sandbox::Transferred;

use crate::context::Context;
use crate::exit::{Failure, Manner, Outcome};
use crate::ui::{Ui, count};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(create::Create),
    Run(run::Run),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(restart::Restart),
    #[command(visible_alias = "rm")]
    Destroy(destroy::Destroy),
    #[command(visible_alias = "ls")]
    List(list::List),
    Exec(exec::Exec),
    Console(console::Console),
    #[command(visible_alias = "cp")]
    Checkpoint(checkpoint::Checkpoint),
    Network(network::Network),
    Forward(forward::Forward),
    Push(push::Push),
    Pull(pull::Pull),
    Image(image::Image),
    Remote(remote::Remote),
    Doctor(doctor::Doctor),
    Gc(gc::Gc),
    Config(config::Config),
    Completions(completions::Completions),
    #[command(hide = true)]
    Man(man::Man),
}

impl Command {
    /// Which family of exit codes it has.
    pub fn manner(&self) -> Manner {
        match self {
            Self::Exec(_) | Self::Run(_) | Self::Console(_) => Manner::Proxy,
            _ => Manner::Plain,
        }
    }

    /// Does it.
    pub fn run(self, ctx: &Context) -> Outcome {
        match self {
            Self::Create(c) => c.run(ctx),
            Self::Run(c) => c.run(ctx),
            Self::Start(c) => c.run(ctx),
            Self::Stop(c) => c.run(ctx),
            Self::Restart(c) => c.run(ctx),
            Self::Destroy(c) => c.run(ctx),
            Self::List(c) => c.run(ctx),
            Self::Exec(c) => c.run(ctx),
            Self::Console(c) => c.run(ctx),
            Self::Checkpoint(c) => c.run(ctx),
            Self::Network(c) => c.run(ctx),
            Self::Forward(c) => c.run(ctx),
            Self::Push(c) => c.run(ctx),
            Self::Pull(c) => c.run(ctx),
            Self::Image(c) => c.run(ctx),
            Self::Remote(c) => c.run(ctx),
            Self::Doctor(c) => c.run(ctx),
            Self::Gc(c) => c.run(ctx),
            Self::Config(c) => c.run(ctx),
            Self::Completions(c) => c.run(ctx),
            Self::Man(c) => c.run(ctx),
        }
    }
}

/// Says what was moved.
fn transferred(ui: Ui, moved: &Transferred, direction: &str) -> Outcome {
    if ui.json {
        ui.json_out(moved)?;
    } else {
        let size = size::human(moved.bytes);
        ui.note(format!(
            "copied {}, {} and {} ({size}) {direction}",
            count(moved.files, "file"),
            count(moved.dirs, "directory"),
            count(moved.links, "link"),
        ));
    }
    Ok(0)
}

/// The terminal refused its modes.
fn terminal_failed(error: io::Error) -> Failure {
    Error::backend("the terminal", error.to_string()).into()
}
