//! Honest tar archives: what the system's own tar makes, and every feature by hand.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use pixels_guest_api::tree::Kind;

use super::archives::*;

/// A directory with one of everything.
pub(crate) fn sample(dir: &Path) {
    use std::fs;
    fs::create_dir_all(dir.join("usr/bin")).unwrap();
    fs::create_dir_all(dir.join("empty")).unwrap();
    fs::write(dir.join("usr/bin/tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(dir.join("usr/bin/tool"), dir.join("usr/bin/twin")).unwrap();
    symlink("usr/bin", dir.join("bin")).unwrap();
    fs::write(dir.join(format!("{}/x", "d").replace('/', "-")), "").unwrap();
    let long = format!("usr/{}/{}", "l".repeat(120), "n".repeat(120));
    fs::create_dir_all(dir.join(&long).parent().unwrap()).unwrap();
    fs::write(dir.join(&long), "long").unwrap();
    symlink("t".repeat(150), dir.join("far")).unwrap();
    // Half a megabyte that compresses badly and one that compresses well.
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    })
    .take(500_000)
    .collect();
    fs::write(dir.join("noise"), noise).unwrap();
    fs::write(dir.join("zeros"), vec![0; 700_001]).unwrap();
    // Holes at the beginning, between and at the end.
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(dir.join("sparse")).unwrap();
    for n in 1..40u64 {
        file.write_all_at(format!("piece {n}").as_bytes(), n * 65_536 + n).unwrap();
    }
    file.set_len(3 << 20).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("pipe"), rustix::fs::Mode::from(0o640)).unwrap();
    let opened = fs::File::open(dir.join("usr/bin/tool")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(&opened, "user.note", b"kept \xff", flags).unwrap();
}

/// Sorted by path; of the names of one file, which comes first is up to the tool.
pub(crate) fn comparable(items: Vec<Item>) -> Vec<Item> {
    let mut items = items;
    let names: Vec<_> = items
        .iter()
        .filter_map(|(e, _)| match &e.kind {
            Kind::Hardlink { target } => Some((e.path.clone(), target.clone())),
            _ => None,
        })
        .collect();
    for (link, target) in names {
        if link < target {
            for (entry, _) in &mut items {
                if entry.path == link {
                    entry.path.clone_from(&target);
                } else if entry.path == target {
                    entry.path.clone_from(&link);
                }
                if let Kind::Hardlink { target } = &mut entry.kind {
                    target.clone_from(&link);
                }
            }
        }
    }
    for (entry, _) in &mut items {
        entry.nanos = 0;
        // A link's own permissions mean nothing, and a hard link's entry says nothing of the file.
        if matches!(entry.kind, Kind::Symlink { .. } | Kind::Hardlink { .. }) {
            entry.mode = 0o777;
            entry.xattrs.clear();
        }
    }
    items.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    items
}

pub(crate) fn assert_same(found: Vec<Item>, expected: Vec<Item>) {
    let (found, expected) = (comparable(found), comparable(expected));
    let paths = |items: &[Item]| -> Vec<String> {
        items.iter().map(|(e, _)| String::from_utf8_lossy(&e.path).into_owned()).collect()
    };
    assert_eq!(paths(&found), paths(&expected));
    for ((a, a_content), (b, b_content)) in found.iter().zip(&expected) {
        assert_eq!(a, b);
        assert!(a_content == b_content, "{:?} differs", String::from_utf8_lossy(&a.path));
    }
}

#[test]
fn what_tar_packs_is_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    sample(&root);
    let expected = of_path(&root, SMALL).unwrap();
    for (n, format) in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--xattrs"],
        &["--format=pax", "--sparse", "--xattrs"],
        &["--format=pax", "--sparse", "--sparse-version=0.0", "--xattrs"],
        &["--format=pax", "--sparse", "--sparse-version=0.1", "--xattrs"],
    ]
    .iter()
    .enumerate()
    {
        let path = dir.path().join(format!("{n}.tar"));
        let mut tar = Command::new("tar");
        tar.args(*format).args(["--numeric-owner", "--sort=name", "-C"]).arg(&root).arg("-cf");
        assert!(tar.arg(&path).arg(".").status().unwrap().success());
        let mut expected = expected.clone();
        if !format.contains(&"--xattrs") {
            expected.iter_mut().for_each(|(e, _)| e.xattrs.clear());
        }
        assert_same(of_path(&path, SMALL).unwrap(), expected.clone());
        let bytes = std::fs::read(&path).unwrap();
        for packed in [
            gzip(&bytes),
            xz(&bytes),
            zst(&bytes),
            [gzip(&bytes[..4096]), gzip(&bytes[4096..])].concat(),
        ] {
            assert_same(of_bytes(&packed, SMALL).unwrap(), expected.clone());
        }
    }
}

