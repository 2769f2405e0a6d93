//! push and pull: trees both ways, atomic writes, what stands in the way, and a
//! guest that plays tricks.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Done, World};

/// Longer than anything here takes, shorter than a hang.
const SOON: Duration = Duration::from_secs(60);

/// What is in a tree, the same words on both sides: paths, kinds, modes, sizes,
/// times and link targets, then the content of every file.
const LISTING: &str = "set -e; export LC_ALL=C; cd \"$1\"; \
    find . \\( -type d -printf '%P\\t%y\\t%m\\0' \\) -o \\( -type l -printf '%P\\t%y\\t%l\\0' \\) \
      -o -printf '%P\\t%y\\t%m\\t%s\\t%Ts\\0' | sort -z; \
    find . -type f -print0 | sort -z | xargs -0 -r sha256sum -z --";

fn listed_here(tree: &Path) -> Vec<u8> {
    let out = Command::new("sh").args(["-c", LISTING, "sh"]).arg(tree).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn listed_there(world: &World, pixel: &str, tree: &str) -> Vec<u8> {
    world.ok(["exec", "--root", pixel, "--", "sh", "-c", LISTING, "sh", tree]).stdout
}

fn same(left: &[u8], right: &[u8], what: &str) {
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "\n");
    assert!(left == right, "{what}:\n{}\n--- and\n{}", show(left), show(right));
}

/// Names that somebody's code would trip over.
fn names() -> Vec<&'static [u8]> {
    vec![
        b"plain",
        b"with space",
        b"new\nline",
        b"-rf",
        b"caf\xc3\xa9",
        b"\xff\xfe raw",
        b"\\",
        b"'\"$(x)`",
    ]
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A tree with everything in it that a tree can have; `sticky`: also a mode that
/// only a running pixel can be given.
fn make_tree(root: &Path, sticky: bool) {
    fs::create_dir(root).unwrap();
    for (n, name) in names().into_iter().enumerate() {
        let dir = root.join(OsStr::from_bytes(name));
        fs::create_dir(&dir).unwrap();
        for (m, inner) in names().into_iter().enumerate() {
            let file = dir.join(OsStr::from_bytes(inner));
            // Sizes around a block, none too.
            let size = [0, 1, 32 * 1024 - 1, 32 * 1024, 300_001][(n + m) % 5];
            fs::write(&file, vec![b'a' + n as u8; size]).unwrap();
            mode(&file, [0o644, 0o600, 0o755, 0o444, 0o000, 0o111][(n * 3 + m) % 6]);
        }
    }
    fs::create_dir(root.join("empty")).unwrap();
    fs::create_dir_all(root.join("deep/er/still")).unwrap();
    let links: [(&[u8], &[u8]); 5] = [
        (b"plain/plain", b"link"),
        (b"nowhere \xff\n", b"dangling"),
        (b"/etc/passwd", b"absolute"),
        (b"../../../../..", b"up"),
        (b".", b"self\xfe"),
    ];
    for (target, name) in links {
        symlink(OsStr::from_bytes(target), root.join(OsStr::from_bytes(name))).unwrap();
    }
    mode(&root.join("deep/er"), 0o700);
    mode(&root.join("empty"), if sticky { 0o1777 } else { 0o777 });
    mode(&root.join("deep"), 0o555);
}

fn remote(pixel: &str, path: &str) -> String {
    format!("{pixel}:{path}")
}

fn refused(done: &Done, words: &str) {
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err().contains(words), "no {words:?} in {done:?}");
}

#[test]
fn trees_arrive_byte_for_byte_both_ways() {
    let world = World::shared();
    let (pixel, dir) = (world.pixel(), tempfile::tempdir().unwrap());
    let (source, back) = (dir.path().join("source"), dir.path().join("back"));
    make_tree(&source, true);
    let want = listed_here(&source);
    world.ok([OsStr::new("push"), source.as_os_str(), remote(pixel, "/root/tree").as_ref()]);
    same(&want, &listed_there(&world, pixel, "/root/tree"), "what was pushed");
    world.ok([OsStr::new("pull"), remote(pixel, "/root/tree").as_ref(), back.as_os_str()]);
    same(&want, &listed_here(&back), "what was pulled");
    // Over what is there: the same again.
    let content = source.join(".");
    world.ok([OsStr::new("push"), content.as_os_str(), remote(pixel, "/root/tree").as_ref()]);
    same(&want, &listed_there(&world, pixel, "/root/tree"), "what was pushed over it");
    let list = world.sh(pixel, "find /root /tmp -xdev -name '.pixels-*'");
    assert_eq!(list, "", "nothing temporary is left");
}

