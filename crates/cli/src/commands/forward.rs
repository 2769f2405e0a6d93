use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;
use pixels_core::{Error, Name, Signal};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Failure, Outcome};

/// Reach a port that listens on a pixel's own 127.0.0.1
///
/// Listens on 127.0.0.1 here until Ctrl-C, prints where, and passes every
/// connection on. A connection that nothing listens for inside is closed, and
/// stderr says so.
#[derive(Debug, Args)]
pub struct Forward {
    /// The pixel
    #[arg(value_name = "NAME")]
    name: Name,
    /// The port here (0 for any) and the one in the pixel; one number is both
    #[arg(value_name = "LOCAL:REMOTE", value_parser = Ports::parse)]
    ports: Ports,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    local: u16,
    remote: u16,
}

impl Ports {
    fn parse(raw: &str) -> Result<Self, Error> {
        let port = |raw: &str| raw.bytes().all(|b| b.is_ascii_digit()).then(|| raw.parse().ok())?;
        let (local, remote) = raw.split_once(':').unwrap_or((raw, raw));
        match (port(local), port(remote)) {
            (Some(local), Some(remote)) if remote > 0 => Ok(Self { local, remote }),
            _ => Err(Error::invalid(
                "ports",
                raw,
                "ports are LOCAL:REMOTE or one number for both, each 1 to 65535; LOCAL may be 0",
            )),
        }
    }
}

#[derive(Serialize)]
struct Listening<'a> {
    name: &'a str,
    local: String,
    remote: u16,
}

impl Forward {
    pub fn run(self, ctx: &Context) -> Outcome {
        let Self { name, ports } = self;
        ctx.run(async |job| {
            let (pixels, ui) = (job.pixels.clone(), job.ui);
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.local));
            let forward = job
                .operate(&format!("reaching {name}"), async |_| {
                    pixels.forward(&name, local, ports.remote).await
                })
                .await?;
            let local = forward.local_addr()?.to_string();
            if ui.json {
                let remote = ports.remote;
                ui.json_out(&Listening { name: name.as_str(), local, remote })?;
            } else {
                ui.line(&local)?;
                ui.note(format!("leads to port {} of {name} until Ctrl-C", ports.remote));
            }
            let tell = |error: &Error| ui.warn(&error.to_string());
            let signal = tokio::select! {
                biased;
                served = forward.serve(tell) => match served? {},
                signal = job.watch.signals.end() => signal,
            };
            // Ctrl-C is how this ends well.
            if signal == Signal::INT { Ok(0) } else { Err(Failure::Interrupted(signal.0)) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_both() {
        assert_eq!(Ports::parse("8080").unwrap(), Ports { local: 8080, remote: 8080 });
        assert_eq!(Ports::parse("0:80").unwrap(), Ports { local: 0, remote: 80 });
        for bad in ["", ":", "1:", ":1", "1:2:3", "-1", "65536", "1:0", " 1", "a"] {
            assert!(Ports::parse(bad).is_err(), "{bad}");
        }
    }
}
