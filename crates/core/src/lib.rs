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
//!
//! # Every call
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> pixels_core::Result<()> {
//! use std::time::Duration;
//! use pixels_core::*;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! // Which backends there are is up to the program; an unknown name is an error.
//! let mut backends = Registry::new();
//! backends.register("memory", memory::factory());
//! assert_eq!(backends.open("vmware", &Settings::new()).err().unwrap().code(), "invalid");
//! let opened = backends.open("memory", &Settings::new())?;
//! // `Arc` has a `clone_from` of its own, which would be in the way below.
//! let pixels: &dyn Sandbox = &*opened;
//! assert!(pixels.capabilities().snapshots);
//!
//! // A life.
//! let (name, twin): (Name, Name) = ("demo".parse()?, "twin".parse()?);
//! let opts = CreateOpts { memory: Some(512 * size::MIB), ..CreateOpts::new(name.clone()) };
//! let made = pixels.create(opts).await?;
//! assert!(made.status.is_running());
//! assert_eq!(pixels.get(&name).await?.addresses, made.addresses);
//! assert_eq!(pixels.list().await?.len(), 1);
//! pixels.stop(&name, StopOpts::default()).await?;
//! assert_eq!(pixels.get(&name).await?.status, Status::Stopped);
//! pixels.start(&name).await?;
//! pixels.ready(&name, Duration::from_secs(5)).await?;
//!
//! // Commands: to the end, for their output, and on a terminal.
//! assert_eq!(pixels.run(&name, ExecOpts::new(["false"]), RunIo::default()).await?, 1);
//! assert_eq!(pixels.output(&name, &["echo", "hello"]).await?, b"hello\n");
//! let mut console = pixels.console(&name, ConsoleOpts::default()).await?;
//! console.stdin.as_mut().unwrap().write_all(b"exit 3\n").await.unwrap();
//! let mut screen = String::new();
//! console.stdout.take().unwrap().read_to_string(&mut screen).await.unwrap();
//! assert!(screen.contains("exit 3"));
//! assert_eq!(console.wait().await?.code(), 3);
//!
//! // A port inside: in memory there is one, which sends back what it is sent.
//! let (mut reader, mut writer) = pixels.dial(&name, 7).await?;
//! writer.write_all(b"ping").await.unwrap();
//! writer.shutdown().await.unwrap();
//! let mut echo = Vec::new();
//! reader.read_to_end(&mut echo).await.unwrap();
//! assert_eq!(echo, b"ping");
//! assert!(pixels.dial(&name, 8).await.is_err());
//!
//! // Files.
//! pixels.write_file(&name, "/root/notes", b"before", 0o600, None).await?;
//! assert_eq!(pixels.read_file(&name, "/root/notes", 3).await?, (b"bef".to_vec(), true));
//! let files = pixels.list_files(&name, "/root", false).await?;
//! assert_eq!((files[0].path.as_str(), files[0].mode), ("/root/notes", 0o600));
//!
//! // Checkpoints: go back, or make another machine of one.
//! let label: Label = "ready".parse()?;
//! pixels.create_snapshot(&name, &label).await?;
//! pixels.delete_file(&name, "/root/notes").await?;
//! pixels.clone_from(&name, Some(&label), &twin, CloneOpts::default()).await?;
//! assert_eq!(pixels.read_file(&twin, "/root/notes", 0).await?, (b"before".to_vec(), false));
//! pixels.restore_snapshot(&name, &label).await?;
//! assert_eq!(pixels.read_file(&name, "/root/notes", 0).await?.0, b"before");
//! assert_eq!(pixels.list_snapshots(&name).await?[0].label, label);
//! pixels.delete_snapshot(&name, &label).await?;
//!
//! // What a pixel may reach.
//! pixels.set_egress_mode(&twin, EgressMode::Allowlist).await?;
//! pixels.allow_domain(&twin, "example.org").await?;
//! let expected = Policy { mode: EgressMode::Allowlist, domains: vec!["example.org".into()] };
//! assert_eq!(pixels.get_policy(&twin).await?, expected);
//! pixels.deny_domain(&twin, "example.org").await?;
//!
//! pixels.delete(&twin).await?;
//! pixels.delete(&name).await?;
//! assert!(pixels.get(&name).await.unwrap_err().is_not_found());
//! pixels.close().await?;
//! # Ok(())
//! # }
//! ```
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
