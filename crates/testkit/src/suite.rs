//! The conformance suite: what every backend has to do, one file per subject matter.
//!
//! Cases assert what the traits promise and nothing about how it is done.

use anyhow::{Result, bail};

use crate::Case;

mod clones;
mod console;
mod exec;
mod fidelity;
mod files;
mod files_hard;
mod lifecycle;
mod policy;
mod snapshots;
mod trees;

/// All cases, in the order in which they are run.
pub fn cases() -> Vec<Case> {
    [
        lifecycle::cases(),
        exec::cases(),
        fidelity::cases(),
        trees::cases(),
        console::cases(),
        files::cases(),
        files_hard::cases(),
        snapshots::cases(),
        clones::cases(),
        policy::cases(),
    ]
    .concat()
}

/// The cases of one file: `group: name [needs], …`.
macro_rules! table {
    ($group:literal: $($name:ident [$($need:ident),*]),* $(,)?) => {
        pub(super) fn cases() -> Vec<$crate::Case> {
            vec![$($crate::Case {
                name: concat!($group, "::", stringify!($name)),
                needs: &[$($crate::Need::$need),*],
                run: |cx| Box::pin($name(cx)),
            }),*]
        }
    };
}
use table;

/// Fails unless `result` is an error whose code is one of `codes`.
fn expect_code<T>(what: &str, result: pixels_core::Result<T>, codes: &[&str]) -> Result<()> {
    match result {
        Err(e) if codes.contains(&e.code()) => Ok(()),
        Err(e) => bail!("{what}: expected {codes:?}, got {}: {e}", e.code()),
        Ok(_) => bail!("{what}: expected {codes:?}, but it worked"),
    }
}

/// Bytes that do not compress and repeat from run to run: xorshift from `seed`.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn fill(&mut self, to: &mut [u8]) {
        for chunk in to.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }

    fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        Self::new(seed).fill(&mut bytes);
        bytes
    }
}
