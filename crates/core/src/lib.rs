//! The vocabulary of pixels: names, specs, statuses, policies, errors and the
//! traits that every backend implements.
//!
//! This crate does no I/O of its own. It holds what the backends, the facade
//! (`pixels-sandbox`) and the front ends say to one another:
//!
//! - [`Name`] and [`Label`]: validated once, trusted everywhere after;
//! - [`Sandbox`] = [`Backend`] + [`Exec`] + [`Files`] + [`NetworkPolicy`];
//! - [`SandboxExt`]: the conveniences (`run`, `output`, `write_file`, …) built on those;
//! - [`Error`]: one enum with a stable [`code`](Error::code) and a [`hint`](Error::hint);
//! - [`Registry`]: backends by name;
//! - [`memory`]: a backend that lives in this process, for examples and tests.
#![forbid(unsafe_code)]

mod error;
mod exec;
mod ext;
mod files;
mod finding;
mod instance;
pub mod memory;
mod name;
mod policy;
mod progress;
mod registry;
mod sandbox;
pub mod size;
pub mod text;

pub use error::{Error, Result, What, WrapNotFound};
pub use exec::{
    Bytes, ConsoleOpts, Control, ExecOpts, ExitStatus, Process, Reader, RunIo, Signal, TtySize,
    Writer,
};
pub use ext::SandboxExt;
pub use files::{DirEntry, FileEntry, FileKind, FileSession, FileStat, Owner, WriteOpts};
pub use finding::{Finding, Level};
pub use instance::{
    Capabilities, CloneOpts, CreateOpts, ImageInfo, Instance, Limits, Meta, Snapshot, Status,
    StopOpts,
};
pub use name::{Label, Name};
pub use policy::{EgressMode, Policy};
pub use progress::{Event, Progress};
pub use registry::{Factory, Registry, Settings};
pub use sandbox::{Backend, Exec, Files, NetworkPolicy, Sandbox};
