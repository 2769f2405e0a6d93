use clap::{Args, Subcommand};
use pixels_core::text;

use crate::context::Context;
use crate::exit::Outcome;

/// Show the configuration
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show each key with its value and where that came from; secrets are hidden
    Show,
}

impl Config {
    pub fn run(self, ctx: &Context) -> Outcome {
        let Verb::Show = self.verb;
        let config = ctx.config()?;
        let entries = config.entries();
        if ctx.ui.json {
            ctx.ui.json_out(&entries)?;
            return Ok(0);
        }
        let lines: Vec<_> = entries
            .iter()
            .map(|entry| {
                let value = match &entry.value {
                    Some(value) => text::clean(&value.to_string()),
                    None => "(unset)".to_owned(),
                };
                (format!("{} = {value}", entry.key), text::clean(&entry.source.to_string()))
            })
            .collect();
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(60);
        let mut out = String::new();
        for (line, source) in lines {
            out.push_str(&format!("{line:<width$}  # {source}\n"));
        }
        ctx.ui.out(out)?;
        Ok(0)
    }
}
