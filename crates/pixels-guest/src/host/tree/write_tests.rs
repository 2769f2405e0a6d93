//! Streams, honest and hostile, written into a temporary directory as whoever
//! runs the tests.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pixels_guest_api::tree::header;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::sys::process::own_ids;

const PLENTY: Limits = Limits { entries: 10_000, bytes: 1 << 30 };

/// A directory to write below, and beside it what must not change.
struct Ground {
    dir: TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        // Whatever the mask is: writing sets it for the whole process.
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(dir.path().join("outside"), closed).unwrap();
        fs::write(dir.path().join("outside/canary"), "alive").unwrap();
        Self { dir }
    }

    fn tree(&self, path: &str) -> PathBuf {
        self.dir.path().join("tree").join(path)
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn write(&self, stream: &[u8], limits: Limits) -> io::Result<Summary> {
        let root = File::open(self.tree("")).unwrap();
        let done = write_below(root.as_fd(), stream, 0, limits);
        self.check_canary();
        done
    }

    fn check_canary(&self) {
        let names: Vec<_> = fs::read_dir(self.outside()).unwrap().map(|e| e.unwrap()).collect();
        assert_eq!(names.len(), 1, "something was made outside: {names:?}");
        let canary = self.outside().join("canary");
        assert_eq!(fs::read(&canary).unwrap(), b"alive");
        assert_eq!(fs::metadata(&canary).unwrap().nlink(), 1, "the canary was linked to");
        let around = fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(around, 2, "something was made beside the tree");
    }

    fn ok(&self, parts: &[Part]) -> Summary {
        self.write(&stream(parts), PLENTY).unwrap()
    }

    fn refused(&self, parts: &[Part]) -> String {
        self.write(&stream(parts), PLENTY).unwrap_err().to_string()
    }
}

type Part = (Entry, Vec<u8>);

fn mine(path: &str, kind: Kind) -> Entry {
    let (uid, gid) = own_ids();
    Entry { uid, gid, mtime: 1_000_000_000, ..Entry::new(path, kind) }
}

fn file(path: &str, content: &str) -> Part {
    let kind = Kind::File { size: content.len() as u64 };
    (mine(path, kind), content.as_bytes().to_vec())
}

fn dir(path: &str) -> Part {
    (mine(path, Kind::Dir), vec![])
}

fn link(path: &str, target: &str) -> Part {
    (mine(path, Kind::Symlink { target: target.into() }), vec![])
}

fn hard(path: &str, target: &str) -> Part {
    (mine(path, Kind::Hardlink { target: target.into() }), vec![])
}

fn plain(path: &str, kind: Kind) -> Part {
    (mine(path, kind), vec![])
}

