//! Files: what goes in comes out, with its mode, owner and name.

use anyhow::{Context as _, Result, ensure};
use pixels_core::{Bytes, FileKind, FileSession, Owner, Reader, SandboxExt, StopOpts, WriteOpts};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::{Noise, expect_code, table};
use crate::Ctx;

table! { "files":
    write_read_list_delete [],
    modes_and_owners [],
    an_overwrite_keeps_what_is_not_given [],
    names_of_any_bytes [],
    names_that_the_guest_made [Linux, ByteExact],
    links [],
    directories_and_renames [],
    a_recursive_list [],
    ten_mebibytes [],
    a_stopped_pixel_has_files [FilesWhenStopped],
}

/// A reader of `content`.
pub(super) fn reader(content: &[u8]) -> Reader {
    Box::pin(std::io::Cursor::new(content.to_vec()))
}

/// All of a file.
pub(super) async fn read(session: &dyn FileSession, path: &[u8]) -> Result<Bytes> {
    let (_, mut from) = session.open_read(path).await?;
    let mut content = Bytes::new();
    from.read_to_end(&mut content).await?;
    Ok(content)
}

/// A path below `dir`.
pub(super) fn join(dir: &str, name: &[u8]) -> Bytes {
    [dir.as_bytes(), b"/", name].concat()
}

async fn write_read_list_delete(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.shared().await?);
    let dir = cx.dir(&pixel).await?;
    let path = format!("{dir}/file");
    sandbox.write_file(&pixel, &path, b"0123456789", 0o640, None).await?;
    for (max, content, more) in [
        (0, "0123456789", false),
        (4, "0123", true),
        (10, "0123456789", false),
        (99, "0123456789", false),
    ] {
        let got = sandbox.read_file(&pixel, &path, max).await?;
        ensure!(got == (content.into(), more), "at most {max}: {got:?}");
    }
    ensure!(cx.ask(&pixel, &["cat", &path]).await? == "0123456789", "the guest sees it");
    sandbox.write_file(&pixel, &format!("{dir}/empty"), b"", 0o600, None).await?;
    let got = sandbox.read_file(&pixel, &format!("{dir}/empty"), 0).await?;
    ensure!(got == (Vec::new(), false), "an empty file: {got:?}");
    let list = sandbox.list_files(&pixel, &dir, false).await?;
    let list: Vec<_> = list.iter().map(|e| (e.path.as_str(), e.size, e.mode, e.is_dir)).collect();
    let empty = format!("{dir}/empty");
    ensure!(list == [(&*empty, 0, 0o600, false), (&*path, 10, 0o640, false)], "{list:?}");
    sandbox.delete_file(&pixel, &path).await?;
    expect_code("read", sandbox.read_file(&pixel, &path, 0).await, &["not_found"])?;
    expect_code("delete", sandbox.delete_file(&pixel, &path).await, &["not_found"])?;
    expect_code("list", sandbox.list_files(&pixel, &path, false).await, &["not_found"])?;
    Ok(())
}

async fn modes_and_owners(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    let session = cx.sandbox().files(&pixel).await?;
    let owner = Owner { uid: 1234, gid: 4321 };
    for mode in [0o600, 0o644, 0o755, 0o000, 0o4755, 0o1644] {
        let path = join(&dir, format!("mode-{mode:o}").as_bytes());
        let opts = WriteOpts { mode: Some(mode), owner: Some(owner), mtime: Some(1_000_000_000) };
        let written = session.write(&path, reader(b"x"), opts).await?;
        let stat = session.stat(&path, false).await?;
        ensure!(written == 1 && stat.kind == FileKind::File && stat.size == 1, "{stat:?}");
        ensure!(stat.mode & 0o7777 == mode, "asked for {mode:o}, got {:o}", stat.mode);
        ensure!(stat.owner == owner && stat.mtime == 1_000_000_000, "{stat:?}");
    }
    // What is not asked for: 0644 and root, whoever commands run as.
    let path = join(&dir, b"plain");
    session.write(&path, reader(b"x"), WriteOpts::default()).await?;
    let stat = session.stat(&path, false).await?;
    ensure!((stat.mode & 0o7777, stat.owner) == (0o644, Owner { uid: 0, gid: 0 }), "{stat:?}");
    Ok(())
}

async fn an_overwrite_keeps_what_is_not_given(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    let session = cx.sandbox().files(&pixel).await?;
    let (path, owner) = (join(&dir, b"kept"), Owner { uid: 77, gid: 78 });
    let opts = WriteOpts { mode: Some(0o750), owner: Some(owner), mtime: None };
    session.write(&path, reader(b"a longer content"), opts).await?;
    session.write(&path, reader(b"new"), WriteOpts::default()).await?;
    let stat = session.stat(&path, false).await?;
    ensure!((stat.mode & 0o7777, stat.owner, stat.size) == (0o750, owner, 3), "{stat:?}");
    ensure!(read(&*session, &path).await? == b"new", "content");
    session.set_attrs(&path, WriteOpts { mode: Some(0o400), ..WriteOpts::default() }).await?;
    let stat = session.stat(&path, false).await?;
    ensure!((stat.mode & 0o7777, stat.owner) == (0o400, owner), "{stat:?}");
    let opts = WriteOpts { mtime: Some(1_234_567_890), ..WriteOpts::default() };
    session.set_attrs(&path, opts).await?;
    ensure!(session.stat(&path, false).await?.mtime == 1_234_567_890, "time");
    Ok(())
}