#[test]
fn a_stopped_pixel_takes_and_gives_files() {
    let world = World::new();
    let (pixel, dir) = (world.create("stopped"), tempfile::tempdir().unwrap());
    world.ok(["stop", "--force", &pixel]);
    let (source, back) = (dir.path().join("source"), dir.path().join("back"));
    make_tree(&source, false);
    let want = listed_here(&source);
    world.ok([OsStr::new("push"), source.as_os_str(), remote(&pixel, "/root/tree").as_ref()]);
    world.ok([OsStr::new("pull"), remote(&pixel, "/root/tree").as_ref(), back.as_os_str()]);
    same(&want, &listed_here(&back), "what was pulled");
    // What it cannot be given is refused, and nothing is replaced for it.
    let odd = dir.path().join("odd");
    fs::write(&odd, "new").unwrap();
    let to = remote(&pixel, "/root/odd");
    world.ok([OsStr::new("push"), odd.as_os_str(), to.as_ref()]);
    fs::write(&odd, "newer").unwrap();
    mode(&odd, 0o1644);
    let done = world.pixels([OsStr::new("push"), odd.as_os_str(), to.as_ref()]);
    refused(
        &done,
        &format!("does not support the sticky bit of /root/odd while {pixel} does not run"),
    );
    assert!(done.err().contains(&format!("hint: pixels start {pixel} first")), "{done:?}");
    world.ok([OsStr::new("pull"), to.as_ref(), dir.path().join("got").as_os_str()]);
    assert_eq!(fs::read(dir.path().join("got")).unwrap(), b"new");
    world.ok(["start", &pixel]);
    world.ok([OsStr::new("push"), odd.as_os_str(), to.as_ref()]);
    assert_eq!(world.sh(&pixel, "stat -c %a /root/odd; cat /root/odd"), "1644\nnewer");
    same(&want, &listed_there(&world, &pixel, "/root/tree"), "what the guest sees");
}

#[test]
fn a_reader_sees_the_old_file_or_the_new() {
    let world = World::shared();
    let (pixel, dir) = (world.pixel(), tempfile::tempdir().unwrap());
    // All bytes of a file are the same letter.
    let versions: Vec<PathBuf> = (0..6)
        .map(|n| {
            let path = dir.path().join(format!("v{n}"));
            fs::write(&path, vec![b'a' + n; 2 << 20]).unwrap();
            path
        })
        .collect();
    let push = |path: &Path| {
        world.ok([OsStr::new("push"), path.as_os_str(), remote(pixel, "/root/at").as_ref()]);
    };
    push(&versions[0]);
    let reader = "import os\n\
        n = 0\n\
        seen = set()\n\
        while not os.path.exists('/root/at.stop'):\n\
        \x20   data = open('/root/at', 'rb').read()\n\
        \x20   whole = len(data) == 2 << 20 and data == data[:1] * len(data)\n\
        \x20   seen.add(data[:1].decode() if whole else 'TORN')\n\
        \x20   n += 1\n\
        \x20   open('/root/at.n', 'w').write(str(n))\n\
        print(n, ' '.join(sorted(seen)))\n";
    let reading = world.spawn(["exec", "--root", pixel, "--", "python3", "-c", reader]);
    world.until(pixel, "[ -s /root/at.n ]");
    for version in &versions[1..] {
        push(version);
    }
    world.sh(pixel, "touch /root/at.stop");
    let done = reading.wait(SOON);
    assert_eq!(done.code, Some(0), "{done:?}");
    let text = done.text();
    assert!(!text.contains("TORN") && text.split_whitespace().count() >= 2, "{text}");
    assert_eq!(world.sh(pixel, "tr -d f </root/at | wc -c").trim(), "0", "the last one stays");
}

