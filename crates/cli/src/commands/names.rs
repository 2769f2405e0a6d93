//! Several pixels at once.

use clap::Args;
use pixels_core::{Instance, Name};
use pixels_sandbox::{Outcome, Pixels, Targets};

use crate::ui::Ui;

/// Which pixels: by name, or all of them.
#[derive(Debug, Args)]
pub struct Names {
    /// The pixels
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    names: Vec<Name>,
    /// All pixels
    #[arg(long)]
    all: bool,
}

impl Names {
    /// Those.
    pub fn targets(self) -> Targets {
        if self.all { Targets::All } else { Targets::Names(self.names) }
    }

    /// A verb with its object, for progress: `stopping a, b`.
    pub fn phrase(&self, verb: &str) -> String {
        if self.all {
            return format!("{verb} all pixels");
        }
        phrase(verb, &self.names)
    }
}

/// A verb with its object: `creating a, b`.
pub fn phrase(verb: &str, names: &[Name]) -> String {
    let names: Vec<_> = names.iter().map(Name::as_str).collect();
    format!("{verb} {}", names.join(", "))
}

/// Reports what failed, each on its own; gives what worked, and whether all did.
pub fn settle<T>(ui: Ui, outcomes: Vec<Outcome<T>>) -> (Vec<(Name, T)>, bool) {
    let several = outcomes.len() > 1;
    let (mut done, mut all) = (Vec::new(), true);
    for Outcome { name, result } in outcomes {
        match result {
            Ok(value) => done.push((name, value)),
            Err(error) => {
                all = false;
                let message = error.to_string();
                let named = message.contains(&format!("{:?}", name.as_str()));
                let message =
                    if several && !named { format!("{name}: {message}") } else { message };
                ui.told(error.code(), &message, error.hint().as_deref());
            }
        }
    }
    (done, all)
}

/// What stands for the address of a running pixel that has none for this host.
pub const UNROUTABLE: &str = "not routable";

/// Whether this host cannot reach the backend's pixels under addresses.
pub fn unroutable(pixels: &Pixels) -> bool {
    !pixels.backend().capabilities().routable
}

/// Where a pixel is reached, in brackets; nothing where that is not known.
pub fn place(instance: &Instance, unroutable: bool) -> String {
    match instance.addresses.first() {
        Some(ip) => format!(" ({ip})"),
        None if unroutable => format!(" ({UNROUTABLE}: pixels forward reaches it)"),
        None => String::new(),
    }
}
