//! Fake servers: none of this is what the face does, all of it is what a pixel's
//! root could make it do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pixels_core::{Error, FileSession, Result, WriteOpts};
use pixels_guest_api::files::{
    ABORT, DATA, END, Entry, Fault, HEAD_LEN, Head, Kind, Reply, Stat, Which,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::super::{Connect, Session};
use super::{at_once, read, reader};

/// What a fake server does with each request.
#[derive(Clone)]
pub(super) enum Script {
    /// Says this, and waits for the next request.
    Say(Vec<u8>),
    /// The same, byte by byte.
    Slowly(Vec<u8>),
    /// Says this and closes.
    Close(Vec<u8>),
    /// Says this, reads one more request, and closes.
    Once(Vec<u8>),
    /// Says the first, and then the second for ever.
    Forever(Vec<u8>, Vec<u8>),
    /// Reads and says nothing.
    Silence,
}

struct Fake {
    script: Script,
    made: Arc<AtomicUsize>,
}

#[async_trait]
impl Connect for Fake {
    async fn connect(&self) -> Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.made.fetch_add(1, Ordering::SeqCst);
        // It ends with its socket; what it meets then is of no interest.
        let script = self.script.clone();
        tokio::spawn(async move { serve(theirs, script).await });
        Ok(ours)
    }
}

/// Reads one request.
async fn take(socket: &mut UnixStream) -> std::io::Result<()> {
    let mut head = [0; HEAD_LEN];
    socket.read_exact(&mut head).await?;
    let head = Head::decode(&head).map_err(std::io::Error::other)?;
    socket.read_exact(&mut vec![0; head.len]).await.map(drop)
}

async fn serve(mut socket: UnixStream, script: Script) -> std::io::Result<()> {
    loop {
        take(&mut socket).await?;
        match &script {
            Script::Say(bytes) => socket.write_all(bytes).await?,
            Script::Slowly(bytes) => {
                for byte in bytes {
                    socket.write_all(&[*byte]).await?;
                    tokio::task::yield_now().await;
                }
            }
            Script::Close(bytes) => return socket.write_all(bytes).await,
            Script::Once(bytes) => {
                socket.write_all(bytes).await?;
                return take(&mut socket).await;
            }
            Script::Forever(first, then) => {
                socket.write_all(first).await?;
                loop {
                    socket.write_all(then).await?;
                }
            }
            Script::Silence => {}
        }
    }
}

/// A session with a fake server, and how often it connected.
pub(super) fn session(script: Script) -> (Session, Arc<AtomicUsize>) {
    let made = Arc::<AtomicUsize>::default();
    let fake = Fake { script, made: Arc::clone(&made) };
    (Session::new(Arc::new(fake), Arc::default()), made)
}

const FILE: Stat = Stat { kind: Kind::File, size: 1, mode: 0o644, uid: 0, gid: 0, mtime: 1 };

/// Every operation; how each ends.
async fn all(s: &Session) -> Vec<(&'static str, Result<()>)> {
    let opts = WriteOpts::default();
    vec![
        ("stat", s.stat(b"/x", true).await.map(drop)),
        ("read_dir", s.read_dir(b"/x").await.map(drop)),
        ("read_link", s.read_link(b"/x").await.map(drop)),
        ("read", read(s, b"/x").await.map(drop)),
        ("write", s.write(b"/x", reader(vec![1; 1 << 20]), opts).await.map(drop)),
        ("mkdir", s.mkdir(b"/x", 0o755, None).await),
        ("symlink", s.symlink(b"y", b"/x", None).await),
        ("rename", s.rename(b"/x", b"/y").await),
        ("remove_file", s.remove_file(b"/x").await),
        ("remove_dir", s.remove_dir(b"/x").await),
        ("set_attrs", s.set_attrs(b"/x", opts).await),
    ]
}

fn entries(names: &[&[u8]]) -> Vec<u8> {
    let entries = names.iter().map(|n| Entry { name: n.to_vec(), stat: FILE }).collect();
    Reply::Entries(entries).encode()
}

#[tokio::test]
async fn nonsense_is_an_error_of_every_operation() {
    let huge = [u32::MAX.to_be_bytes().to_vec(), vec![DATA]].concat();
    for nonsense in [
        vec![0; 64],
        vec![0xff; 64],
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        huge,
        Head::encode(DATA, 0).to_vec(),
        Head::encode(ABORT, 0).to_vec(),
        Head::encode(99, 0).to_vec(),
        Head::encode(END, 1).to_vec(),
        Head::encode(35, 1).to_vec(),
        entries(&[b"../../etc/passwd"]),
        entries(&[b"a", b".."]),
        entries(&[b""]),
        Reply::Link(b"a\0b".to_vec()).encode(),
        Reply::Stat(Stat { mode: u32::MAX, ..FILE }).encode(),
    ] {
        let (s, _) = session(Script::Close(nonsense.clone()));
        for (op, result) in at_once(all(&s)).await {
            let error = result.expect_err(op);
            assert!(matches!(error.code(), "backend" | "unreachable"), "{op}: {error}");
        }
    }
}

