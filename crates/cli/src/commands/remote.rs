use std::io::{self, IsTerminal, Read};

use clap::{Args, Subcommand};
use pixels_core::{Error, text};
use pixels_sandbox::remote::{self, Saved, Trusted};

use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::ui::Ui;

/// Use an Incus on another machine
#[derive(Debug, Args)]
pub struct Remote {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Redeem a trust token and write the remote into the configuration
    ///
    /// The token is what `incus config trust add <name>` prints on the server.
    /// It names the server and its certificate, so nothing is sent to another
    /// one; it works once. What is needed from then on is kept below
    /// $XDG_CONFIG_HOME/pixels/incus and named in the configuration: a key pair
    /// made here, and the server's certificate.
    Trust {
        /// The token; without it, or with -, it is read from stdin, which other users cannot see
        token: Option<String>,
    },
}

/// More than a token is ever long, in bytes.
const MOST: u64 = 64 * 1024;

impl Remote {
    pub fn run(self, ctx: &Context) -> Outcome {
        let Verb::Trust { token } = self.verb;
        let token = match token {
            Some(token) if token != "-" => token,
            _ => read_token(ctx)?,
        };
        ctx.run_unopened(async |config, watch| {
            let redeemed = watch
                .supervise("asking for trust", async |_| remote::redeem(&config, &token).await);
            let trusted = redeemed.await?;
            let saved = remote::save(&config, &trusted).map_err(Failure::Config)?;
            report(watch.ui, &trusted, &saved)
        })
    }
}

fn report(ui: Ui, trusted: &Trusted, saved: &Saved) -> Outcome {
    if ui.json {
        ui.json_out(&serde_json::json!({
            "remote": trusted.remote,
            "project": trusted.project,
            "client_cert": trusted.client_cert,
            "client_key": trusted.client_key,
            "server_cert": trusted.server_cert,
            "config": saved.file,
            "already_trusted": trusted.already,
        }))?;
    } else {
        let already = if trusted.already { " already" } else { "" };
        ui.line(text::clean(&format!("{}{already} trusts this client", trusted.remote)))?;
    }
    ui.note(format!("set in {}", text::clean(&saved.file.to_string_lossy())));
    if trusted.already {
        ui.note("no token was needed: `incus config trust list-tokens` on the server shows whether this one is left");
    }
    if let Some(old) = &saved.replaced {
        ui.warn(&format!("the remote was {old} before"));
    }
    if let Some(why) = &saved.overruled {
        ui.warn(&format!("it is not used: {why}"));
    }
    Ok(0)
}

/// One line of stdin, asked for if a person sits there.
fn read_token(ctx: &Context) -> Result<String, Failure> {
    let stdin = io::stdin();
    let mut token = String::new();
    let read = if stdin.is_terminal() {
        ctx.ui.note("paste the token that `incus config trust add <name>` printed, then Enter:");
        io::BufRead::read_line(&mut stdin.lock().take(MOST), &mut token)
    } else {
        stdin.lock().take(MOST).read_to_string(&mut token)
    };
    read.map_err(|e| Error::backend("reading the token from stdin", e.to_string()))?;
    Ok(token)
}
