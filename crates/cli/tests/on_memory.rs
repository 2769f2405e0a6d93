//! The program on a backend in memory that holds one running pixel, `box`: what
//! the tests of streams, signals and terminals run.

use std::sync::Arc;

use pixels_core::memory::Memory;
use pixels_core::{Backend, CreateOpts, Error, Result};
use pixels_sandbox::{Config, Pixels};

fn main() {
    pixels_cli::main(open)
}

fn open(config: Config) -> Result<Pixels> {
    let memory = Memory::new();
    let name = "box".parse()?;
    let filled = memory.clone();
    // The caller is inside a runtime already; this is over before it goes on.
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|e| Error::backend("runtime", e.to_string()))?
            .block_on(filled.create(CreateOpts::new(name)))
    })
    .join()
    .map_err(|_| Error::backend("creating box", "it panicked"))??;
    Ok(Pixels::with_backend(config, Arc::new(memory)))
}