#[tokio::test]
async fn an_answer_to_another_question_is_an_error() {
    let wrong = |op: &str, reply: &Reply| match reply {
        Reply::Stat(_) => op != "stat",
        Reply::Link(_) => op != "read_link",
        Reply::Entries(_) => true,
        _ => !matches!(
            op,
            "mkdir" | "symlink" | "rename" | "remove_file" | "remove_dir" | "set_attrs" | "write"
        ),
    };
    for reply in [Reply::Stat(FILE), Reply::Link(b"x".to_vec()), Reply::Done] {
        let (s, _) = session(Script::Close(reply.encode()));
        for (op, result) in at_once(all(&s)).await {
            assert!(result.is_err() || !wrong(op, &reply), "{op} took {reply:?}");
        }
    }
    // A directory is not read as a file, whatever it says.
    let (s, _) = session(Script::Say(Reply::Stat(Stat { kind: Kind::Dir, ..FILE }).encode()));
    assert!(s.open_read(b"/x").await.is_err());
}

#[tokio::test]
async fn a_directory_without_end_ends() {
    let names: Vec<String> = (0..2000).map(|n| format!("{n:04}")).collect();
    let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    let (s, _) = session(Script::Forever(Vec::new(), entries(&names)));
    let error = at_once(s.read_dir(b"/x")).await.unwrap_err();
    assert_eq!(error.code(), "invalid", "{error}");
    let long = vec![b'a'; 1024];
    let (s, _) = session(Script::Forever(Vec::new(), entries(&[&long[..]; 200])));
    assert_eq!(at_once(s.read_dir(b"/x")).await.unwrap_err().code(), "invalid");
}

#[tokio::test]
async fn a_stream_of_nothing_ends() {
    let empty = Head::encode(DATA, 0).to_vec();
    let (s, _) = session(Script::Forever(Reply::Stat(FILE).encode(), empty));
    let (_, mut from) = s.open_read(b"/x").await.unwrap();
    assert!(at_once(from.read(&mut [0; 10])).await.is_err());
    let (s, _) = session(Script::Forever(Vec::new(), entries(&[])));
    assert!(at_once(s.read_dir(b"/x")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn silence_ends() {
    let (s, _) = session(Script::Silence);
    for (op, result) in all(&s).await {
        let error = result.expect_err(op);
        assert!(matches!(error.kind(), Error::Timeout { .. }), "{op}: {error}");
    }
    // And in the middle of what had begun well.
    for start in [Reply::Stat(FILE).encode(), Reply::Done.encode(), entries(&[b"a"])] {
        let (s, _) = session(Script::Say(start));
        assert!(matches!(read(&s, b"/x").await, Err(e) if e.code() != "not_found"));
        assert!(s.read_dir(b"/x").await.is_err());
    }
}

#[tokio::test]
async fn a_write_hears_of_its_end_while_it_sends() {
    let fault = Fault { errno: rustix::io::Errno::NOSPC.raw_os_error(), which: Which::Path };
    let answer = [Reply::Done.encode(), Reply::Error(fault).encode()].concat();
    let (s, _) = session(Script::Say(answer));
    let endless = Box::pin(tokio::io::repeat(1));
    let error = at_once(s.write(b"/x", endless, WriteOpts::default())).await.unwrap_err();
    assert_eq!(error.code(), "exhausted", "{error}");
    // Praise ahead of time is no success.
    let (s, _) = session(Script::Say([Reply::Done.encode(), Reply::Done.encode()].concat()));
    let endless = Box::pin(tokio::io::repeat(1));
    assert!(at_once(s.write(b"/x", endless, WriteOpts::default())).await.is_err());
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice() {
    let (s, made) = session(Script::Close(Reply::Done.encode()));
    s.mkdir(b"/x", 0o755, None).await.unwrap();
    // The connection is gone: nothing was taken, so another serves.
    s.mkdir(b"/y", 0o755, None).await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 2);
    // Taken and not answered.
    let (s, made) = session(Script::Once(Reply::Done.encode()));
    s.mkdir(b"/x", 0o755, None).await.unwrap();
    assert_eq!(s.mkdir(b"/y", 0o755, None).await.unwrap_err().code(), "unreachable");
    assert_eq!(made.load(Ordering::SeqCst), 1);
    // To look is harmless.
    let (s, made) = session(Script::Once(Reply::Stat(FILE).encode()));
    s.stat(b"/x", true).await.unwrap();
    s.stat(b"/x", true).await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 2);
    // On a new connection there is no second time for anything.
    let (s, made) = session(Script::Close(Vec::new()));
    assert_eq!(s.stat(b"/x", true).await.unwrap_err().code(), "unreachable");
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_are_survived(
        frames in vec((0u8..40, vec(any::<u8>(), 0..60)), 0..4),
        tail in vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        for (tag, body) in frames {
            bytes.extend_from_slice(&Head::encode(tag, body.len()));
            bytes.extend_from_slice(&body);
        }
        bytes.extend_from_slice(&tail);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (s, _) = session(Script::Close(bytes));
            at_once(all(&s)).await;
        });
    }
}
