use clap::{Args, Subcommand};
use pixels_core::{EgressMode, Name};

use crate::context::Context;
use crate::exit::Outcome;

/// Show and change what a pixel may reach
#[derive(Debug, Args)]
pub struct Network {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show a pixel's egress policy
    Show {
        /// The pixel
        #[arg(value_name = "NAME")]
        name: Name,
    },
    /// Set a pixel's egress mode
    Set {
        /// The pixel
        #[arg(value_name = "NAME")]
        name: Name,
        /// unrestricted, agent or allowlist
        #[arg(value_name = "MODE")]
        mode: EgressMode,
    },
    /// Allow a domain
    Allow {
        /// The pixel
        #[arg(value_name = "NAME")]
        name: Name,
        /// The domain
        #[arg(value_name = "DOMAIN")]
        domain: String,
    },
    /// Take an allowed domain back
    Deny {
        /// The pixel
        #[arg(value_name = "NAME")]
        name: Name,
        /// The domain
        #[arg(value_name = "DOMAIN")]
        domain: String,
    },
}

impl Network {
    pub fn run(self, ctx: &Context) -> Outcome {
        ctx.run(async |job| {
            let pixels = job.pixels.clone();
            let sandbox = pixels.backend();
            match &self.verb {
                Verb::Show { name } => {
                    let policy = job
                        .operate("asking for the policy", async |_| sandbox.get_policy(name).await)
                        .await?;
                    if job.ui.json {
                        job.ui.json_out(&policy)?;
                        return Ok(0);
                    }
                    job.ui.line(format!("mode: {}", policy.mode))?;
                    for domain in &policy.domains {
                        job.ui.line(format!("allow: {}", pixels_core::text::clean(domain)))?;
                    }
                }
                Verb::Set { name, mode } => {
                    job.operate("setting the mode", async |_| {
                        sandbox.set_egress_mode(name, *mode).await
                    })
                    .await?;
                    job.ui.note(format!("{name}: egress is {mode}"));
                }
                Verb::Allow { name, domain } => {
                    job.operate("allowing", async |_| sandbox.allow_domain(name, domain).await)
                        .await?;
                    job.ui.note(format!("{name}: {domain} is allowed"));
                }
                Verb::Deny { name, domain } => {
                    job.operate("denying", async |_| sandbox.deny_domain(name, domain).await)
                        .await?;
                    job.ui.note(format!("{name}: {domain} is no longer allowed"));
                }
            }
            Ok(0)
        })
    }
}
