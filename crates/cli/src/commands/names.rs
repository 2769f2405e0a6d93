//! Several pixels at once.

use clap::Args;
use pixels_core::Name;

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
    /// The names given, each once; `None` for all pixels.
    pub fn given(&self) -> Option<Vec<Name>> {
        if self.all {
            return None;
        }
        let mut names = self.names.clone();
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Some(names)
    }
}