/// Names that are hard to carry.
const NAMES: [&[u8]; 9] = [
    b"-rf",
    b" ",
    b"a\nb",
    b"\xff\xfe",
    b"'\"$(x)`",
    "é\u{202e}".as_bytes(),
    b"\x1b[31m",
    b"...",
    b"a\\b",
];

async fn names_of_any_bytes(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    let session = cx.sandbox().files(&pixel).await?;
    let long = [b'n'; 255];
    let names: Vec<&[u8]> = NAMES.iter().copied().chain([&long[..]]).collect();
    for (n, name) in names.iter().enumerate() {
        let content = format!("content {n}");
        let path = join(&dir, name);
        session
            .write(&path, reader(content.as_bytes()), WriteOpts::default())
            .await
            .with_context(|| format!("{name:?}"))?;
        ensure!(read(&*session, &path).await? == content.as_bytes(), "{name:?}");
    }
    let mut listed: Vec<Bytes> =
        session.read_dir(dir.as_bytes()).await?.into_iter().map(|e| e.name).collect();
    let mut expected: Vec<Bytes> = names.iter().map(|n| n.to_vec()).collect();
    listed.sort();
    expected.sort();
    ensure!(listed == expected, "{listed:?}");
    for name in names {
        session.remove_file(&join(&dir, name)).await?;
    }
    ensure!(session.read_dir(dir.as_bytes()).await?.is_empty(), "all gone");
    Ok(())
}

async fn names_that_the_guest_made(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    let mut cmd: Vec<Bytes> = vec![b"touch".into(), b"--".into()];
    cmd.extend(NAMES.iter().map(|name| join(&dir, name)));
    let opts = pixels_core::ExecOpts { no_stdin: true, ..pixels_core::ExecOpts::new(cmd) };
    ensure!(cx.exec(&pixel, opts, b"").await?.code == 0, "touch");
    let session = cx.sandbox().files(&pixel).await?;
    let mut listed: Vec<Bytes> =
        session.read_dir(dir.as_bytes()).await?.into_iter().map(|e| e.name).collect();
    listed.sort();
    let mut expected: Vec<Bytes> = NAMES.iter().map(|n| n.to_vec()).collect();
    expected.sort();
    ensure!(listed == expected, "{listed:?}");
    Ok(())
}

async fn links(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    let session = cx.sandbox().files(&pixel).await?;
    let (file, link) = (join(&dir, b"file"), join(&dir, b"link"));
    session.write(&file, reader(b"one"), WriteOpts::default()).await?;
    session.symlink(b"file", &link, None).await?;
    ensure!(session.read_link(&link).await? == b"file", "target");
    ensure!(session.stat(&link, false).await?.kind == FileKind::Symlink, "not followed");
    ensure!(session.stat(&link, true).await?.kind == FileKind::File, "followed");
    ensure!(read(&*session, &link).await? == b"one", "read through a link");
    session.write(&link, reader(b"two"), WriteOpts::default()).await?;
    ensure!(session.stat(&link, false).await?.kind == FileKind::Symlink, "the link stays");
    ensure!(read(&*session, &file).await? == b"two", "written through a link");
    expect_code("twice", session.symlink(b"x", &link, None).await, &["already_exists"])?;
    // Absolute targets are the pixel's own, bytes are bytes, dangling ones are kept.
    let odd = join(&dir, b"odd");
    session.symlink(b"/no\xff/\nwhere", &odd, None).await?;
    ensure!(session.read_link(&odd).await? == b"/no\xff/\nwhere", "odd target");
    expect_code("dangling", session.stat(&odd, true).await, &["not_found"])?;
    let inside = join(&dir, b"inside");
    session.symlink(b"/etc/hostname", &inside, None).await?;
    let host = String::from_utf8_lossy(&read(&*session, &inside).await?).trim().to_owned();
    ensure!(host == cx.ask(&pixel, &["cat", "/etc/hostname"]).await?, "{host}");
    session.remove_file(&link).await?;
    ensure!(read(&*session, &file).await? == b"two", "removing a link keeps its target");
    ensure!(session.read_link(&file).await.is_err(), "a file is no link");
    Ok(())
}

