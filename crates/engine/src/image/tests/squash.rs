//! Squashfs file systems: what mksquashfs makes, and what nobody honest does.

use std::process::{Command, Stdio};

use super::archives::*;
use super::tarballs::{assert_same, sample};
use crate::image::sink::{Limits, TreeSink};
use crate::image::squashfs;

fn make(root: &std::path::Path, to: &std::path::Path, options: &[&str]) {
    let made = Command::new("mksquashfs")
        .arg(root)
        .arg(to)
        .args(["-noappend", "-no-progress", "-quiet"])
        .args(options)
        .stdout(Stdio::null())
        .status()
        .expect("squashfs-tools are needed for this test");
    assert!(made.success());
}

/// A small file system for mutations.
pub(crate) fn small(options: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    sample(&root);
    let to = dir.path().join("fs");
    make(&root, &to, options);
    std::fs::read(to).unwrap()
}

pub(crate) fn of_squashfs(bytes: &[u8], limits: Limits) -> std::io::Result<Vec<Item>> {
    let mut stream = Vec::new();
    let mut sink = TreeSink::new(&mut stream, limits)?;
    squashfs::unpack(&BytesAt(bytes), &mut sink, &mut |_| {})?;
    sink.finish()?;
    parse(&*stream)
}

struct BytesAt<'a>(&'a [u8]);

impl squashfs::ReadAt for BytesAt<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.read_at(buf, offset)
    }
}

#[test]
fn what_mksquashfs_packs_is_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    sample(&root);
    for n in 0..3000 {
        std::fs::create_dir_all(root.join("many")).unwrap();
        std::fs::write(root.join(format!("many/{n}")), format!("file {n}")).unwrap();
    }
    let limits = Limits { entries: 5000, bytes: 8 << 20 };
    let expected = of_path(&root, limits).unwrap();
    for (n, options) in [
        &["-comp", "gzip"][..],
        &["-comp", "xz"],
        &["-comp", "zstd"],
        &["-comp", "zstd", "-b", "1M", "-no-fragments"],
        &["-comp", "gzip", "-b", "4096", "-always-use-fragments"],
        &["-comp", "gzip", "-noI", "-noD", "-noF", "-noX"],
        &["-comp", "xz", "-no-duplicates", "-no-sparse"],
    ]
    .iter()
    .enumerate()
    {
        let to = dir.path().join(n.to_string());
        make(&root, &to, options);
        assert_same(of_path(&to, limits).unwrap(), expected.clone());
    }
}

#[test]
fn limits_hold_and_truncated_ones_are_refused() {
    let whole = small(&["-comp", "gzip"]);
    of_squashfs(&whole, SMALL).unwrap();
    let few = Limits { entries: 5, bytes: 8 << 20 };
    assert!(of_squashfs(&whole, few).unwrap_err().to_string().contains("more"));
    let little = Limits { entries: 2000, bytes: 100_000 };
    assert!(of_squashfs(&whole, little).unwrap_err().to_string().contains("more"));
    // mksquashfs pads to 4 KiB; before that every byte belongs to it.
    let used = u64::from_le_bytes(whole[40..48].try_into().unwrap()) as usize;
    for len in (0..used - 1).step_by(used / 50) {
        assert!(of_squashfs(&whole[..len], SMALL).is_err(), "{len} of {used}");
    }
}

#[test]
fn a_directory_that_contains_itself_is_refused() {
    // Everything unpacked, so that it can be changed: the inode of `empty` becomes its parent's.
    let mut fs = small(&["-comp", "gzip", "-noI", "-noD", "-noF", "-noX"]);
    let root = u64::from_le_bytes(fs[32..40].try_into().unwrap());
    let table = u64::from_le_bytes(fs[72..80].try_into().unwrap()) as usize;
    let at = fs[table..].windows(5).position(|w| w == b"empty").unwrap() + table;
    // An entry is offset, number, kind, length, name; the run's header has the block.
    fs[at - 8..at - 6].copy_from_slice(&((root & 0xffff) as u16).to_le_bytes());
    let message = of_squashfs(&fs, SMALL).unwrap_err().to_string();
    assert!(message.contains("two places") || message.contains("kind"), "{message}");
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [b"../.x", b"a/b/c", b"\0abcd", b"/etc/"] {
        let mut fs = small(&["-comp", "gzip", "-noI", "-noD", "-noF", "-noX"]);
        let table = u64::from_le_bytes(fs[72..80].try_into().unwrap()) as usize;
        let at = fs[table..].windows(5).position(|w| w == b"empty").unwrap() + table;
        fs[at..at + 5].copy_from_slice(name);
        let message = of_squashfs(&fs, SMALL).unwrap_err().to_string();
        assert!(message.contains("impossible name"), "{message}");
    }
}
