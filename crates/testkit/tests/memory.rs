//! The conformance suite on the memory backend.

use std::process::ExitCode;
use std::sync::Arc;

use pixels_core::memory::Memory;
use pixels_testkit::{Subject, Suite};

fn main() -> ExitCode {
    Suite::new()
        .subject("memory", || async { Ok(Subject::new(Arc::new(Memory::new())).without_linux()) })
        .main()
}