#[test]
fn a_killed_push_leaves_the_old_and_the_next_one_cleans_up() {
    let world = World::shared();
    let (pixel, dir) = (world.pixel(), tempfile::tempdir().unwrap());
    let (big, small) = (dir.path().join("big"), dir.path().join("small"));
    File::create(&big).unwrap().set_len(1 << 30).unwrap();
    fs::write(&small, "old").unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    File::create(tree.join("big")).unwrap().set_len(1 << 30).unwrap();
    world.sh(pixel, "mkdir /root/killed");
    let file = remote(pixel, "/root/killed/file");
    world.ok([OsStr::new("push"), small.as_os_str(), file.as_ref()]);
    let temps = "find /root/killed -mindepth 1 -maxdepth 1 -name '.pixels-*'";
    for (source, target) in [(&big, "file"), (&tree, "tree")] {
        let to = remote(pixel, &format!("/root/killed/{target}"));
        let pushing = world.spawn([OsStr::new("push"), source.as_os_str(), to.as_ref()]);
        world.until(pixel, "find /root/killed -path '*/.pixels-*' -type f -size +0 | grep -q .");
        pushing.signal(Signal::KILL);
        assert_eq!(pushing.wait(SOON).signal, Some(9));
        assert_eq!(world.sh(pixel, "cat /root/killed/file; ls /root/killed"), "oldfile\n");
        let left = world.sh(pixel, temps);
        assert!(left.lines().count() <= 1, "{left}");
        // The daemon's file service may write what it has; the next push removes it.
        world.ok([OsStr::new("push"), small.as_os_str(), file.as_ref()]);
        assert_eq!(world.sh(pixel, temps), "", "after {target}");
    }
    // Interrupted, it cleans up by itself.
    let to = remote(pixel, "/root/killed/tree");
    let pushing = world.spawn([OsStr::new("push"), tree.as_os_str(), to.as_ref()]);
    world.until(pixel, "find /root/killed -path '*/.pixels-*' -type f -size +0 | grep -q .");
    pushing.signal(Signal::INT);
    let done = pushing.wait(SOON);
    assert_eq!(done.code, Some(130), "{done:?}");
    assert_eq!(world.sh(pixel, "ls -A /root/killed"), "file\n");
}

#[test]
fn fifos_and_devices_are_errors_and_stay() {
    let world = World::shared();
    let (pixel, dir) = (world.pixel(), tempfile::tempdir().unwrap());
    world.sh(pixel, "mkdir -p /root/odd/tree && mkfifo /root/odd/fifo /root/odd/tree/fifo && ln -s fifo /root/odd/link");
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let fifo = dir.path().join("fifo");
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for path in [&fifo, &tree.join("fifo")] {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }
    let run = |verb: &str, from: &OsStr, to: &OsStr, words: &str| {
        let done = world.spawn([OsStr::new(verb), from, to]).wait(SOON);
        refused(&done, words);
    };
    let special = "FIFO, socket or device";
    let there = |path: &str| remote(pixel, path);
    let new = dir.path().join("new");
    // From the guest.
    for path in ["/root/odd/fifo", "/root/odd/tree", "/root/odd", "/dev/null", "/dev/tty"] {
        run("pull", there(path).as_ref(), new.as_os_str(), special);
        assert!(!new.exists(), "{path} left something");
    }
    // In the guest's way.
    for path in ["/root/odd/fifo", "/root/odd/link", "/dev/null"] {
        run("push", file.as_os_str(), there(path).as_ref(), special);
    }
    let kinds =
        world.sh(pixel, "stat -c %F /root/odd/fifo /root/odd/link /dev/null; ls -A /root/odd");
    assert_eq!(kinds, "fifo\nsymbolic link\ncharacter special file\nfifo\nlink\ntree\n");
    // From the host.
    for path in [&fifo, &tree, &PathBuf::from("/dev/zero")] {
        run("push", path.as_os_str(), there("/root/odd/new").as_ref(), special);
    }
    assert_eq!(world.sh(pixel, "ls -A /root/odd"), "fifo\nlink\ntree\n");
    // In the host's way, also below a directory that is written over.
    world.sh(pixel, "mkdir /root/odd/good && echo x >/root/odd/good/fifo && cp /root/odd/good/fifo /root/odd/regular");
    run("pull", there("/root/odd/regular").as_ref(), fifo.as_os_str(), special);
    run("pull", there("/root/odd/regular").as_ref(), "/dev/null".as_ref(), special);
    run("pull", there("/root/odd/good/.").as_ref(), tree.as_os_str(), special);
    for path in [&fifo, &tree.join("fifo")] {
        assert!(fs::symlink_metadata(path).unwrap().file_type().is_fifo());
    }
}

