//! The face `exec` with real processes on this machine. Everything here needs
//! root, as in a guest; without it each test says its name and that it did not
//! run.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr)]

mod cancel;
mod exits;
mod fidelity;
mod harness;
mod login;
mod streams;
mod terminal;
