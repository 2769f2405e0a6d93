//! `pixels`: disposable Linux machines for AI coding agents, from the command line.
//!
//! This is the program, not a library to build on: that is `pixels-sandbox`.
//! It is apart from `main.rs` so that tests can run it on a backend of theirs.

mod app;
mod args;
mod commands;
mod context;
mod exit;
mod input;
mod log;
mod signals;
mod stream;
mod tty;
mod ui;

pub use app::main;
pub use context::Opener;
