//! Connections: made when needed, kept while idle, replaced when they are gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pixels_core::Result;
use pixels_guest_api::files::{Reply, Request};
use rustix::net::Shutdown;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::conn::{COMMIT, Conn, Frame, STALL, Trouble};
use super::errors::{self, Subject};

/// The most idle connections that are kept.
const IDLE: usize = 4;
/// The most operations with a single answer that go on at once. They need
/// nothing of each other, so waiting for a turn always ends.
const AT_ONCE: usize = 4;

/// Makes connections to the face `files` of one pixel.
#[async_trait]
pub(crate) trait Connect: Send + Sync {
    /// One more connection, with a process at its other end that serves it.
    async fn connect(&self) -> Result<UnixStream>;
}

/// What dropped writes left, and the other side is about to remove.
#[derive(Default)]
pub(crate) struct Unfinished {
    connections: Mutex<Vec<UnixStream>>,
}

impl Unfinished {
    pub(super) fn add(&self, stream: UnixStream) {
        // The other side now sees the end of the content, and that it is not whole.
        let _ = rustix::net::shutdown(&stream, Shutdown::Write);
        let mut connections = lock(&self.connections);
        // Those that are gone by now.
        connections.retain(|c| {
            matches!(c.try_read(&mut [0; 64]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
        });
        connections.push(stream);
    }

    /// Waits until all of it is removed, at most so long.
    pub(crate) async fn settle(&self, limit: Duration) {
        let connections = std::mem::take(&mut *lock(&self.connections));
        let end = Instant::now() + limit;
        for mut connection in connections {
            let gone =
                async { while matches!(connection.read(&mut [0; 1024]).await, Ok(n) if n > 0) {} };
            if tokio::time::timeout_at(end, gone).await.is_err() {
                tracing::debug!("a half-written file may be left in a pixel");
            }
        }
    }
}

/// The connections of one session.
pub(super) struct Pool {
    connect: Arc<dyn Connect>,
    idle: Mutex<Vec<Conn>>,
    turns: Semaphore,
    unfinished: Arc<Unfinished>,
}

impl Pool {
    pub(super) fn new(connect: Arc<dyn Connect>, unfinished: Arc<Unfinished>) -> Arc<Self> {
        let turns = Semaphore::new(AT_ONCE);
        Arc::new(Self { connect, idle: Mutex::default(), turns, unfinished })
    }

    /// Waits for a turn of an operation with a single answer.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// An operation with a single answer.
    pub(super) async fn call(self: &Arc<Self>, request: &Request) -> Result<Reply> {
        let _turn = self.turn().await;
        let (lease, frame) = self.begin(request).await?;
        match frame {
            Frame::Reply(reply) => {
                lease.keep();
                match reply {
                    Reply::Error(fault) => Err(Subject::of(request).fault(fault)),
                    reply => Ok(reply),
                }
            }
            Frame::Control(_) | Frame::Data(_) => Err(errors::unexpected()),
        }
    }

    /// Begins an operation on an idle connection, or on a new one where there is
    /// none or those that there are turn out to be gone.
    pub(super) async fn begin(self: &Arc<Self>, request: &Request) -> Result<(Lease, Frame)> {
        let subject = Subject::of(request);
        let frame = request.encode().map_err(|rule| subject.invalid(rule))?;
        loop {
            let idle = lock(&self.idle).pop();
            let Some(conn) = idle else { break };
            let mut lease = Lease { pool: Arc::clone(self), conn };
            match lease.conn.ask(&frame).await {
                Ok(answer) => return Ok((lease, answer)),
                Err(Trouble::NotTaken) => {}
                Err(Trouble::Lost) if changes_nothing(request) => {}
                Err(trouble) => return Err(subject.trouble(trouble)),
            }
        }
        let conn = Conn { stream: self.connect.connect().await? };
        let mut lease = Lease { pool: Arc::clone(self), conn };
        let answer = lease.conn.ask(&frame).await.map_err(|t| subject.trouble(t))?;
        Ok((lease, answer))
    }
}

/// Whether it may be asked a second time when it is not known whether it was
/// done. A write has done nothing before its content is asked for.
fn changes_nothing(request: &Request) -> bool {
    match request {
        Request::Stat { .. }
        | Request::ReadDir { .. }
        | Request::ReadLink { .. }
        | Request::Read { .. }
        | Request::Write { .. } => true,
        Request::Mkdir { .. }
        | Request::Symlink { .. }
        | Request::Rename { .. }
        | Request::RemoveFile { .. }
        | Request::RemoveDir { .. }
        | Request::SetAttrs { .. } => false,
    }
}

/// A connection with an operation on it. Dropped, it is closed, and the
/// operation ends however far it got.
pub(super) struct Lease {
    pool: Arc<Pool>,
    pub(super) conn: Conn,
}

impl Lease {
    /// The operation is over: the connection may serve another.
    pub(super) fn keep(self) {
        let mut idle = lock(&self.pool.idle);
        if idle.len() < IDLE {
            idle.push(self.conn);
        }
    }

    /// The connection of a write that is given up half-way.
    pub(super) fn give_up(self) {
        self.pool.unfinished.add(self.conn.stream);
    }

    pub(super) async fn frame(&mut self) -> Result<Frame, Trouble> {
        self.conn.frame(STALL).await
    }

    /// As [`Lease::frame`], after the end of what was written.
    pub(super) async fn committed(&mut self) -> Result<Frame, Trouble> {
        self.conn.frame(COMMIT).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
