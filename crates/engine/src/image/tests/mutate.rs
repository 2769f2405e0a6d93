//! Fuzzing without a fuzzer: valid archives, changed by a generator that gives
//! the same every time. A decoder may refuse what it gets; it must not panic,
//! hang or pass its limits. Some seconds each; `full_…`, with `PIXELS_FULL=1`,
//! ten minutes each.

use std::time::{Duration, Instant};

use super::archives::*;
use super::squash::{of_squashfs, small};
use crate::image::sink::Limits;

/// xorshift64*: all that is asked of it is to be the same everywhere.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.roll() % n.max(1) as u64) as usize
    }
}

const INTERESTING: [u64; 10] =
    [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX, 1 << 40];

/// One to eight changes.
pub(crate) fn mutate(dice: &mut Dice, seed: &[u8]) -> Vec<u8> {
    let mut out = seed.to_vec();
    for _ in 0..=dice.below(8) {
        if out.is_empty() {
            break;
        }
        let at = dice.below(out.len());
        match dice.below(8) {
            0 => out[at] ^= 1 << dice.below(8),
            1 => out[at] = dice.roll() as u8,
            2 => {
                let width = [1, 2, 4, 8][dice.below(4)];
                let number = INTERESTING[dice.below(INTERESTING.len())].to_le_bytes();
                for (to, from) in out[at..].iter_mut().zip(&number[..width]) {
                    *to = *from;
                }
            }
            3 => out.truncate(at),
            4 => drop(out.drain(at..(at + dice.below(600)).min(seed.len()).min(out.len()).max(at))),
            5 => {
                let from = dice.below(out.len());
                let piece = out[from..(from + dice.below(600)).min(out.len())].to_vec();
                out.splice(at..at, piece);
            }
            6 => {
                let from = dice.below(out.len());
                let piece = out[from..(from + dice.below(64)).min(out.len())].to_vec();
                for (to, byte) in out[at..].iter_mut().zip(piece) {
                    *to = byte;
                }
            }
            _ => out[at] = out[at].wrapping_add(1),
        }
    }
    out
}

/// Puts the checksums of tar's headers right, so that what is behind them is reached.
fn mend(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fn fuzz(name: &str, time: Duration, seeds: &[Vec<u8>], attempt: impl Fn(&mut Dice, &[u8])) {
    let until = Instant::now() + time;
    let mut rounds = 0u64;
    while Instant::now() < until {
        let mut dice = Dice::new(rounds);
        let seed = &seeds[dice.below(seeds.len())];
        let begun = Instant::now();
        attempt(&mut dice, seed);
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}: round {rounds} took too long");
        rounds += 1;
    }
    assert!(rounds > 20, "{name}: only {rounds} rounds");
}

const SHORT: Duration = Duration::from_secs(3);

fn long(work: fn(Duration)) {
    if full() {
        work(Duration::from_secs(600));
    }
}

/// Whether what takes minutes is wanted.
#[expect(clippy::print_stderr, reason = "a test that does nothing says so")]
pub(crate) fn full() -> bool {
    let full = std::env::var_os("PIXELS_FULL").is_some_and(|v| v == "1");
    if !full {
        eprintln!("left out: it takes minutes and runs with PIXELS_FULL=1");
    }
    full
}

const BOUNDS: Limits = Limits { entries: 500, bytes: 4 << 20 };

#[test]
fn mutated_tar_archives_are_decoded_or_refused() {
    mutated_tar_archives(SHORT);
}

#[test]
fn full_mutated_tar_archives() {
    long(mutated_tar_archives);
}

fn mutated_tar_archives(time: Duration) {
    let map: &[(&str, &[u8])] = &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"64")];
    let stored = format!("{:\0<512}abc", "2\n3\n1\n9\n2\n");
    let seeds = [
        Tar::default().dir("a").file("a/b", "content").symlink("c", "a").hardlink("d", "a/b").end(),
        Tar::default().pax(&[("path", b"x/y"), ("SCHILY.xattr.user.a", b"b")]).file("z", "1").end(),
        Tar::default()
            .pax(map)
            .file("s", &stored)
            .raw(b'L', b"l", b"", 4, b"long")
            .file("q", "")
            .end(),
        Tar::default().raw(b'S', b"gnu", b"", 3, b"abc").file("etc/.wh.x", "").end(),
    ];
    fuzz("tar", time, &seeds, |dice, seed| {
        let mut archive = mutate(dice, seed);
        mend(&mut archive);
        let layer = dice.below(2) == 0;
        if let Ok(items) = of_tar(&archive, layer) {
            assert!(items.len() <= 2000);
        }
    });
}

#[test]
fn mutated_compressed_archives_are_decoded_or_refused() {
    mutated_compressed_archives(SHORT);
}

#[test]
fn full_mutated_compressed_archives() {
    long(mutated_compressed_archives);
}

fn mutated_compressed_archives(time: Duration) {
    let plain = Tar::default().dir("a").file("a/b", &"content ".repeat(500)).end();
    let seeds = [gzip(&plain), xz(&plain), zst(&plain)];
    fuzz("compressed", time, &seeds, |dice, seed| {
        let _ = of_bytes(&mutate(dice, seed), BOUNDS);
    });
}

#[test]
fn mutated_squashfs_are_decoded_or_refused() {
    mutated_squashfs(SHORT);
}

#[test]
fn full_mutated_squashfs() {
    long(mutated_squashfs);
}

fn mutated_squashfs(time: Duration) {
    let raw = &["-comp", "gzip", "-noI", "-noD", "-noF", "-noX", "-b", "4096"][..];
    let seeds =
        [small(raw), small(&["-comp", "gzip"]), small(&["-comp", "xz"]), small(&["-comp", "zstd"])];
    fuzz("squashfs", time, &seeds, |dice, seed| {
        let mut fs = mutate(dice, seed);
        // Most of a file system is content; what matters is at both ends.
        for _ in 0..dice.below(4) {
            let tables = fs.len().saturating_sub(6000);
            let at = if dice.below(2) == 0 { dice.below(96) } else { tables + dice.below(6000) };
            if let Some(byte) = fs.get_mut(at) {
                *byte = dice.roll() as u8;
            }
        }
        if let Ok(items) = of_squashfs(&fs, BOUNDS) {
            assert!(items.len() as u64 <= BOUNDS.entries);
        }
    });
}
