//! From arguments to an exit code.

use std::ffi::OsString;
use std::io::Write as _;

use crate::args::{self, Cli, Refusal};
use crate::context::{Context, Opener};
use crate::ui::Ui;
use crate::{exit, log, tty};

/// Runs the program and leaves.
pub fn main(open: Opener) -> ! {
    let args: Vec<OsString> = std::env::args_os().collect();
    let code = match args::parse(&args) {
        Ok(cli) => run(cli, open),
        Err(refusal) => refuse(&refusal, args::wants_json(&args)),
    };
    leave(code)
}

/// Leaves at once, with the terminal as it was found. Threads that read or
/// write our streams may still be blocked; they end here too.
pub fn leave(code: u8) -> ! {
    tty::restore();
    std::process::exit(i32::from(code))
}

fn run(cli: Cli, open: Opener) -> u8 {
    log::start(cli.globals.verbose);
    let ui = cli.globals.ui();
    let manner = cli.command.manner();
    match cli.command.run(&Context::new(cli.globals, open)) {
        Ok(code) => code,
        Err(failure) => {
            tty::restore();
            ui.failure(&failure);
            failure.code(manner)
        }
    }
}

fn refuse(refusal: &Refusal, json: bool) -> u8 {
    let ui = Ui { json, quiet: false };
    match refusal {
        Refusal::Help(text) => match ui.out(text) {
            Ok(()) => 0,
            Err(failure) => {
                ui.failure(&failure);
                failure.code(exit::Manner::Plain)
            }
        },
        Refusal::Nothing(text) => {
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
            exit::usage()
        }
        Refusal::Usage { message, hint } => {
            ui.told("usage", message, Some(hint));
            exit::usage()
        }
    }
}
