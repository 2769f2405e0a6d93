//! The WebSockets of a running command as byte streams.
//!
//! Each stream has a task of its own between its socket and a bounded pipe, so
//! that a caller who does not read stops the command as a full pipe would, and
//! a caller who drops a reader closes the pipe under the command.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use pixels_core::{Reader, Writer};
use pixels_guest_api::{Report, ReportFilter, ReportKind};
use pixels_wire::{Message, WebSocketReceiver, WebSocketSender};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What a pipe holds, in bytes: Linux's own default.
const PIPE: usize = 64 * 1024;

/// Where the guest's report ends up.
pub(crate) type ReportSlot = Arc<Mutex<Option<Report>>>;

/// The caller's end of standard input. Dropping or shutting the writer down is end of file.
///
/// The socket stays open until the other end of `until` is used or dropped, which
/// is when the command has ended. Closing it earlier would reset a TCP connection,
/// because the daemon's pings lie in it unread, and with the reset the daemon
/// loses the input that it has not taken yet.
pub(crate) fn input(mut to: WebSocketSender, mut until: oneshot::Receiver<()>) -> Writer {
    let (near, far) = tokio::io::duplex(PIPE);
    tokio::spawn(async move {
        let fed = tokio::select! {
            fed = feed(far, &mut to) => fed,
            // A terminal's only socket has to be closed by us once its output has ended.
            _ = &mut until => { let _ = to.close().await; return }
        };
        if fed {
            // End of file is an empty text message.
            let _ = to.send(Message::Text(String::new())).await;
            let _ = until.await;
            let _ = to.close().await;
        }
    });
    Box::pin(near)
}

async fn feed(mut from: DuplexStream, to: &mut WebSocketSender) -> bool {
    let mut buffer = vec![0; PIPE];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return true,
            Ok(n) => {
                let chunk = Bytes::copy_from_slice(&buffer[..n]);
                if to.send(Message::Binary(chunk)).await.is_err() {
                    return false;
                }
            }
        }
    }
}

/// A plain output stream. When the caller drops it the socket is closed, and
/// the command then writes into a closed pipe.
pub(crate) fn output(from: WebSocketReceiver) -> Reader {
    output_then(from, oneshot::channel().0)
}

/// The output of a terminal; `ended` is told when it has.
pub(crate) fn output_then(mut from: WebSocketReceiver, ended: oneshot::Sender<()>) -> Reader {
    let (near, mut far) = tokio::io::duplex(PIPE);
    let whole = Arc::new(AtomicBool::new(false));
    let reader = Whole { inner: near, whole: Arc::clone(&whole) };
    tokio::spawn(async move {
        loop {
            match next(&mut from).await {
                Piece::Bytes(chunk) if far.write_all(&chunk).await.is_err() => break,
                Piece::Bytes(_) => {}
                Piece::End => {
                    whole.store(true, Ordering::Release);
                    break;
                }
                Piece::Lost => break,
            }
        }
        let _ = ended.send(());
    });
    Box::pin(reader)
}

/// The caller's end of an output. Where the stream broke off, its end is an
/// error: what is missing must not look like all there was.
struct Whole {
    inner: DuplexStream,
    whole: Arc<AtomicBool>,
}

impl AsyncRead for Whole {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let room = buf.remaining();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let at_end = room > 0 && buf.filled().len() == before;
        if at_end && !self.whole.load(Ordering::Acquire) {
            let kind = std::io::ErrorKind::ConnectionAborted;
            let error =
                std::io::Error::new(kind, "the connection was lost before the output's end");
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

/// An output stream that may carry the guest's report at its end.
pub(crate) struct Filtered {
    /// The caller's end.
    pub reader: Reader,
    /// The report, once it has been seen.
    pub report: ReportSlot,
    /// Ends when the stream has.
    pub task: JoinHandle<()>,
}

/// Takes the report out of a stream. `early` are bytes that arrived with the
/// handshake; `done` is told when the stream has ended.
pub(crate) fn filtered(
    mut from: WebSocketReceiver,
    mut filter: ReportFilter,
    early: Vec<u8>,
    tty: bool,
    done: Option<oneshot::Sender<()>>,
) -> Filtered {
    let (near, mut far) = tokio::io::duplex(PIPE);
    let report = ReportSlot::default();
    let slot = Arc::clone(&report);
    let whole = Arc::new(AtomicBool::new(false));
    let reader = Whole { inner: near, whole: Arc::clone(&whole) };
    let task = tokio::spawn(async move {
        let mut out = Vec::new();
        let mut open = true;
        let mut piece = Piece::Bytes(Bytes::from(early));
        while let Piece::Bytes(bytes) = &piece {
            filter.push(bytes, &mut out);
            if let Some(found) = filter.report() {
                keep(&slot, found);
            }
            // A caller who does not want stderr must not cost us the report.
            if open && !out.is_empty() {
                open = far.write_all(&out).await.is_ok();
            }
            if !open && tty {
                break;
            }
            out.clear();
            piece = next(&mut from).await;
        }
        whole.store(matches!(piece, Piece::End), Ordering::Release);
        if let Some(report) = filter.finish(&mut out) {
            keep(&slot, &report);
            if let Some(line) = shell_line(&report, tty) {
                out.extend_from_slice(line.as_bytes());
            }
        }
        if open && !out.is_empty() {
            let _ = far.write_all(&out).await;
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    });
    Filtered { reader: Box::pin(reader), report, task }
}

fn keep(slot: &ReportSlot, report: &Report) {
    if let Ok(mut slot) = slot.lock() {
        slot.get_or_insert_with(|| report.clone());
    }
}

/// What a shell would have said where it is a shell's matter.
fn shell_line(report: &Report, tty: bool) -> Option<String> {
    let ours = matches!(report.kind, ReportKind::NotFound | ReportKind::NotExecutable);
    ours.then(|| format!("pixels: {}{}", report.message, if tty { "\r\n" } else { "\n" }))
}

/// What comes next on an output's socket.
pub(crate) enum Piece {
    /// Output.
    Bytes(Bytes),
    /// Its end, which is an empty text message.
    End,
    /// The socket is gone without one.
    Lost,
}

/// The next piece of output.
pub(crate) async fn next(from: &mut WebSocketReceiver) -> Piece {
    loop {
        match from.recv().await {
            Ok(Some(Message::Binary(bytes))) if bytes.is_empty() => {}
            Ok(Some(Message::Binary(bytes))) => return Piece::Bytes(bytes),
            Ok(Some(Message::Text(text))) if text.is_empty() => return Piece::End,
            Ok(Some(Message::Text(text))) => return Piece::Bytes(Bytes::from(text.into_bytes())),
            Ok(Some(Message::Close(_)) | None) | Err(_) => return Piece::Lost,
        }
    }
}
