//! The program on the memory backend with a pixel called `box` in it, for the
//! tests of streams, signals and terminals.

use std::sync::Arc;

use pixels_core::memory::Memory;
use pixels_core::{Backend, CreateOpts, Result};
use pixels_sandbox::{Config, Pixels};

fn main() {
    pixels_cli::main(open)
}
