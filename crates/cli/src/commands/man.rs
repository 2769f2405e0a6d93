use std::path::{Path, PathBuf};

use clap::Args;
use clap_mangen::Man as Page;
use pixels_core::{Error, Result};

use crate::args;
use crate::context::Context;
use crate::exit::Outcome;

/// Write the man pages, one a command, to a directory
#[derive(Debug, Args)]
pub struct Man {
    /// The directory; it is made if it is missing
    dir: PathBuf,
}

impl Man {
    pub fn run(self, ctx: &Context) -> Outcome {
        std::fs::create_dir_all(&self.dir).map_err(|e| failed(&self.dir, &e))?;
        let mut root = args::command();
        // Gives the commands below it their full names, and the global options.
        root.build();
        let pages = pages(&root, "pixels", &self.dir)?;
        ctx.ui.note(format!("wrote {pages} pages"));
        Ok(0)
    }
}

/// Writes the page of `command`, called `name`, and those below it.
fn pages(command: &clap::Command, name: &str, dir: &Path) -> Result<usize> {
    let path = dir.join(format!("{name}.1"));
    let mut text = Vec::new();
    Page::new(command.clone()).render(&mut text).map_err(|e| failed(&path, &e))?;
    std::fs::write(&path, text).map_err(|e| failed(&path, &e))?;
    let mut count = 1;
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        count += pages(below, &format!("{name}-{}", below.get_name()), dir)?;
    }
    Ok(count)
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::backend(format!("writing {}", path.display()), error.to_string())
}