#[test]
fn a_guest_that_swaps_directories_for_links_gains_nothing() {
    // A pixel of its own: what its games leave in it is nobody else's.
    let world = World::new();
    let pixel = &world.create("swapper");
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let canary = outside.path().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("file"), "SECRET").unwrap();
    // The link leads to the host's canary for whoever resolves it on the host.
    let target = canary.to_str().unwrap();
    world.sh(pixel, "mkdir -p /root/swap/d && for i in $(seq 40); do echo guest >/root/swap/d/$i; done; echo guest >/root/swap/d/file");
    let swapper = format!(
        "cd /root/swap; touch on; while [ -e on ]; do \
           mv d e; ln -s {target} d; rm d; ln -s ../../../../../..{target} d; rm d; mv e d; done"
    );
    let swapping = world.spawn(["exec", "--root", pixel, "--", "sh", "-c", swapper.as_str()]);
    world.until(pixel, "[ -e /root/swap/on ]");
    let source = dir.path().join("d");
    fs::create_dir(&source).unwrap();
    for n in 0..20 {
        fs::write(source.join(format!("push{n}")), "pushed").unwrap();
    }
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    let (mut won, mut lost) = (0, 0);
    for round in 0..10 {
        let fresh = dir.path().join(format!("pull{round}"));
        let from = remote(pixel, "/root/swap");
        let to = remote(pixel, "/root/swap/");
        for args in [
            [OsStr::new("pull"), from.as_ref(), fresh.as_os_str()],
            // Over the last round's, which may hold the link.
            [OsStr::new("pull"), from.as_ref(), into.as_os_str()],
            [OsStr::new("push"), source.as_os_str(), to.as_ref()],
        ] {
            let done = world.spawn(args).wait(SOON);
            match done.code {
                Some(0) => won += 1,
                Some(1) => lost += 1,
                _ => panic!("{done:?}"),
            }
        }
    }
    world.sh(pixel, "rm -f /root/swap/on");
    swapping.wait(SOON);
    // Nothing read outside, nothing written there.
    let found = Command::new("grep").args(["-rs", "SECRET"]).arg(dir.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    let left: Vec<_> = fs::read_dir(&canary).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["file"]);
    assert_eq!(fs::read(canary.join("file")).unwrap(), b"SECRET");
    assert_eq!(world.sh(pixel, "grep -rs SECRET /root/swap; true"), "");
    assert!(won + lost == 30, "{won} {lost}");
    // A push whose directory was moved from under it cannot take its half-made
    // file back, and a later pull brings it here as any other file of the
    // guest's: names that the guest holds are not this side's.
    let names = |list: &str| -> Vec<String> {
        list.lines().filter_map(|l| Some(l.rsplit('/').next()?.to_owned())).collect()
    };
    let theirs = names(&world.sh(pixel, "find /root/swap -name '.pixels-*'"));
    let temps = Command::new("find").arg(dir.path()).args(["-name", ".pixels-*"]).output().unwrap();
    let mut ours = names(&String::from_utf8_lossy(&temps.stdout));
    ours.retain(|name| !theirs.contains(name));
    assert!(ours.is_empty(), "half-made files are left here: {ours:?}");
}

/// The long one, with PIXELS_FULL=1: says how fast it was.
#[test]
fn full_a_gibibyte_both_ways() {
    if std::env::var_os("PIXELS_FULL").is_none_or(|v| v != "1") {
        eprintln!("left out: PIXELS_FULL=1 moves a gibibyte both ways");
        return;
    }
    let world = World::shared();
    let (pixel, dir) = (world.pixel(), tempfile::tempdir().unwrap());
    let (source, back) = (dir.path().join("source"), dir.path().join("back"));
    let mut random = File::open("/dev/urandom").unwrap();
    std::io::copy(
        &mut std::io::Read::take(&mut random, 1 << 30),
        &mut File::create(&source).unwrap(),
    )
    .unwrap();
    let sum = |path: &Path| {
        let out = Command::new("sha256sum").arg("--").arg(path).output().unwrap();
        String::from_utf8(out.stdout).unwrap()[..64].to_owned()
    };
    let there = remote(pixel, "/root/gib");
    let timed = |what: &str, args: [&OsStr; 3]| {
        let begun = Instant::now();
        let done = world.spawn(args).wait(Duration::from_secs(600));
        assert_eq!(done.code, Some(0), "{done:?}");
        let speed = (1u64 << 30) as f64 / 1e6 / begun.elapsed().as_secs_f64();
        println!("figure: {what} 1 GiB: {speed:.0} MB/s");
    };
    timed("push", [OsStr::new("push"), source.as_os_str(), there.as_ref()]);
    let want = sum(&source);
    assert_eq!(world.sh(pixel, "sha256sum </root/gib")[..64], want);
    timed("pull", [OsStr::new("pull"), there.as_ref(), back.as_os_str()]);
    assert_eq!(sum(&back), want);
    world.sh(pixel, "rm /root/gib");
}