async fn directories_and_renames(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    let session = cx.sandbox().files(&pixel).await?;
    let (sub, owner) = (join(&dir, b"sub"), Owner { uid: 5, gid: 6 });
    session.mkdir(&sub, 0o750, Some(owner)).await?;
    let stat = session.stat(&sub, false).await?;
    ensure!(
        (stat.kind, stat.mode & 0o7777, stat.owner) == (FileKind::Dir, 0o750, owner),
        "{stat:?}"
    );
    expect_code("twice", session.mkdir(&sub, 0o755, None).await, &["already_exists"])?;
    let (a, b) = (join(&dir, b"sub/a"), join(&dir, b"b"));
    session.write(&a, reader(b"a"), WriteOpts::default()).await?;
    session.write(&b, reader(b"b"), WriteOpts::default()).await?;
    session.rename(&a, &b).await?;
    ensure!(read(&*session, &b).await? == b"a", "renamed over a file");
    expect_code("the old name", session.stat(&a, false).await, &["not_found"])?;
    expect_code("a missing one", session.rename(&a, &b).await, &["not_found"])?;
    ensure!(session.remove_file(&sub).await.is_err(), "a directory is no file");
    ensure!(session.remove_dir(&b).await.is_err(), "a file is no directory");
    session.write(&a, reader(b"a"), WriteOpts::default()).await?;
    ensure!(session.remove_dir(&sub).await.is_err(), "it is not empty");
    session.remove_file(&a).await?;
    session.remove_dir(&sub).await?;
    expect_code("gone", session.stat(&sub, false).await, &["not_found"])?;
    Ok(())
}

async fn a_recursive_list(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.shared().await?);
    let dir = cx.dir(&pixel).await?;
    let session = sandbox.files(&pixel).await?;
    for sub in ["a", "a/b", "c"] {
        session.mkdir(&join(&dir, sub.as_bytes()), 0o755, None).await?;
    }
    for file in ["a/1", "a/b/2", "3"] {
        session.write(&join(&dir, file.as_bytes()), reader(b"x"), WriteOpts::default()).await?;
    }
    // Not followed: it would never end.
    session.symlink(dir.as_bytes(), &join(&dir, b"c/loop"), None).await?;
    let names = |list: Vec<pixels_core::FileEntry>| -> Vec<(String, bool)> {
        let cut = dir.len() + 1;
        list.into_iter().map(|e| (e.path[cut..].to_owned(), e.is_dir)).collect()
    };
    let all = names(sandbox.list_files(&pixel, &dir, true).await?);
    let expected = [
        ("3", false),
        ("a", true),
        ("a/1", false),
        ("a/b", true),
        ("a/b/2", false),
        ("c", true),
        ("c/loop", false),
    ];
    ensure!(all.iter().map(|(p, d)| (p.as_str(), *d)).eq(expected), "{all:?}");
    let top = names(sandbox.list_files(&pixel, &dir, false).await?);
    ensure!(
        top.iter().map(|(p, d)| (p.as_str(), *d)).eq([("3", false), ("a", true), ("c", true)]),
        "{top:?}"
    );
    Ok(())
}

async fn ten_mebibytes(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let path = join(&cx.dir(&pixel).await?, b"big");
    let content = Noise::bytes(10, 10 << 20);
    let session = cx.sandbox().files(&pixel).await?;
    let written = session.write(&path, reader(&content), WriteOpts::default()).await?;
    ensure!(written == content.len() as u64, "{written} bytes written");
    ensure!(read(&*session, &path).await? == content, "it came back changed");
    if cx.subject().linux {
        let sum: String = Sha256::digest(&content).iter().map(|b| format!("{b:02x}")).collect();
        let path = std::str::from_utf8(&path)?;
        let said = cx.ask(&pixel, &["sha256sum", path]).await?;
        ensure!(said.starts_with(&sum), "the guest has {said}, not {sum}");
    }
    session.remove_file(&path).await?;
    Ok(())
}

async fn a_stopped_pixel_has_files(cx: Ctx) -> Result<()> {
    let (sandbox, pixel) = (cx.sandbox(), cx.fresh("cold").await?);
    sandbox.stop(&pixel, StopOpts { force: true, ..StopOpts::default() }).await?;
    sandbox.write_file(&pixel, "/root/cold", b"written cold", 0o600, None).await?;
    let got = sandbox.read_file(&pixel, "/root/cold", 0).await?.0;
    ensure!(got == b"written cold", "{got:?}");
    let list = sandbox.list_files(&pixel, "/root", false).await?;
    ensure!(list.iter().any(|e| e.path == "/root/cold" && e.mode == 0o600), "{list:?}");
    ensure!(!sandbox.get(&pixel).await?.status.is_running(), "it was started");
    sandbox.start(&pixel).await?;
    sandbox.ready(&pixel, std::time::Duration::from_secs(60)).await?;
    ensure!(cx.ask(&pixel, &["cat", "/root/cold"]).await? == "written cold", "the guest sees it");
    sandbox.delete_file(&pixel, "/root/cold").await?;
    Ok(())
}
