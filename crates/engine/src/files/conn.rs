//! One connection: frames over a socket, every wait of which has an end.

use std::io::ErrorKind;
use std::time::Duration;

use pixels_guest_api::files::{ABORT, DATA, END, HEAD_LEN, Head, Refused, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the other side may do nothing. Generous: a pixel that is being
/// checkpointed is frozen meanwhile, and disks are slow.
pub(super) const STALL: Duration = Duration::from_secs(120);
/// How long putting a written file in place may take: all of it goes to the disk.
pub(super) const COMMIT: Duration = Duration::from_secs(1800);

/// What is wrong with a connection. It is of no further use.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The request was not taken: nothing was done.
    NotTaken,
    /// It is closed; whether the operation took place is unknown.
    Lost,
    /// Nothing happened for this long.
    Slow(Duration),
    /// What came is no protocol.
    Refused(Refused),
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// One frame; one of content only as far as its head.
#[derive(Debug)]
pub(super) enum Frame {
    Reply(Reply),
    /// [`END`].
    Control(u8),
    /// [`DATA`] of so many bytes, which follow.
    Data(usize),
}

/// What the head of a frame announces.
pub(super) enum Coming {
    Frame(Frame),
    /// An answer with a body of so many bytes.
    Body(Head),
}

pub(super) fn coming(head: &[u8; HEAD_LEN]) -> Result<Coming, Refused> {
    let head = Head::decode(head)?;
    match (head.tag, head.len) {
        // Frames without content could keep a reader busy for ever.
        (DATA, 0) => Err(Refused("a frame of content is empty")),
        (DATA, len) => Ok(Coming::Frame(Frame::Data(len))),
        (END, 0) => Ok(Coming::Frame(Frame::Control(END))),
        (END | ABORT, _) => Err(Refused("a frame is no answer")),
        _ => Ok(Coming::Body(head)),
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: UnixStream,
}

impl Conn {
    /// Sends a request and reads the first frame of the answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<Frame, Trouble> {
        match timeout(STALL, self.stream.write_all(request)).await {
            Err(_) => return Err(Trouble::Slow(STALL)),
            // What could not be sent whole is not done.
            Ok(Err(_)) => return Err(Trouble::NotTaken),
            Ok(Ok(())) => {}
        }
        let mut head = [0; HEAD_LEN];
        let first = match timeout(STALL, self.stream.read(&mut head)).await {
            Err(_) => return Err(Trouble::Slow(STALL)),
            // The kernel's way to say that it was closed with a request unread
            // (unix(7)): the server ended or was killed before it looked.
            Ok(Err(e)) if e.kind() == ErrorKind::ConnectionReset => return Err(Trouble::NotTaken),
            Ok(Err(_) | Ok(0)) => return Err(Trouble::Lost),
            Ok(Ok(n)) => n,
        };
        self.rest(head, first).await
    }

    /// The next frame.
    pub(super) async fn frame(&mut self, limit: Duration) -> Result<Frame, Trouble> {
        let mut head = [0; HEAD_LEN];
        match timeout(limit, self.stream.read(&mut head)).await {
            Err(_) => Err(Trouble::Slow(limit)),
            Ok(Err(_) | Ok(0)) => Err(Trouble::Lost),
            Ok(Ok(n)) => self.rest(head, n).await,
        }
    }

    /// The rest of a frame of whose head `have` bytes have been read.
    pub(super) async fn rest(
        &mut self,
        mut head: [u8; HEAD_LEN],
        have: usize,
    ) -> Result<Frame, Trouble> {
        self.exactly(&mut head[have..]).await?;
        match coming(&head)? {
            Coming::Frame(frame) => Ok(frame),
            Coming::Body(head) => {
                let mut body = vec![0; head.len];
                self.exactly(&mut body).await?;
                Ok(Frame::Reply(Reply::decode(head.tag, &body)?))
            }
        }
    }

    async fn exactly(&mut self, mut buf: &mut [u8]) -> Result<(), Trouble> {
        while !buf.is_empty() {
            match timeout(STALL, self.stream.read(buf)).await {
                Err(_) => return Err(Trouble::Slow(STALL)),
                Ok(Err(_) | Ok(0)) => return Err(Trouble::Lost),
                Ok(Ok(n)) => buf = &mut buf[n..],
            }
        }
        Ok(())
    }

    /// Sends a part of a write.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Trouble> {
        while !bytes.is_empty() {
            match timeout(STALL, self.stream.write(bytes)).await {
                Err(_) => return Err(Trouble::Slow(STALL)),
                Ok(Err(_) | Ok(0)) => return Err(Trouble::Lost),
                Ok(Ok(n)) => bytes = &bytes[n..],
            }
        }
        Ok(())
    }

    /// Waits for an answer that nobody asked for yet: its first bytes, and how
    /// many. Nothing is lost where this is dropped.
    pub(super) async fn early(&self) -> Result<([u8; HEAD_LEN], usize), Trouble> {
        let mut head = [0; HEAD_LEN];
        loop {
            self.stream.readable().await.map_err(|_| Trouble::Lost)?;
            match self.stream.try_read(&mut head) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) | Ok(0) => return Err(Trouble::Lost),
                Ok(n) => return Ok((head, n)),
            }
        }
    }
}
