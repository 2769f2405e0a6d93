//! Files that are in the way, half there or changing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pixels_core::{FileKind, WriteOpts};
use tokio::io::{AsyncRead, ReadBuf};

use super::files::{join, read, reader};
use super::{expect_code, table};
use crate::Ctx;

table! { "files":
    a_write_is_all_or_nothing [],
    a_write_that_fails_changes_nothing [],
    what_is_in_the_way_is_an_error [],
    devices_are_not_opened [Linux],
    missing_parents [],
    many_calls_at_once [],
}

/// A hang is an error after this long.
async fn at_once<T>(what: &str, call: impl Future<Output = T>) -> Result<T> {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, call).await.with_context(|| format!("{what}: it hangs"))
}

async fn a_write_is_all_or_nothing(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let path = join(&cx.dir(&pixel).await?, b"flips");
    let session = cx.sandbox().files(&pixel).await?;
    let sides = [vec![b'a'; 300_000], vec![b'b'; 200_000]];
    session.write(&path, reader(&sides[0]), WriteOpts::default()).await?;
    let writer = async {
        for n in 1..=20 {
            session.write(&path, reader(&sides[n % 2]), WriteOpts::default()).await?;
        }
        anyhow::Ok(())
    };
    tokio::pin!(writer);
    // A session of its own: another connection has to see the same.
    let other = cx.sandbox().files(&pixel).await?;
    let mut seen = 0;
    loop {
        tokio::select! {
            done = &mut writer => {
                done?;
                break;
            }
            content = read(&*other, &path) => {
                let content = content?;
                ensure!(sides.contains(&content), "half a file: {} bytes", content.len());
                seen += 1;
            }
        }
    }
    ensure!(read(&*other, &path).await? == sides[0], "the last one stays ({seen} reads)");
    Ok(())
}

/// Some bytes, and then an error.
struct Broken(bool);

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(Err(io::Error::other("the source broke")));
        }
        buf.put_slice(b"half");
        Poll::Ready(Ok(()))
    }
}

async fn a_write_that_fails_changes_nothing(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    let session = cx.sandbox().files(&pixel).await?;
    let path = join(&dir, b"kept");
    session.write(&path, reader(b"old"), WriteOpts::default()).await?;
    for name in [&b"kept"[..], b"new"] {
        let broken = Box::pin(Broken(false));
        let result = session.write(&join(&dir, name), broken, WriteOpts::default()).await;
        ensure!(result.is_err(), "a broken source is an error");
    }
    ensure!(read(&*session, &path).await? == b"old", "the old content stays");
    let names = session.read_dir(dir.as_bytes()).await?;
    ensure!(names.len() == 1, "nothing half-made stays: {names:?}");
    Ok(())
}

async fn what_is_in_the_way_is_an_error(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    let session = cx.sandbox().files(&pixel).await?;
    cx.ask(&pixel, &["mkfifo", &format!("{dir}/fifo")]).await?;
    session.mkdir(&join(&dir, b"dir"), 0o755, None).await?;
    session.symlink(b"fifo", &join(&dir, b"link"), None).await?;
    for (name, kind) in
        [("fifo", FileKind::Special), ("dir", FileKind::Dir), ("link", FileKind::Symlink)]
    {
        let path = join(&dir, name.as_bytes());
        let opened = at_once(name, session.open_read(&path)).await?;
        ensure!(opened.is_err(), "{name} was opened");
        let written = at_once(name, session.write(&path, reader(b"x"), WriteOpts::default()));
        ensure!(written.await?.is_err(), "{name} was written to");
        let stat = session.stat(&path, false).await?;
        ensure!(stat.kind == kind, "{name} is now {stat:?}");
    }
    let names = session.read_dir(dir.as_bytes()).await?;
    ensure!(names.len() == 3, "nothing half-made stays: {names:?}");
    let fifo = session.read_dir(dir.as_bytes()).await?.into_iter().find(|e| e.name == b"fifo");
    ensure!(fifo.is_some_and(|e| e.stat.kind == FileKind::Special), "listed as special");
    session.remove_file(&join(&dir, b"fifo")).await?;
    Ok(())
}

async fn devices_are_not_opened(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let session = cx.sandbox().files(&pixel).await?;
    for device in ["/dev/null", "/dev/zero", "/dev/tty"] {
        let opened = at_once(device, session.open_read(device.as_bytes())).await?;
        ensure!(opened.is_err(), "{device} was opened");
        let write = session.write(device.as_bytes(), reader(b"x"), WriteOpts::default());
        ensure!(at_once(device, write).await?.is_err(), "{device} was written to");
        let stat = session.stat(device.as_bytes(), false).await?;
        ensure!(stat.kind == FileKind::Special, "{device} is now {stat:?}");
    }
    Ok(())
}

async fn missing_parents(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    let session = cx.sandbox().files(&pixel).await?;
    let path = join(&dir, b"none/file");
    let missing = &["not_found"][..];
    expect_code("write", session.write(&path, reader(b"x"), WriteOpts::default()).await, missing)?;
    expect_code("mkdir", session.mkdir(&path, 0o755, None).await, missing)?;
    expect_code("symlink", session.symlink(b"x", &path, None).await, missing)?;
    expect_code("stat", session.stat(&path, false).await, missing)?;
    expect_code("read", session.open_read(&path).await, missing)?;
    expect_code("list", session.read_dir(&path).await, missing)?;
    expect_code("link", session.read_link(&path).await, missing)?;
    expect_code("remove", session.remove_file(&path).await, missing)?;
    expect_code("rmdir", session.remove_dir(&path).await, missing)?;
    expect_code("attrs", session.set_attrs(&path, WriteOpts::default()).await, missing)?;
    ensure!(session.read_dir(dir.as_bytes()).await?.is_empty(), "nothing was made");
    Ok(())
}

async fn many_calls_at_once(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let dir = cx.dir(&pixel).await?;
    let session = cx.sandbox().files(&pixel).await?;
    let calls = (0..40u8).map(|n| {
        let (session, path) = (&*session, join(&dir, format!("f{n}").as_bytes()));
        async move {
            let content = vec![n; 20_000];
            session.write(&path, reader(&content), WriteOpts::default()).await?;
            ensure!(read(session, &path).await? == content, "file {n} has another's content");
            anyhow::Ok(())
        }
    });
    futures_util::future::try_join_all(calls).await?;
    ensure!(session.read_dir(dir.as_bytes()).await?.len() == 40, "all are there");
    Ok(())
}