#[test]
fn long_names_come_in_headers_before() {
    let long = "d/".repeat(80) + "name";
    let archive = Tar::default()
        .raw(b'L', b"././@LongLink", b"", long.len() as u64 + 1, format!("{long}\0").as_bytes())
        .raw(b'K', b"././@LongLink", b"", long.len() as u64 + 1, format!("{long}\0").as_bytes())
        .symlink("short", "short")
        .file("next", "1")
        .end();
    let items = of_tar(&archive, false).unwrap();
    assert_eq!(items[0].0.path, long.as_bytes());
    assert_eq!(items[0].0.kind, Kind::Symlink { target: long.into_bytes() });
    assert_eq!(items[1].0.path, b"next");
}

#[test]
fn pax_records_win_and_last_for_one_entry() {
    let records: &[(&str, &[u8])] = &[
        ("path", b"real/name"),
        ("uid", b"1000"),
        ("gid", b"1001"),
        ("mtime", b"12.5"),
        ("size", b"3"),
        ("SCHILY.xattr.user.a", b"b\nc=\xff"),
        ("SCHILY.xattr.security.selinux", b"x"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
    ];
    let archive =
        Tar::default().pax(records).raw(b'0', b"other", b"", 0, b"abc").file("b", "1").end();
    let items = of_tar(&archive, false).unwrap();
    let (entry, content) = item(&items, "real/name");
    assert_eq!((entry.uid, entry.gid, entry.mtime, entry.nanos), (1000, 1001, 12, 500_000_000));
    assert_eq!(
        (content.as_slice(), &entry.xattrs),
        (&b"abc"[..], &vec![(b"user.a".to_vec(), b"b\nc=\xff".to_vec())])
    );
    assert_eq!(item(&items, "b").0.uid, 0);
}

#[test]
fn paths_begin_at_the_root_whatever_they_look_like() {
    let archive = Tar::default()
        .dir("./")
        .dir("/etc/")
        .file("//etc/./x", "1")
        .hardlink("./y", "/etc/x")
        .end();
    let items = of_tar(&archive, false).unwrap();
    let paths: Vec<_> = items.iter().map(|(e, _)| e.path.clone()).collect();
    assert_eq!(paths, [&b""[..], b"etc", b"etc/x", b"y"]);
    assert_eq!(items[3].0.kind, Kind::Hardlink { target: b"etc/x".to_vec() });
}

#[test]
fn layers_have_marks() {
    let archive = Tar::default()
        .file("etc/.wh.gone", "")
        .file("etc/.wh..wh..opq", "")
        .file(".wh..wh..opq", "")
        .file(".wh..wh.plnk", "")
        .file(".wh..wh.aufs/x", "")
        .end();
    let items = of_tar(&archive, true).unwrap();
    let found: Vec<_> = items.iter().map(|(e, _)| (e.path.clone(), e.kind.clone())).collect();
    assert_eq!(found[0], (b"etc/gone".to_vec(), Kind::Whiteout));
    assert_eq!(found[1], (b"etc".to_vec(), Kind::Opaque));
    assert_eq!(found[2], (b"".to_vec(), Kind::Opaque));
    // Elsewhere they are names like any other.
    let items = of_tar(&archive, false).unwrap();
    assert_eq!(items[0].0.kind, Kind::File { size: 0 });
    for odd in [".wh.", ".wh..", ".wh...", "a/.wh.."] {
        assert!(of_tar(&Tar::default().file(odd, "").end(), true).is_err(), "{odd}");
    }
}
