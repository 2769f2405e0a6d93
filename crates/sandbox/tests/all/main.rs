//! The facade over the memory backend, and over one that misbehaves.
#![allow(missing_docs)]

mod hostile;
mod owners;
mod pull;
mod push;
mod verbs;

use std::sync::Arc;

use pixels_sandbox::memory::Memory;
use pixels_sandbox::{Config, CreateRequest, Name, Pixels};

pub fn name(raw: &str) -> Name {
    raw.parse().unwrap()
}

/// A facade over a new memory backend with one pixel, `box`.
pub async fn with_box() -> (Pixels, Memory) {
    let memory = Memory::new();
    let pixels = Pixels::with_backend(Config::default(), Arc::new(memory.clone()));
    pixels.create(CreateRequest::new([name("box")])).await.unwrap().remove(0).result.unwrap();
    (pixels, memory)
}
