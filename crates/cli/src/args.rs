//! What can be said on the command line, and how it is refused.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::{Args, CommandFactory as _, Parser};
use pixels_core::Error;

use crate::commands::Command;
use crate::ui::Ui;

/// Disposable Linux machines for AI coding agents, on hardware you own.
///
/// A pixel is a container that comes up in well under a second, can be
/// checkpointed, cloned and thrown away.
///
/// Results go to stdout; everything else goes to stderr. Exit codes: 0 it
/// worked, 1 it failed, 2 the arguments are wrong; exec, run and console exit
/// with the command's own code, or 125 for a failure of pixels itself.
#[derive(Debug, Parser)]
#[command(
    name = "pixels",
    bin_name = "pixels",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Say more on stderr; -vv and -vvv say still more
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Print results, and errors, as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// The backend to use: incus
    #[arg(long, global = true, value_name = "NAME")]
    pub backend: Option<String>,
    /// The configuration file, instead of $XDG_CONFIG_HOME/pixels/config.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Globals {
    /// How to speak.
    pub fn ui(&self) -> Ui {
        Ui { json: self.json, quiet: self.quiet }
    }
}

/// The whole command line, for completions and man pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Help that was asked for, or what is wrong with the arguments.
#[derive(Debug)]
pub enum Refusal {
    /// Text for stdout.
    Help(String),
    /// Text for stderr: nothing was asked at all.
    Nothing(String),
    /// The arguments are wrong.
    Usage {
        /// In one line.
        message: String,
        /// The next step.
        hint: String,
    },
}

/// Parses the arguments.
///
/// # Errors
/// Help, or what is wrong.
pub fn parse(args: &[OsString]) -> Result<Cli, Refusal> {
    Cli::try_parse_from(args).map_err(|e| refuse(&e, args))
}

/// Whether `--json` is among arguments that could not be parsed.
pub fn wants_json(args: &[OsString]) -> bool {
    args.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

fn refuse(error: &clap::Error, args: &[OsString]) -> Refusal {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Refusal::Help(text),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return Refusal::Nothing(text),
        _ => {}
    }
    // A value that one of our own rules refused speaks for itself.
    let source = std::error::Error::source(error);
    if let Some(ours) = source.and_then(|s| s.downcast_ref::<Error>()) {
        let hint = ours.hint().unwrap_or_else(|| help_hint(args));
        return Refusal::Usage { message: ours.to_string(), hint };
    }
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first: Vec<&str> =
        text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let hint = match (tip, error.get(ContextKind::Usage)) {
        (Some(tip), _) => tip.to_owned(),
        (None, _) => help_hint(args),
    };
    Refusal::Usage { message: first.join(" "), hint }
}

/// The command to ask, of those that were named.
fn help_hint(args: &[OsString]) -> String {
    let mut at = command();
    let mut path = String::from("pixels");
    for arg in args.iter().skip(1).take_while(|arg| *arg != "--") {
        let Some(next) = arg.to_str().and_then(|arg| at.find_subcommand(arg)) else { continue };
        path.push(' ');
        path.push_str(next.get_name());
        at = next.clone();
    }
    format!("{path} --help shows how it is used")
}
