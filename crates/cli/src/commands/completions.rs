use clap::Args;
use clap_complete::Shell;

use crate::args;
use crate::context::Context;
use crate::exit::Outcome;

/// Print shell completions
///
/// For bash: pixels completions bash > ~/.local/share/bash-completion/completions/pixels
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub fn run(self, ctx: &Context) -> Outcome {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut args::command(), "pixels", &mut text);
        ctx.ui.out(text)?;
        Ok(0)
    }
}
