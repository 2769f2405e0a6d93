//! Writes: all or nothing, whatever happens on the way; and large ones.

use std::fs;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pixels_core::{FileSession, Reader, WriteOpts};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::{Faces, World, at_once, read, reader};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_the_old_or_the_new() {
    let w = World::new();
    let (s, path) = (&w.session, w.at("flips"));
    let sides = [vec![b'a'; 300_000], vec![b'b'; 200_000]];
    s.write(&path, reader(sides[0].clone()), WriteOpts::default()).await.unwrap();
    let writer = async {
        for n in 1..=30 {
            s.write(&path, reader(sides[n % 2].clone()), WriteOpts::default()).await.unwrap();
        }
    };
    tokio::pin!(writer);
    loop {
        tokio::select! {
            () = &mut writer => break,
            content = read(s, &path) => assert!(sides.contains(&content.unwrap()), "half a file"),
        }
    }
    assert_eq!(read(s, &path).await.unwrap(), sides[0]);
    assert_eq!(w.names(), ["flips"]);
}

/// A source that gives what it has and then does not go on, and the end that
/// feeds it.
fn stuck() -> (Reader, tokio::io::DuplexStream) {
    let (to, from) = tokio::io::duplex(1 << 20);
    (Box::pin(from), to)
}

/// Waits until a half-made file is there and holds `size` bytes.
async fn half_made(w: &World, size: u64) -> String {
    at_once(async {
        loop {
            let half = w.names().into_iter().find(|n| n.starts_with(".pixels-"));
            if let Some(name) = half
                && fs::metadata(w.dir.path().join(&name)).is_ok_and(|m| m.len() == size)
            {
                return name;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

const PIECE: usize = 100_000;

#[tokio::test]
async fn a_killed_server_leaves_the_old_content() {
    let w = World::new();
    let (s, path) = (&w.session, w.at("file"));
    s.write(&path, reader("old"), WriteOpts::default()).await.unwrap();
    let (source, mut feed) = stuck();
    let write = s.write(&path, source, WriteOpts::default());
    let kill = async {
        feed.write_all(&[1; PIECE]).await.unwrap();
        let half = half_made(&w, PIECE as u64).await;
        w.faces.kill();
        half
    };
    let (written, half) = tokio::join!(at_once(write), kill);
    assert_eq!(written.unwrap_err().code(), "unreachable", "seen though the source gives nothing");
    assert_eq!(read(s, &path).await.unwrap(), b"old");
    // What is left says whose it is, and that its maker lives.
    assert_eq!(w.names(), [half.as_str(), "file"]);
    let listed = s.read_dir(&w.at("")).await.unwrap();
    let left = listed.iter().find(|e| e.name == half.as_bytes()).unwrap();
    assert!(!s.is_leftover(left));
}

#[tokio::test]
async fn a_dropped_write_is_removed() {
    let w = World::new();
    let (s, path) = (&w.session, w.at("file"));
    s.write(&path, reader("old"), WriteOpts::default()).await.unwrap();
    let (source, mut feed) = stuck();
    feed.write_all(&[1; PIECE]).await.unwrap();
    tokio::select! {
        _ = s.write(&path, source, WriteOpts::default()) => panic!("it cannot end"),
        _ = half_made(&w, PIECE as u64) => {}
    }
    w.unfinished.settle(Duration::from_secs(60)).await;
    assert_eq!(w.names(), ["file"]);
    assert_eq!(read(s, &path).await.unwrap(), b"old");
}

/// Some bytes, and then an error.
struct Broken(usize);

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0 == 0 {
            return Poll::Ready(Err(io::Error::other("the source broke")));
        }
        let n = self.0.min(buf.remaining());
        buf.put_slice(&vec![7; n]);
        self.0 -= n;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_broken_source_changes_nothing() {
    let w = World::new();
    let s = &w.session;
    s.write(&w.at("kept"), reader("old"), WriteOpts::default()).await.unwrap();
    for (name, length) in [("kept", 10), ("new", 10), ("kept", 3 << 20), ("new", 0)] {
        let source = Box::pin(Broken(length));
        let error = s.write(&w.at(name), source, WriteOpts::default()).await.unwrap_err();
        assert!(error.to_string().contains("the source broke"), "{error}");
        assert_eq!(w.names(), ["kept"], "gone by the time it is said");
    }
    assert_eq!(read(s, &w.at("kept")).await.unwrap(), b"old");
    assert_eq!(w.faces.made(), 1, "and the connection is still good");
}

#[tokio::test]
async fn a_file_that_takes_no_more_is_an_error_at_once() {
    // As a full disk, which is not to be had without mounting one.
    let w = World::of(Faces::limited(64));
    let (s, path) = (&w.session, w.at("file"));
    s.write(&path, reader("old"), WriteOpts::default()).await.unwrap();
    let endless: Reader = Box::pin(tokio::io::repeat(1));
    let error = at_once(s.write(&path, endless, WriteOpts::default())).await.unwrap_err();
    assert!(error.to_string().contains("large"), "{error}");
    // Also where the source has nothing more to give for now, and at the end.
    let (source, mut feed) = stuck();
    feed.write_all(&[1; PIECE]).await.unwrap();
    assert!(at_once(s.write(&path, source, WriteOpts::default())).await.is_err());
    assert!(s.write(&path, reader(vec![1; PIECE]), WriteOpts::default()).await.is_err());
    assert_eq!(w.names(), ["file"]);
    assert_eq!(read(s, &path).await.unwrap(), b"old");
}

#[tokio::test]
async fn what_takes_the_place_meanwhile_stays() {
    for what in [FileType::Directory, FileType::Fifo, FileType::Symlink] {
        let w = World::new();
        let (s, path) = (&w.session, w.at("file"));
        let (source, mut feed) = stuck();
        feed.write_all(&[1; PIECE]).await.unwrap();
        let swap = async {
            half_made(&w, PIECE as u64).await;
            let place = w.dir.path().join("file");
            match what {
                FileType::Directory => fs::create_dir(&place).unwrap(),
                FileType::Symlink => std::os::unix::fs::symlink("elsewhere", &place).unwrap(),
                _ => mknodat(CWD, &place, what, Mode::RUSR, 0).unwrap(),
            }
            drop(feed);
        };
        let (written, ()) = tokio::join!(s.write(&path, source, WriteOpts::default()), swap);
        assert!(written.is_err(), "{what:?}");
        let there = fs::symlink_metadata(w.dir.path().join("file")).unwrap();
        assert!(!there.is_file(), "{what:?} was replaced");
        assert_eq!(w.names(), ["file"]);
    }
}

#[tokio::test]
async fn a_directory_that_moves_takes_its_file_along() {
    let w = World::new();
    let s = &w.session;
    fs::create_dir(w.dir.path().join("dir")).unwrap();
    let (source, mut feed) = stuck();
    feed.write_all(&[1; PIECE]).await.unwrap();
    let moves = async {
        at_once(async {
            while fs::read_dir(w.dir.path().join("dir")).unwrap().next().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        fs::rename(w.dir.path().join("dir"), w.dir.path().join("moved")).unwrap();
        drop(feed);
    };
    let (file, opts) = (w.at("dir/file"), WriteOpts::default());
    let (written, ()) = tokio::join!(s.write(&file, source, opts), moves);
    assert_eq!(written.unwrap(), PIECE as u64);
    let names: Vec<_> = fs::read_dir(w.dir.path().join("moved")).unwrap().collect();
    assert_eq!((names.len(), w.names()), (1, vec!["moved".to_owned()]), "and nothing half-made");
}

/// Content of which no two blocks are alike, cheap enough for many of them:
/// noise, with its place written over the first bytes of each block.
pub(super) struct Noise {
    block: Vec<u8>,
    at: usize,
    end: usize,
}

impl Noise {
    const BLOCK: usize = 1 << 16;

    pub(super) fn new(end: usize) -> Self {
        let mut block = vec![0; Self::BLOCK];
        getrandom::fill(&mut block).unwrap();
        Self { block, at: 0, end }
    }

    /// The next bytes, at most `max`.
    fn next(&mut self, max: usize) -> &[u8] {
        let within = self.at % Self::BLOCK;
        self.block[..8].copy_from_slice(&((self.at / Self::BLOCK) as u64).to_le_bytes());
        let n = max.min(Self::BLOCK - within).min(self.end - self.at);
        self.at += n;
        &self.block[within..within + n]
    }
}

impl AsyncRead for Noise {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let max = buf.remaining();
        buf.put_slice(self.next(max));
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn two_hundred_mebibytes_there_and_back() {
    const SIZE: usize = (200 << 20) + 12_345;
    let w = World::new();
    let (s, path) = (&w.session, w.at("big"));
    let sent = Noise::new(SIZE);
    let mut expected = Noise { block: sent.block.clone(), at: 0, end: SIZE };
    let written = s.write(&path, Box::pin(sent), WriteOpts::default()).await.unwrap();
    assert_eq!(written, SIZE as u64);
    let (stat, mut back) = s.open_read(&path).await.unwrap();
    assert_eq!(stat.size, SIZE as u64);
    let (mut came, mut block) = (0, vec![0; 256 * 1024]);
    loop {
        let n = back.read(&mut block).await.unwrap();
        if n == 0 {
            break;
        }
        let mut rest = &block[..n];
        while !rest.is_empty() {
            let next = expected.next(rest.len());
            assert!(!next.is_empty(), "too much came");
            assert!(rest.starts_with(next), "it differs after {came} bytes");
            came += next.len();
            rest = &rest[next.len()..];
        }
    }
    assert_eq!((came, w.faces.made()), (SIZE, 1));
}
