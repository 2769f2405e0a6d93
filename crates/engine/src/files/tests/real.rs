//! Every operation, against the face.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use pixels_core::{FileKind, FileSession, Owner, WriteOpts};
use pixels_guest_api::files::{Attrs, DATA, Head, Request};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::AsyncWriteExt;

use super::super::Connect;
use super::{Faces, World, at_once, read, reader};

/// This process's own ids: those that a file gets when nobody is named.
fn own() -> Owner {
    Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

/// An owner that may be given away: only root may.
fn other() -> Owner {
    if own().uid == 0 { Owner { uid: 1234, gid: 4321 } } else { own() }
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[tokio::test]
async fn files_and_what_is_known_of_them() {
    let w = World::new();
    let (s, file) = (&w.session, w.at("file"));
    assert_eq!(s.write(&file, reader("0123456789"), WriteOpts::default()).await.unwrap(), 10);
    let stat = s.stat(&file, false).await.unwrap();
    assert_eq!((stat.kind, stat.size, stat.mode), (FileKind::File, 10, 0o644));
    assert_eq!(stat.owner, own());
    assert_eq!(read(s, &file).await.unwrap(), b"0123456789");
    s.write(&file, reader(""), WriteOpts::default()).await.unwrap();
    assert_eq!(read(s, &file).await.unwrap(), b"");
    for mode in [0o600, 0o000, 0o4755, 0o2755, 0o1644, 0o7777] {
        let opts = WriteOpts { mode: Some(mode), owner: Some(other()), mtime: Some(1_000_000_000) };
        s.write(&file, reader("x"), opts).await.unwrap();
        let stat = s.stat(&file, false).await.unwrap();
        assert_eq!((stat.mode, stat.owner, stat.mtime), (mode, other(), 1_000_000_000), "{mode:o}");
    }
    // What is not given is kept, set-user-id included.
    s.write(&file, reader("new"), WriteOpts::default()).await.unwrap();
    let stat = s.stat(&file, false).await.unwrap();
    assert_eq!((stat.mode, stat.owner, stat.size), (0o7777, other(), 3));
    assert_ne!(stat.mtime, 1_000_000_000);
    assert_eq!(w.names(), ["file"], "nothing else is there");
    s.remove_file(&file).await.unwrap();
    assert!(s.stat(&file, false).await.unwrap_err().is_not_found());
    assert!(s.remove_file(&file).await.unwrap_err().is_not_found());
    assert_eq!(w.faces.made(), 1, "one connection serves one call after another");
}

#[tokio::test]
async fn attributes() {
    let w = World::new();
    let s = &w.session;
    s.write(&w.at("file"), reader("x"), WriteOpts::default()).await.unwrap();
    s.mkdir(&w.at("dir"), 0o755, None).await.unwrap();
    mknodat(CWD, path(&w.at("fifo")), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    s.symlink(b"file", &w.at("link"), None).await.unwrap();
    for name in ["dir", "fifo", "link", "file"] {
        let at = w.at(name);
        let opts =
            WriteOpts { mode: Some(0o6750), owner: Some(other()), mtime: Some(1_234_567_890) };
        at_once(s.set_attrs(&at, opts)).await.unwrap();
        let stat = s.stat(&at, true).await.unwrap();
        assert_eq!((stat.mode, stat.owner, stat.mtime), (0o6750, other(), 1_234_567_890), "{name}");
    }
    let before = s.stat(&w.at("file"), false).await.unwrap();
    s.set_attrs(&w.at("file"), WriteOpts::default()).await.unwrap();
    assert_eq!(s.stat(&w.at("file"), false).await.unwrap(), before, "nothing asked, nothing done");
    let gone = s.set_attrs(&w.at("none"), WriteOpts::default()).await.unwrap_err();
    assert!(gone.is_not_found(), "{gone}");
    let opts = WriteOpts { mtime: Some(u64::MAX), ..WriteOpts::default() };
    assert_eq!(s.set_attrs(&w.at("file"), opts).await.unwrap_err().code(), "invalid");
}

#[tokio::test]
async fn directories() {
    let w = World::new();
    let s = &w.session;
    // One with the set-group-id bit would give what is in it its own group and bit.
    let root = w.at("");
    s.set_attrs(&root, WriteOpts { mode: Some(0o2755), owner: Some(other()), mtime: None })
        .await
        .unwrap();
    s.mkdir(&w.at("plain"), 0o755, None).await.unwrap();
    s.mkdir(&w.at("given"), 0o1750, Some(other())).await.unwrap();
    s.symlink(b"plain", &w.at("link"), None).await.unwrap();
    s.write(&w.at("file"), reader(""), WriteOpts::default()).await.unwrap();
    for (name, mode, owner) in [("plain", 0o755, own()), ("given", 0o1750, other())] {
        let stat = s.stat(&w.at(name), false).await.unwrap();
        assert_eq!((stat.kind, stat.mode, stat.owner), (FileKind::Dir, mode, owner), "{name}");
    }
    for name in ["link", "file"] {
        assert_eq!(s.stat(&w.at(name), false).await.unwrap().owner, own(), "{name}");
    }
    for taken in ["plain", "link", "file"] {
        assert!(s.mkdir(&w.at(taken), 0o755, None).await.unwrap_err().is_already_exists());
    }
    assert_eq!(s.remove_dir(&w.at("file")).await.unwrap_err().code(), "invalid");
    assert_eq!(s.remove_dir(&w.at("link")).await.unwrap_err().code(), "invalid");
    assert_eq!(s.remove_file(&w.at("plain")).await.unwrap_err().code(), "invalid");
    s.write(&w.at("plain/x"), reader(""), WriteOpts::default()).await.unwrap();
    assert_eq!(s.remove_dir(&w.at("plain")).await.unwrap_err().code(), "invalid");
    assert_eq!(s.read_dir(&w.at("file")).await.unwrap_err().code(), "invalid");
    assert_eq!(s.stat(&w.at("file/x"), true).await.unwrap_err().code(), "invalid");
    s.remove_file(&w.at("plain/x")).await.unwrap();
    s.remove_dir(&w.at("plain")).await.unwrap();
    assert_eq!(w.names(), ["file", "given", "link"]);
}

#[tokio::test]
async fn a_directory_of_many_names() {
    let w = World::new();
    for n in 0..5000 {
        fs::write(path(&w.at(format!("{n:0100}"))), "").unwrap();
    }
    let mut names: Vec<_> =
        w.session.read_dir(&w.at("")).await.unwrap().into_iter().map(|e| e.name).collect();
    names.sort();
    let expected: Vec<_> = (0..5000).map(|n| format!("{n:0100}").into_bytes()).collect();
    assert_eq!(names, expected);
    fs::create_dir(path(&w.at("empty"))).unwrap();
    assert!(w.session.read_dir(&w.at("empty")).await.unwrap().is_empty());
    assert!(w.session.read_dir(&w.at("none")).await.unwrap_err().is_not_found());
    assert_eq!(w.faces.made(), 1);
}

#[tokio::test]
async fn names_and_links_of_any_bytes() {
    let w = World::new();
    let s = &w.session;
    let long = [b'n'; 255];
    let names: [&[u8]; 9] =
        [b"-rf", b" ", b"a\nb", b"\xff\xfe", b"'\"$(x)`", b"...", b"\x1b[31m", b"a\\b", &long];
    for name in names {
        s.write(&w.at(name), reader(name), WriteOpts::default()).await.unwrap();
        assert_eq!(read(s, &w.at(name)).await.unwrap(), name);
        assert_eq!(fs::read(path(&w.at(name))).unwrap(), name);
    }
    let mut listed: Vec<_> =
        s.read_dir(&w.at("")).await.unwrap().into_iter().map(|e| e.name).collect();
    let mut expected: Vec<_> = names.iter().map(|n| n.to_vec()).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    let long = [&long[..], b"n"].concat();
    let refused = s.write(&w.at(&long), reader(""), WriteOpts::default()).await.unwrap_err();
    assert_eq!(refused.code(), "invalid", "{refused}");
    s.symlink(b"/no\xff/\nwhere", &w.at("link"), Some(other())).await.unwrap();
    assert_eq!(s.read_link(&w.at("link")).await.unwrap(), b"/no\xff/\nwhere");
    let stat = s.stat(&w.at("link"), false).await.unwrap();
    assert_eq!((stat.kind, stat.owner), (FileKind::Symlink, other()), "a link has an owner too");
    assert!(s.stat(&w.at("link"), true).await.unwrap_err().is_not_found());
    assert!(s.symlink(b"x", &w.at("link"), None).await.unwrap_err().is_already_exists());
    assert_eq!(s.read_link(&w.at("...")).await.unwrap_err().code(), "invalid");
    for bad in [&b""[..], b"relative", b"/a\0b"] {
        assert_eq!(s.stat(bad, true).await.unwrap_err().code(), "invalid", "{bad:?}");
    }
}

#[tokio::test]
async fn links_are_followed_to_where_the_file_is() {
    let w = World::new();
    let s = &w.session;
    fs::create_dir_all(path(&w.at("a/b"))).unwrap();
    fs::write(path(&w.at("a/b/file")), "old").unwrap();
    symlink("b/file", path(&w.at("a/one"))).unwrap();
    symlink(path(&w.at("a/one")), path(&w.at("two"))).unwrap();
    symlink("a/b/new", path(&w.at("dangling"))).unwrap();
    s.write(&w.at("two"), reader("new"), WriteOpts::default()).await.unwrap();
    assert_eq!(fs::read(path(&w.at("a/b/file"))).unwrap(), b"new");
    assert!(fs::symlink_metadata(path(&w.at("two"))).unwrap().is_symlink());
    assert!(fs::symlink_metadata(path(&w.at("a/one"))).unwrap().is_symlink());
    s.write(&w.at("dangling"), reader("made"), WriteOpts::default()).await.unwrap();
    assert_eq!(fs::read(path(&w.at("a/b/new"))).unwrap(), b"made");
    symlink("loop", path(&w.at("loop"))).unwrap();
    let looped = s.write(&w.at("loop"), reader(""), WriteOpts::default()).await.unwrap_err();
    assert!(looped.to_string().contains("links"), "{looped}");
    assert!(s.open_read(&w.at("loop")).await.is_err());
    assert_eq!(w.names(), ["a", "dangling", "loop", "two"]);
}

#[tokio::test]
async fn renames() {
    let w = World::new();
    let s = &w.session;
    for name in ["a", "b"] {
        s.write(&w.at(name), reader(name), WriteOpts::default()).await.unwrap();
    }
    for dir in ["dir", "empty"] {
        s.mkdir(&w.at(dir), 0o755, None).await.unwrap();
    }
    s.rename(&w.at("a"), &w.at("b")).await.unwrap();
    assert_eq!(read(s, &w.at("b")).await.unwrap(), b"a");
    let missing = s.rename(&w.at("a"), &w.at("b")).await.unwrap_err();
    assert!(missing.is_not_found() && missing.to_string().contains("/a"), "{missing}");
    let missing = s.rename(&w.at("b"), &w.at("none/b")).await.unwrap_err();
    assert!(missing.is_not_found() && missing.to_string().contains("/none\""), "{missing}");
    for (from, to) in [("b", "dir"), ("dir", "b"), ("dir", "empty")] {
        let taken = s.rename(&w.at(from), &w.at(to)).await.unwrap_err();
        assert!(taken.is_already_exists(), "{from} to {to}: {taken}");
    }
    let inside = s.rename(&w.at("dir"), &w.at("dir/x")).await.unwrap_err();
    assert_eq!(inside.code(), "invalid", "{inside}");
    s.rename(&w.at("dir"), &w.at("moved")).await.unwrap();
    assert_eq!(w.names(), ["b", "empty", "moved"]);
}

#[tokio::test]
async fn what_is_no_file_is_an_error_and_stays() {
    let w = World::new();
    let s = &w.session;
    mknodat(CWD, path(&w.at("fifo")), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path(&w.at("socket"))).unwrap();
    fs::create_dir(path(&w.at("dir"))).unwrap();
    symlink("fifo", path(&w.at("link"))).unwrap();
    let before = w.names();
    let mut paths: Vec<_> = before.iter().map(|n| w.at(n)).collect();
    paths.extend([b"/dev/null".to_vec(), b"/dev/zero".to_vec(), b"/dev/tty".to_vec()]);
    paths.extend([w.at("dir/"), w.at("dir/."), w.at("dir/.."), b"/".to_vec()]);
    for path in paths {
        let shown = String::from_utf8_lossy(&path).into_owned();
        let opened = at_once(s.open_read(&path)).await;
        assert_eq!(opened.err().unwrap().code(), "invalid", "read {shown}");
        let written = at_once(s.write(&path, reader("x"), WriteOpts::default())).await;
        assert_eq!(written.unwrap_err().code(), "invalid", "write {shown}");
    }
    assert_eq!(w.names(), before);
    let listed = s.read_dir(&w.at("")).await.unwrap();
    let fifo = listed.iter().find(|e| e.name == b"fifo").unwrap();
    assert_eq!(fifo.stat.kind, FileKind::Special);
    s.remove_file(&w.at("fifo")).await.unwrap();
    assert_eq!(w.faces.made(), 1, "refusals leave the connection usable");
}

#[tokio::test]
async fn missing_parents() {
    let w = World::new();
    let (s, at) = (&w.session, w.at("none/file"));
    let write = s.write(&at, reader("x"), WriteOpts::default()).await.unwrap_err();
    assert!(write.is_not_found() && write.to_string().contains("/none\""), "{write}");
    assert!(s.mkdir(&at, 0o755, None).await.unwrap_err().is_not_found());
    assert!(s.symlink(b"x", &at, None).await.unwrap_err().is_not_found());
    assert!(s.stat(&at, false).await.unwrap_err().is_not_found());
    assert!(s.open_read(&at).await.err().unwrap().is_not_found());
    assert!(s.read_dir(&at).await.unwrap_err().is_not_found());
    assert!(s.read_link(&at).await.unwrap_err().is_not_found());
    assert!(s.remove_file(&at).await.unwrap_err().is_not_found());
    assert!(s.remove_dir(&at).await.unwrap_err().is_not_found());
    assert!(w.names().is_empty());
}

#[tokio::test]
async fn files_of_proc_have_content_without_a_size() {
    let w = World::new();
    let (stat, _) = w.session.open_read(b"/proc/version").await.unwrap();
    assert_eq!(stat.size, 0);
    let content = read(&w.session, b"/proc/version").await.unwrap();
    assert_eq!(content, fs::read("/proc/version").unwrap());
}

#[tokio::test]
async fn a_server_that_is_asked_nonsense_ends() {
    let w = World::new();
    let write =
        Request::Write { path: w.at("x"), temp: b".pixels-1".to_vec(), attrs: Attrs::default() };
    let half =
        [write.encode().unwrap(), Head::encode(DATA, 10).to_vec(), b"half".to_vec()].concat();
    let odd = [write.encode().unwrap(), Head::encode(99, 0).to_vec()].concat();
    for nonsense in [vec![0; 5], vec![0xff; 64], b"GET / HTTP/1.1\r\n\r\n".to_vec(), half, odd] {
        let mut socket = w.faces.connect().await.unwrap();
        socket.write_all(&nonsense).await.unwrap();
        drop(socket);
        assert_eq!(w.faces.wait(), [Some(1)], "{nonsense:?}");
        assert!(w.names().is_empty(), "nothing half-made stays");
    }
}

#[tokio::test]
async fn an_idle_connection_that_ended_is_replaced() {
    let w = World::of(Faces::idle(1));
    let s = &w.session;
    s.write(&w.at("a"), reader("x"), WriteOpts::default()).await.unwrap();
    assert_eq!(w.faces.wait(), [Some(0)], "it ends by itself, and well");
    // What may not be done twice is done once, on another.
    s.rename(&w.at("a"), &w.at("b")).await.unwrap();
    assert_eq!(w.faces.made(), 2);
    w.faces.kill();
    s.mkdir(&w.at("dir"), 0o755, None).await.unwrap();
    assert_eq!(w.names(), ["b", "dir"]);
}

#[tokio::test]
async fn many_idle_ends_lose_no_operation() {
    // Ends of servers and requests meet at every moment there is.
    let w = World::of(Faces::idle(0));
    for n in 0..300 {
        w.session.mkdir(&w.at(format!("{n}")), 0o755, None).await.unwrap();
        w.session.remove_dir(&w.at(format!("{n}"))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once() {
    let w = World::new();
    let s = &w.session;
    let calls = (0..40u8).map(|n| {
        let path = w.at(format!("f{n}"));
        async move {
            let content = vec![n; 20_000];
            s.write(&path, reader(content.clone()), WriteOpts::default()).await.unwrap();
            assert_eq!(read(s, &path).await.unwrap(), content);
        }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(s.read_dir(&w.at("")).await.unwrap().len(), 40);
    let before = w.faces.made();
    let file = w.at("f1");
    let stats = futures_util::future::join_all((0..500).map(|_| s.stat(&file, true))).await;
    assert!(stats.iter().all(Result::is_ok));
    assert!(w.faces.made() - before <= 4, "calls with one answer share a few connections");
}
