//! Our standard streams, on threads of their own.
//!
//! Terminals, pipes and files block. A blocked read must not keep us from
//! leaving, and a blocked write must not keep signals waiting, so neither
//! happens on the runtime's thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use pixels_core::Writer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

/// Bytes moved at once: a pipe's capacity.
pub const CHUNK: usize = 64 * 1024;
/// Chunks under way between a thread and the runtime.
const DEPTH: usize = 4;

/// Which of our output streams.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Sends our stdin to `to` until one of them ends. A command that does not
/// read its input is no failure.
pub async fn feed(mut to: Writer) {
    let (tx, mut rx) = mpsc::channel::<Vec<u8>>(DEPTH);
    if spawn("stdin", move || read_all(&tx)).is_ok() {
        while let Some(chunk) = rx.recv().await {
            if to.write_all(&chunk).await.is_err() {
                return;
            }
            // Someone types at the other end of this: no waiting for more.
            if rx.is_empty() && to.flush().await.is_err() {
                return;
            }
        }
    }
    let _ = to.shutdown().await;
}

fn read_all(tx: &mpsc::Sender<Vec<u8>>) {
    let stdin = io::stdin();
    loop {
        let mut chunk = vec![0u8; CHUNK];
        match rustix::io::read(&stdin, &mut chunk) {
            Ok(0) => return,
            Ok(n) => chunk.truncate(n),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                wait(stdin.as_fd(), PollFlags::IN);
                continue;
            }
            // A terminal that hung up says EIO: the end, as any other failure.
            Err(_) => return,
        }
        if tx.blocking_send(chunk).is_err() {
            return;
        }
    }
}

/// The way into one of our output streams.
#[derive(Debug)]
pub struct Output {
    chunks: mpsc::Sender<Vec<u8>>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    /// Starts the thread that writes to `stream`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(stream: Stream) -> io::Result<Self> {
        let (chunks, mut rx) = mpsc::channel::<Vec<u8>>(DEPTH);
        let (tx, done) = oneshot::channel();
        spawn("output", move || {
            let mut result = Ok(());
            while let Some(chunk) = rx.blocking_recv() {
                result = match stream {
                    Stream::Out => write_all(io::stdout().as_fd(), &chunk),
                    Stream::Err => write_all(io::stderr().as_fd(), &chunk),
                };
                if result.is_err() {
                    break;
                }
            }
            let _ = tx.send(result);
        })?;
        Ok(Self { chunks, done })
    }

    /// Hands over a chunk. One that the stream does not take is dropped:
    /// [`Output::refused`] says why.
    pub async fn send(&self, chunk: Vec<u8>) {
        let _ = self.chunks.send(chunk).await;
    }

    /// Waits until the stream takes no more, which may be never.
    pub async fn refused(&mut self) -> io::Error {
        match (&mut self.done).await {
            Ok(Err(error)) => error,
            _ => io::Error::other("the writer is gone"),
        }
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// What ended the writing early.
    pub async fn finish(self) -> io::Result<()> {
        drop(self.chunks);
        self.done.await.unwrap_or_else(|_| Err(io::Error::other("the writer is gone")))
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            // Someone who shares the file made it non-blocking.
            Err(Errno::AGAIN) => wait(fd, PollFlags::OUT),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Waits until nobody reads `stream`, which may be never. Without this it takes
/// a write to notice.
pub async fn left(stream: Stream) {
    let (tx, left) = oneshot::channel();
    let watched = spawn("reader", move || {
        let gone = match stream {
            Stream::Out => until_left(io::stdout().as_fd()),
            Stream::Err => until_left(io::stderr().as_fd()),
        };
        if gone {
            let _ = tx.send(());
        }
    });
    if watched.is_err() || left.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until a pipe has no other end, and says so; other things have none.
fn until_left(fd: BorrowedFd<'_>) -> bool {
    if !fstat(fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo) {
        return false;
    }
    loop {
        // No event is asked for: this one comes unasked.
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
        match poll(&mut fds, None) {
            Ok(_) if fds[0].revents().contains(PollFlags::ERR) => return true,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn wait(fd: BorrowedFd<'_>, what: PollFlags) {
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, what)], None);
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).stack_size(128 * 1024).spawn(work).map(drop)
}
