//! What the tests of every crate share. Not published.
//!
//! - [`suite`]: the conformance suite, written once against
//!   [`pixels_core::Sandbox`]. A backend is done when it passes unchanged;
//! - [`Suite`]: runs it on one or more [`Subject`]s as a test binary of its own;
//! - [`pty`]: drives a program on a terminal;
//! - [`rig`]: finds, or brings up, the real servers that tests run against.
//!
//! A test file with `harness = false` is this much:
//!
//! ```no_run
//! use std::{process::ExitCode, sync::Arc};
//! use pixels_core::memory::Memory;
//! use pixels_testkit::{Subject, Suite};
//!
//! fn main() -> ExitCode {
//!     Suite::new()
//!         .subject("memory", || async { Ok(Subject::new(Arc::new(Memory::new()))) })
//!         .main()
//! }
//! ```

mod ctx;
pub mod engine;
pub mod pty;
pub mod rig;
mod runner;
mod subject;
pub mod suite;

pub use ctx::{Ctx, Out};
pub use runner::Suite;
pub use subject::{Case, Need, Skip, Subject};
