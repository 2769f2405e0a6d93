//! The embedded engine: the backend `local`. Pixels on a Linux machine as root
//! or as an ordinary user, without a daemon.
//!
//! This crate holds no `unsafe`. What needs a namespace, a mount or the ids of
//! the store is done by freshly spawned processes of the static binary
//! `pixels-guest`, so that a program with many threads can use it.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod files;
mod image;
#[doc(hidden)]
pub mod net;
