//! The conformance suite on a real Incus: over its socket, over HTTPS with a
//! pinned certificate, in a restricted project, and on a cluster.
//!
//! `PIXELS_CONFORMANCE` picks subjects by name, separated by commas; without
//! it the socket and HTTPS run. A subject that is not picked says so.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use pixels_core::Settings;
use pixels_incus::Incus;
use pixels_testkit::rig::Rig;
use pixels_testkit::{Skip, Subject, Suite};

fn picked(name: &str) -> Result<()> {
    let list = std::env::var("PIXELS_CONFORMANCE").unwrap_or_else(|_| "socket,https".into());
    if list.split(',').any(|p| p == name || p == "all") {
        return Ok(());
    }
    Err(Skip(format!("PIXELS_CONFORMANCE={list} leaves {name} out")).into())
}

fn subject(pairs: &[(&str, String)], image: &str) -> Result<Subject> {
    let mut settings: Settings = pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    settings.insert("memory".into(), (512u64 << 20).to_string());
    Ok(Subject::new(Arc::new(Incus::new(&settings)?)).image(image))
}

fn socket() -> Result<Subject> {
    picked("socket")?;
    let rig = Rig::server()?;
    subject(&[("socket", rig.socket()?.display().to_string())], rig.image()?)
}

fn remote(remote: &str, rig: &Rig) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("remote", remote.to_owned()),
        ("client_cert", rig.client_cert()?.display().to_string()),
        ("client_key", rig.client_key()?.display().to_string()),
        ("server_cert", rig.server_cert()?.display().to_string()),
    ])
}

fn https() -> Result<Subject> {
    picked("https")?;
    let rig = Rig::server()?;
    subject(&remote(rig.https()?, rig)?, rig.image()?)
}

fn restricted() -> Result<Subject> {
    picked("restricted")?;
    let rig = Rig::server()?;
    let mut pairs = remote(rig.https()?, rig)?;
    pairs.push(("project", rig.restricted_project()?.to_owned()));
    subject(&pairs, rig.image()?)
}

fn cluster() -> Result<Subject> {
    picked("cluster")?;
    let rig = Rig::cluster()?;
    subject(&remote(rig.member_https(1)?, rig)?, rig.image()?)
}

fn main() -> ExitCode {
    Suite::new()
        .subject("socket", || async { socket() })
        .subject("https", || async { https() })
        .subject("restricted", || async { restricted() })
        .subject("cluster", || async { cluster() })
        .main()
}
