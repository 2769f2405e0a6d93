use std::io::Read;

use clap::{Args, Subcommand};
use pixels_core::{Error, text};
use pixels_sandbox::trust_remote;

use crate::context::Context;
use crate::exit::Outcome;

/// Use an Incus daemon on another machine
#[derive(Debug, Args)]
pub struct Remote {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Become a client that a daemon trusts, and use that daemon from now on
    ///
    /// The token is what `incus config trust add NAME` prints on the daemon's
    /// machine. It makes a key pair, has the daemon trust it, pins the daemon's
    /// certificate and writes all that to the configuration.
    Trust {
        /// The token; - reads it from stdin, where no other user can see it
        #[arg(value_name = "TOKEN")]
        token: String,
    },
}

/// Longer than any token.
const MAX_TOKEN: u64 = 64 * 1024;

impl Remote {
    pub fn run(self, ctx: &Context) -> Outcome {
        let Verb::Trust { mut token } = self.verb;
        if token == "-" {
            token.clear();
            std::io::stdin()
                .take(MAX_TOKEN)
                .read_to_string(&mut token)
                .map_err(|e| Error::backend("reading the token", e.to_string()))?;
        }
        ctx.run_unopened(async |config, watch| {
            let trusted = watch
                .operate("becoming trusted", async |_| trust_remote(&config, &token).await)
                .await?;
            if watch.ui.json {
                watch.ui.json_out(&trusted)?;
            } else {
                watch.ui.line(text::clean(&trusted.remote))?;
            }
            watch.ui.note(format!("wrote {}", trusted.config.display()));
            Ok(0)
        })
    }
}
