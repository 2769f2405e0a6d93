//! Disposable Linux machines for AI coding agents, on hardware you own.
//!
//! A *pixel* is a container that comes up in well under a second, can be
//! checkpointed, cloned and thrown away. This crate is the library behind the
//! `pixels` command: whatever the command can do, a program can.
//!
//! # Highlights
//!
//! - **One interface, any backend.** [`Sandbox`] is a small object-safe trait;
//!   [`SandboxExt`] builds the conveniences on it. A program written against it
//!   runs on every backend, and in tests on one that lives in memory.
//! - **Bytes arrive as sent.** Arguments, environment, file names and streams
//!   are bytes, not text, and no shell looks at them.
//! - **Streaming.** A command is a [`Process`] in the shape of tokio's `Child`;
//!   files are `AsyncRead`.
//! - **Nothing half-made.** Every verb can be interrupted by dropping its
//!   future; [`Pixels::close`] removes what it had begun.
//! - **Errors that say what to do.** [`Error`] names the thing it is about, has
//!   a stable [`code`](Error::code) and, where there is one, a next step
//!   ([`hint`](Error::hint)).
//! - **The guest is not trusted.** Neither its files nor what it prints can
//!   reach the host: see [`Pixels::pull`] and [`text::clean`].
//!
//! # Backends
//!
//! | name | what it is | needs |
//! | --- | --- | --- |
//! | `incus` | [Incus](https://linuxcontainers.org/incus/) over its REST API: a unix socket, or HTTPS with client certificates; one host or a cluster | an Incus daemon |
//! | `memory` | [`memory::Memory`]: no machine at all, for tests and examples | nothing |
//!
//! [`Pixels::open`] chooses as the command does ([`select`]) from the same
//! configuration ([`config`]); [`Pixels::with_backend`] takes one that is open already.
//!
//! # Why use this crate
//!
//! Agents run code that nobody has read. Where they run it should cost nothing
//! to make, hold nothing of value, and be gone afterwards. Driving a container
//! daemon to that end by hand means to get quoting, signals, half-made
//! containers, identities of clones and hostile file trees right every time.
//! This crate gets them right once.
//!
//! # Examples
//!
//! A pixel's whole life:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> pixels_sandbox::Result<()> {
//! use std::sync::Arc;
//! use pixels_sandbox::memory::Memory;
//! use pixels_sandbox::{Config, CreateRequest, Name, Pixels, SandboxExt, StopOpts};
//!
//! // `Pixels::open(Config::load(Loader::of_process())?)?` opens the configured backend.
//! let pixels = Pixels::with_backend(Config::default(), Arc::new(Memory::new()));
//! let name: Name = "demo".parse()?;
//!
//! // Make one. Several names make several, in parallel.
//! for outcome in pixels.create(CreateRequest::new([name.clone()])).await? {
//!     println!("{} is {}", outcome.name, outcome.result?.status);
//! }
//!
//! // Run something in it.
//! let out = pixels.backend().output(&name, &["echo", "hello"]).await?;
//! assert_eq!(out, b"hello\n");
//!
//! // Keep this state, change it, and make another pixel from what was kept.
//! let ready = "ready".parse()?;
//! pixels.create_checkpoint(&name, Some(&ready)).await?;
//! pixels.backend().write_file(&name, "/tmp/later", b"x", 0o644, None).await?;
//! let clone = CreateRequest::new(["task".parse()?]).from("demo:ready".parse()?);
//! pixels.create(clone).await?.remove(0).result?;
//! assert!(pixels.backend().read_file(&"task".parse()?, "/tmp/later", 0).await.is_err());
//!
//! // Go back.
//! pixels.restore_checkpoint(&name, &ready).await?;
//! assert!(pixels.backend().read_file(&name, "/tmp/later", 0).await.unwrap_err().is_not_found());
//!
//! // Throw them away.
//! for outcome in pixels.destroy(&pixels_sandbox::Targets::All, false).await? {
//!     outcome.result?;
//! }
//! pixels.close().await
//! # }
//! ```
//!
//! A stream through a command:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> pixels_sandbox::Result<()> {
//! # use std::sync::Arc;
//! use pixels_sandbox::{Config, CreateRequest, ExecOpts, Pixels, RunRequest, memory::Memory};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let pixels = Pixels::with_backend(Config::default(), Arc::new(Memory::new()));
//! // A pixel for one command: gone afterwards, whatever happens.
//! let request = RunRequest { create: CreateRequest::new([]), exec: ExecOpts::new(["cat"]) };
//! let text = pixels
//!     .run(request, async |_name, mut process| {
//!         let mut stdin = process.stdin.take().expect("asked for");
//!         stdin.write_all(b"through").await.expect("cat reads");
//!         stdin.shutdown().await.expect("cat reads");
//!         let mut text = String::new();
//!         let mut stdout = process.stdout.take().expect("always there");
//!         stdout.read_to_string(&mut text).await.expect("cat writes");
//!         process.wait().await.map(|_| text)
//!     })
//!     .await?;
//! assert_eq!(text, "through");
//! assert!(pixels.list().await?.is_empty());
//! # pixels.close().await }
//! ```
#![forbid(unsafe_code)]

pub mod config;
pub mod duration;
mod facade;
mod parse;
pub mod remote;
pub mod select;
mod transfer;
mod verbs;

pub use config::{Config, ConfigError, Loader};
pub use facade::{Outcome, Pixels, Targets};
pub use parse::{Origin, Remote, variable};
pub use pixels_core::*;
pub use transfer::{PullOpts, PushOpts, Transferred};
pub use verbs::{CreateRequest, Forward, GcReport, RestorePlan, RunRequest};
