//! The conformance suite on the embedded engine, as whoever runs it: root, or an
//! ordinary user with subordinate ids. `PIXELS_ENGINE_DISABLE` forces fallbacks.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use pixels_core::{Backend, Settings};
use pixels_engine::Engine;
use pixels_testkit::{Subject, Suite, engine};

async fn local() -> Result<Subject> {
    let place = engine::place()?;
    let mut settings: Settings = [
        ("root", place.root.display().to_string()),
        ("memory", (512u64 << 20).to_string()),
        ("disable", std::env::var("PIXELS_ENGINE_DISABLE").unwrap_or_default()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if let Some(network) = &place.network {
        settings.insert("network".into(), network.clone());
    }
    let backend = Engine::new(&settings)?;
    engine::have_image(&backend, &place).await?;
    backend.sweep().await?;
    Ok(Subject::new(Arc::new(backend)).image(engine::IMAGE))
}

fn main() -> ExitCode {
    Suite::new().subject("local", local).main()
}