/// A whole stream. Entries are put in without the checks of a proper encoder
/// where those would refuse them: a hostile sender makes none.
fn stream(parts: &[Part]) -> Vec<u8> {
    let mut out = header().to_vec();
    let mut bytes = 0;
    for (entry, content) in parts {
        out.extend_from_slice(&Record::Entry(entry.clone()).encode().unwrap_or_else(|_| {
            // The same record under harmless names of the same length, then the real ones.
            let mut safe = entry.clone();
            safe.path = vec![b'x'; entry.path.len()];
            let end = 9 + entry.path.len();
            let target = match &mut safe.kind {
                Kind::Hardlink { target } => std::mem::replace(target, vec![b'x'; target.len()]),
                _ => Vec::new(),
            };
            let mut record = Record::Entry(safe).encode().unwrap();
            record[9..end].copy_from_slice(&entry.path);
            record[end + 4..end + 4 + target.len()].copy_from_slice(&target);
            record
        }));
        out.extend_from_slice(content);
        bytes += content.len() as u64;
    }
    let end = Record::End { entries: parts.len() as u64, bytes };
    out.extend_from_slice(&end.encode().unwrap());
    out
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_tree_arrives_with_modes_times_and_attributes() {
    let ground = Ground::new();
    let mut suid = file("bin/su", "program");
    suid.0.mode = 0o4755;
    suid.0.xattrs = vec![
        (b"user.note".to_vec(), b"kept".to_vec()),
        (b"user.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
    ];
    let mut closed = dir("closed");
    closed.0.mode = 0o500;
    let done = ground.ok(&[
        dir(""),
        closed,
        file("closed/inner", "in a directory that ends up read-only"),
        dir("bin"),
        suid,
        hard("bin/sudo", "bin/su"),
        link("sbin", "bin"),
        plain("run/pipe", Kind::Fifo),
        plain("dev/sda", Kind::Special),
    ]);
    assert_eq!((done.entries, done.left_out, done.xattrs_left_out), (9, 1, 2));
    assert_eq!(fs::read(ground.tree("bin/su")).unwrap(), b"program");
    assert_eq!(mode_of(&ground.tree("bin/su")), 0o4755);
    assert_eq!(mode_of(&ground.tree("closed")), 0o500);
    assert_eq!(fs::metadata(ground.tree("bin/sudo")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(ground.tree("bin")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::read_link(ground.tree("sbin")).unwrap(), Path::new("bin"));
    assert!(fs::metadata(ground.tree("run/pipe")).unwrap().file_type().is_fifo());
    assert!(!ground.tree("dev/sda").exists());
    let opened = File::open(ground.tree("bin/su")).unwrap();
    let mut value = [0; 16];
    let n = place::get_xattr(opened.as_fd(), c"user.note", &mut value).unwrap();
    assert_eq!(&value[..n], b"kept");
    place::get_xattr(opened.as_fd(), c"user.overlay.opaque", &mut value).unwrap_err();
    fs::set_permissions(ground.tree("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn names_that_lead_out_are_refused_and_named() {
    for path in
        ["../outside/x", "/etc/x", "a/../../outside/x", "..", ".", "a//b", "a/./b", "a\0b", "a/"]
    {
        let ground = Ground::new();
        let message = ground.refused(&[file(path, "x")]);
        assert!(message.contains(&format!("{path:?}")), "{path:?}: {message}");
    }
    let ground = Ground::new();
    // The owner is no part of the name: the sender's own check would refuse it, ours must too.
    let mut bytes = stream(&[file("a", "x")]);
    let at = bytes.windows(4).position(|w| w == 0o644u32.to_be_bytes()).unwrap() + 4;
    bytes[at..at + 4].copy_from_slice(&65_536u32.to_be_bytes());
    let message = ground.write(&bytes, PLENTY).unwrap_err().to_string();
    assert!(message.contains("65535") && message.contains("\"a\""), "{message}");
}

#[test]
fn a_link_written_through_stays_inside() {
    let ground = Ground::new();
    let outside = ground.outside().to_str().unwrap().to_owned();
    // An absolute link means the tree's own root; there is no such directory in it.
    let message = ground.refused(&[link("out", &outside), file("out/x", "x")]);
    assert!(message.contains("out/x") && message.contains("parent"), "{message}");
    for target in ["..", "../outside", "../../../../../../../..", "/"] {
        let ground = Ground::new();
        let _ = ground.write(&stream(&[link("out", target), file("out/canary", "dead")]), PLENTY);
        ground.check_canary();
    }
    let ground = Ground::new();
    ground.ok(&[dir("usr"), dir("usr/lib"), link("lib", "/usr/lib"), file("lib/a", "1")]);
    assert_eq!(fs::read(ground.tree("usr/lib/a")).unwrap(), b"1");
    // Through a magic link of /proc, which RESOLVE_NO_MAGICLINKS refuses anyway.
    let ground = Ground::new();
    ground.refused(&[link("p", "/proc/self/root"), file("p/tmp/x", "x")]);
    let ground = Ground::new();
    ground.refused(&[link("a", "b"), link("b", "a"), file("a/x", "x")]);
}

#[test]
fn what_is_in_the_way_is_replaced_and_not_followed() {
    let ground = Ground::new();
    let canary = ground.outside().join("canary");
    ground.ok(&[link("a", canary.to_str().unwrap()), file("a", "new")]);
    assert_eq!(fs::read(ground.tree("a")).unwrap(), b"new");
    assert!(!fs::symlink_metadata(ground.tree("a")).unwrap().is_symlink());
    // The same with a link that was on the disk before.
    let ground = Ground::new();
    symlink(ground.outside().join("canary"), ground.tree("b")).unwrap();
    ground.ok(&[file("b", "new")]);
    assert_eq!(fs::read(ground.tree("b")).unwrap(), b"new");
    // A directory is not what a link to one is.
    let ground = Ground::new();
    ground.ok(&[link("d", "../outside"), dir("d"), file("d/canary", "mine")]);
    assert_eq!(fs::read(ground.tree("d/canary")).unwrap(), b"mine");
    // A file takes a full directory's place; what is kept open of it is let go.
    let ground = Ground::new();
    ground.ok(&[
        file("x/y/z", "1"),
        file("x/y/w", "2"),
        file("x", "3"),
        dir("x"),
        file("x/y/z", "4"),
    ]);
    assert_eq!(fs::read(ground.tree("x/y/z")).unwrap(), b"4");
    assert!(!ground.tree("x/y/w").exists());
    // Modes of a directory that is none any more change nothing.
    let ground = Ground::new();
    let mut open = dir("t");
    open.0.mode = 0o777;
    ground.ok(&[open, link("t", "../outside")]);
    assert_ne!(mode_of(&ground.outside()), 0o777);
}

#[test]
fn hard_links_stay_inside() {
    let ground = Ground::new();
    let canary = ground.outside().join("canary");
    ground.refused(&[hard("a", "../outside/canary")]);
    ground.refused(&[link("l", canary.to_str().unwrap()), hard("a", "l/x")]);
    ground.refused(&[link("up", "../outside"), hard("a", "up/canary")]);
    let message = ground.refused(&[hard("a", "nothing")]);
    assert!(message.contains("\"a\"") && message.contains("nothing"), "{message}");
    ground.refused(&[dir("d"), hard("a", "d")]);
    // A link's other name is a link, and nothing is written through it.
    let ground = Ground::new();
    ground.ok(&[link("l", canary.to_str().unwrap()), hard("a", "l"), file("a", "x")]);
    assert!(fs::symlink_metadata(ground.tree("l")).unwrap().is_symlink());
    let ground = Ground::new();
    ground.ok(&[file("f", "1"), hard("f", "f"), hard("g", "f"), hard("g", "f")]);
    assert_eq!(fs::metadata(ground.tree("g")).unwrap().nlink(), 2);
}

#[test]
fn devices_are_counted_and_never_made() {
    let ground = Ground::new();
    let done = ground.ok(&[plain("dev/mem", Kind::Special), plain("s", Kind::Special)]);
    assert_eq!((done.entries, done.left_out), (2, 2));
    assert_eq!(fs::read_dir(ground.tree("")).unwrap().count(), 0);
}

#[test]
fn whiteouts_and_opaque_directories_are_overlayfs_own() {
    let ground = Ground::new();
    ground.ok(&[
        plain("gone", Kind::Whiteout),
        plain("kept/opaque", Kind::Opaque),
        file("kept/opaque/new", "1"),
        plain("back", Kind::Whiteout),
        dir("back"),
        dir("both"),
        plain("both", Kind::Whiteout),
        file("f", "1"),
        plain("f", Kind::Whiteout),
    ]);
    let gone = fs::symlink_metadata(ground.tree("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for opaque in ["kept/opaque", "back", "both"] {
        let mut value = [0; 4];
        let opened = File::open(ground.tree(opaque)).unwrap();
        let n = place::get_xattr(opened.as_fd(), c"user.overlay.opaque", &mut value).unwrap();
        assert_eq!(&value[..n], b"y", "{opaque}");
    }
    assert_eq!(fs::read(ground.tree("f")).unwrap(), b"1");
}

#[test]
fn bombs_stop_at_the_limits() {
    let ground = Ground::new();
    let many: Vec<Part> = (0..11).map(|n| dir(&format!("d{n}"))).collect();
    let few = Limits { entries: 10, bytes: 100 };
    let message = ground.write(&stream(&many), few).unwrap_err().to_string();
    assert!(message.contains("more than 10 entries") && message.contains("d10"), "{message}");
    // A size is refused before a byte of it is written.
    let huge = (mine("huge", Kind::File { size: u64::MAX }), vec![]);
    let message = ground.write(&stream(&[huge]), few).unwrap_err().to_string();
    assert!(message.contains("more than 100 bytes"), "{message}");
    let parts = [file("a", &"x".repeat(60)), file("b", &"x".repeat(60))];
    ground.write(&stream(&parts), few).unwrap_err();
}

#[test]
fn a_truncated_stream_is_never_a_whole_one() {
    let bytes = stream(&[dir("a"), file("a/b", "content"), link("c", "a")]);
    for len in 0..bytes.len() {
        Ground::new().write(&bytes[..len], PLENTY).unwrap_err();
    }
    // An end that does not fit what came before.
    let mut out = stream(&[file("a", "1")]);
    let last = out.len() - 1;
    out[last] ^= 1;
    Ground::new().write(&out, PLENTY).unwrap_err();
}

#[test]
fn capabilities_name_the_root_they_are_for() {
    let mut v2 = vec![1, 0, 0, 2];
    v2.extend_from_slice(&[0x20; 16]);
    assert_eq!(shift_capability(&v2, 0), None);
    let v3 = shift_capability(&v2, 1).unwrap();
    assert_eq!((v3.len(), v3[3], &v3[20..]), (24, 3, &[1, 0, 0, 0][..]));
    assert_eq!(shift_capability(&v3, 1), None);
    assert_eq!(shift_capability(b"short", 1), None);
}

#[test]
fn a_stream_is_read_from_a_descriptor() {
    use std::os::fd::AsRawFd;
    let ground = Ground::new();
    let input = fd::memfd(&stream(&[file("a", "1")]), false).unwrap();
    let dir = ground.tree("new");
    // A memfd was written to: reading goes on from there.
    use std::io::Seek;
    File::from(input.try_clone().unwrap()).rewind().unwrap();
    let done = write(&dir, input.as_raw_fd(), 0, (10, 10)).unwrap();
    assert_eq!((done.entries, done.bytes), (1, 1));
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"1");
    // A link in the directory's place is not followed.
    symlink(ground.outside(), ground.tree("link")).unwrap();
    write(&ground.tree("link"), input.as_raw_fd(), 0, (10, 10)).unwrap_err();
    ground.check_canary();
}

#[test]
fn names_are_bytes() {
    let ground = Ground::new();
    let mut odd = file("x", "1");
    odd.0.path = b"a\n\xff".to_vec();
    ground.ok(&[odd]);
    assert_eq!(fs::read(ground.tree("").join(OsStr::from_bytes(b"a\n\xff"))).unwrap(), b"1");
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[abc]",
        2 => "[abc]/[abc]",
        1 => "[abc]/[abc]/[abc]",
        1 => Just("../outside/canary".to_owned()),
        1 => Just("/etc/hostname".to_owned()),
    ]
}

fn any_part() -> impl Strategy<Value = Part> {
    let target = prop_oneof![
        Just("..".to_owned()),
        Just("../outside".to_owned()),
        Just("/".to_owned()),
        Just("../../../../..".to_owned()),
        Just("/proc/self/root".to_owned()),
        "[abc]",
        "[abc]/[abc]",
    ];
    (any_name(), any_name(), target, 0..8).prop_map(|(path, other, target, kind)| match kind {
        0 | 1 => file(&path, "dead"),
        2 => dir(&path),
        3 => link(&path, &target),
        4 if !other.starts_with(['.', '/']) => hard(&path, &other),
        5 => plain(&path, Kind::Whiteout),
        6 => plain(&path, Kind::Opaque),
        _ => plain(&path, Kind::Fifo),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Whatever comes in whatever order: what is outside stays as it is. (One
    /// stream an entry, so that what follows a refused one is tried too.)
    #[test]
    fn nothing_gets_out(parts in proptest::collection::vec(any_part(), 1..12)) {
        let ground = Ground::new();
        let _ = ground.write(&stream(&parts), PLENTY);
        for part in parts {
            let _ = ground.write(&stream(&[part]), PLENTY);
        }
    }
}
