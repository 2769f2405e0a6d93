//! Streams: back-pressure, ends, and connections that give bytes one by one.

use std::time::Duration;

use pixels_core::{FileSession, WriteOpts};
use tokio::io::AsyncReadExt;

use super::hostile::{Script, session};
use super::{World, at_once, read, reader};
use pixels_guest_api::files::{DATA, END, Fault, Head, Kind, Reply, Stat, Which};

const FOUND: Stat = Stat { kind: Kind::File, size: 6, mode: 0o644, uid: 0, gid: 0, mtime: 1 };

fn data(content: &[u8]) -> Vec<u8> {
    [&Head::encode(DATA, content.len())[..], content].concat()
}

#[tokio::test]
async fn a_reader_that_is_not_read_holds_only_its_own_connection() {
    let w = World::new();
    let (s, path) = (&w.session, w.at("big"));
    s.write(&path, reader(vec![1; 4 << 20]), WriteOpts::default()).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(at_once(s.open_read(&path)).await.unwrap().1);
    }
    at_once(s.stat(&path, true)).await.unwrap();
    for mut reader in open.drain(..3) {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).await.unwrap();
        assert_eq!(content.len(), 4 << 20);
    }
    // Half read and dropped: their servers see it and end.
    let mut some = [0; 10];
    for reader in &mut open {
        reader.read_exact(&mut some).await.unwrap();
    }
    drop((open, w.session));
    let faces = std::sync::Arc::clone(&w.faces);
    let ends = at_once(tokio::task::spawn_blocking(move || faces.wait())).await.unwrap();
    assert_eq!(ends.len(), 7);
}

#[tokio::test]
async fn content_may_come_byte_by_byte() {
    let end = Head::encode(END, 0);
    let whole =
        [Reply::Stat(FOUND).encode(), data(b"abc"), data(b"d"), data(b"ef"), end.to_vec()].concat();
    let (session, made) = session(Script::Slowly(whole));
    for _ in 0..2 {
        assert_eq!(at_once(read(&session, b"/x")).await.unwrap(), b"abcdef");
    }
    assert_eq!(made.load(std::sync::atomic::Ordering::SeqCst), 1, "kept at the end");
}

#[tokio::test]
async fn an_error_may_come_between_content() {
    let fault = Fault { errno: rustix::io::Errno::IO.raw_os_error(), which: Which::Path };
    let answer = [Reply::Stat(FOUND).encode(), data(b"abc"), Reply::Error(fault).encode()].concat();
    let (session, _) = session(Script::Slowly(answer));
    let error = at_once(read(&session, b"/x")).await.unwrap_err();
    assert_eq!(error.code(), "backend", "{error}");
    let (_, mut from) = session.open_read(b"/x").await.unwrap();
    let mut got = Vec::new();
    assert!(at_once(from.read_to_end(&mut got)).await.is_err());
    assert_eq!(got, b"abc");
    assert!(from.read(&mut [0; 8]).await.is_err(), "an error stays one");
}

#[tokio::test]
async fn an_end_in_the_middle_is_no_end_of_the_file() {
    let answer = [Reply::Stat(FOUND).encode(), data(b"abcdef")[..8].to_vec()].concat();
    let (session, _) = session(Script::Close(answer));
    let error = at_once(read(&session, b"/x")).await.unwrap_err();
    assert_eq!(error.code(), "unreachable", "{error}");
}

#[tokio::test]
async fn what_was_given_up_is_not_waited_for_without_end() {
    let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
    let w = World::new();
    w.unfinished.add(ours);
    w.unfinished.settle(Duration::from_millis(10)).await;
    drop(theirs);
}
