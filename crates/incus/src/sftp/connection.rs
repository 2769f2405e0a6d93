//! One stream, many requests in flight: numbers, a task that writes, a task that reads.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::error::Error;
use super::packet::{self, Op, Reply, Request};

/// Received at once; two data packets.
const RECEIVE: usize = 256 * 1024;

/// An open SFTP connection. Dropped, it closes the stream after what is queued was written.
pub(super) struct Connection {
    queue: mpsc::UnboundedSender<(Bytes, Bytes)>,
    waiting: Arc<Mutex<Waiting>>,
    extensions: Vec<Bytes>,
    receiver: AbortHandle,
}

/// Who waits for which answer.
#[derive(Default)]
struct Waiting {
    next: u32,
    by_id: HashMap<u32, oneshot::Sender<Reply>>,
    /// Why no answer will come any more.
    dead: Option<Error>,
}

/// An answer to come. Dropped, the answer is discarded, and a handle in it closed.
pub(super) struct Ticket {
    answer: oneshot::Receiver<Reply>,
    connection: Arc<Connection>,
}

impl Connection {
    /// Agrees on the version; the stream is then driven by two tasks of the current runtime.
    pub(super) async fn open<S>(stream: S) -> Result<Arc<Connection>, Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut input, mut output) = tokio::io::split(stream);
        let lost = |_| Error::ConnectionLost;
        output.write_all(&packet::init()).await.map_err(lost)?;
        output.flush().await.map_err(lost)?;
        let mut received = BytesMut::new();
        let version = next_frame(&mut input, &mut received).await?;
        let extensions = packet::decode_version(version)?;

        let waiting = Arc::<Mutex<Waiting>>::default();
        let (queue, queued) = mpsc::unbounded_channel();
        let for_writer = Arc::clone(&waiting);
        tokio::spawn(async move {
            if write(queued, output).await.is_err() {
                give_up(&for_writer, Error::ConnectionLost);
            }
        });
        let for_reader = Arc::clone(&waiting);
        let weak = queue.downgrade();
        let receiver = tokio::spawn(async move {
            let reason = receive(input, received, &for_reader, &weak).await;
            give_up(&for_reader, reason);
        });
        Ok(Arc::new(Connection { queue, waiting, extensions, receiver: receiver.abort_handle() }))
    }

    pub(super) fn has_extension(&self, name: &[u8]) -> bool {
        self.extensions.iter().any(|e| e == name)
    }

    /// Queues a request. It is sent even if the ticket is dropped.
    pub(super) fn send(self: &Arc<Self>, request: Request) -> Ticket {
        let (tell, answer) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        // On a dead connection the teller is dropped here, which is the answer.
        if waiting.dead.is_none() {
            let id = waiting.enter(tell);
            // A failure means that the writer has just given up and says so itself.
            let _ = self.queue.send(request.finish(id));
        }
        drop(waiting);
        Ticket { answer, connection: Arc::clone(self) }
    }

    /// Closes a handle without waiting for the answer.
    pub(super) fn forget(self: &Arc<Self>, handle: &[u8]) {
        drop(self.send(Request::new(Op::Close).string(handle)));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

impl Ticket {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, Error>> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(answer.map_err(|_| {
            let dead = lock(&self.connection.waiting).dead.clone();
            dead.unwrap_or(Error::ConnectionLost)
        }))
    }

    pub(super) async fn reply(mut self) -> Result<Reply, Error> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// For requests that are answered by a status only.
    pub(super) async fn done(self) -> Result<(), Error> {
        done(self.reply().await?)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Reply::Handle(handle)) = self.answer.try_recv() {
            self.connection.forget(&handle);
        }
    }
}

/// Success or the error of a status.
pub(super) fn done(reply: Reply) -> Result<(), Error> {
    match reply {
        Reply::Status { code: packet::STATUS_OK, .. } => Ok(()),
        other => Err(other.into_error()),
    }
}

impl Waiting {
    fn enter(&mut self, tell: oneshot::Sender<Reply>) -> u32 {
        while self.by_id.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        self.next = id.wrapping_add(1);
        self.by_id.insert(id, tell);
        id
    }
}

/// Everybody who waits learns that nothing will come.
fn give_up(waiting: &Mutex<Waiting>, reason: Error) {
    let mut waiting = lock(waiting);
    waiting.dead.get_or_insert(reason);
    waiting.by_id.clear();
}

/// No state is left half-changed under the lock, so a panic elsewhere does not matter.
fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write<W>(
    mut queued: mpsc::UnboundedReceiver<(Bytes, Bytes)>,
    mut output: W,
) -> std::io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    while let Some((head, data)) = queued.recv().await {
        output.write_all_buf(&mut head.chain(data)).await?;
        if queued.is_empty() {
            output.flush().await?;
        }
    }
    output.shutdown().await
}

/// Hands answers out until the connection ends; says why it did.
async fn receive<R>(
    mut input: R,
    mut received: BytesMut,
    waiting: &Mutex<Waiting>,
    queue: &mpsc::WeakUnboundedSender<(Bytes, Bytes)>,
) -> Error
where
    R: AsyncRead + Unpin,
{
    loop {
        let decoded = match next_frame(&mut input, &mut received).await {
            Ok(frame) => packet::decode(frame),
            Err(error) => return error,
        };
        let (id, reply) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return error,
        };
        let Some(tell) = lock(waiting).by_id.remove(&id) else {
            return Error::protocol("answer to no request");
        };
        if let Err(Reply::Handle(handle)) = tell.send(reply) {
            close_unclaimed(&handle, waiting, queue);
        }
    }
}

/// Whoever opened this has stopped waiting; the server would keep it open.
fn close_unclaimed(
    handle: &[u8],
    waiting: &Mutex<Waiting>,
    queue: &mpsc::WeakUnboundedSender<(Bytes, Bytes)>,
) {
    let Some(queue) = queue.upgrade() else { return };
    let (tell, _) = oneshot::channel();
    let id = lock(waiting).enter(tell);
    let _ = queue.send(Request::new(Op::Close).string(handle).finish(id));
}

async fn next_frame<R>(input: &mut R, received: &mut BytesMut) -> Result<Bytes, Error>
where
    R: AsyncRead + Unpin,
{
    loop {
        if let Some(frame) = packet::take_frame(received)? {
            return Ok(frame);
        }
        // Room for the rest of a large packet at once; its length was checked just now.
        let rest = packet::frame_length(received)?.map_or(0, |n| n + 4 - received.len());
        let free = received.capacity() - received.len();
        if free < rest.max(RECEIVE / 4) {
            received.reserve(rest.max(RECEIVE));
        }
        match input.read_buf(received).await {
            Ok(0) | Err(_) => return Err(Error::ConnectionLost),
            Ok(_) => {}
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}
