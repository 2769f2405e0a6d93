use std::path::PathBuf;

use clap::Args;


use super::values::Remote;
use crate::context::Context;
use crate::exit::Outcome;

/// Copy files and trees into a pixel
///
/// Names, permission bits, times and symbolic links arrive as they are; each
/// file is there whole or not at all. The pixel may be stopped. A path that is
/// not absolute starts in the home directory.
#[derive(Debug, Args)]
pub struct Push {
    /// Files and directories here
    #[arg(value_name = "SRC", required = true)]
    sources: Vec<PathBuf>,
    /// Where to put them: NAME:PATH
    #[arg(value_name = "NAME:PATH", value_parser = Remote::parser())]
    to: Remote,
}
