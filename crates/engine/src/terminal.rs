//! The outer end of a pixel's terminal.

use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pixels_core::{Reader, Result, TtySize, Writer};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

use crate::launcher::{failed, system};

/// It, for reading, writing and resizing at once.
pub(crate) struct Terminal(AsyncFd<OwnedFd>);

/// Takes the descriptor that comes over a socket; the first byte of something
/// else if that comes.
pub(crate) async fn receive(socket: &UnixStream) -> Result<std::result::Result<OwnedFd, u8>> {
    let what = "open a terminal in the pixel";
    loop {
        socket.readable().await.map_err(|e| failed(what, e))?;
        let received = socket.try_io(Interest::READABLE, || {
            let mut byte = [0];
            let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut room);
            let got = recvmsg(
                socket,
                &mut [IoSliceMut::new(&mut byte)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            let mut fds = ancillary.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            match (got.bytes, fds.next()) {
                (0, _) => Err(io::ErrorKind::UnexpectedEof.into()),
                (_, Some(fd)) => Ok(Ok(fd)),
                (_, None) => Ok(Err(byte[0])),
            }
        });
        match received {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            received => return received.map_err(|e| failed(what, e)),
        }
    }
}

impl Terminal {
    pub(crate) fn new(master: OwnedFd) -> Result<Self> {
        let what = "use the pixel's terminal";
        rustix::io::ioctl_fionbio(&master, true).map_err(system(what))?;
        AsyncFd::new(master).map(Self).map_err(|e| failed(what, e))
    }

    /// Tells it its size.
    pub(crate) fn resize(&self, size: TtySize) -> Result<()> {
        let size = rustix::termios::Winsize {
            ws_row: size.rows,
            ws_col: size.cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        match rustix::termios::tcsetwinsize(self.0.get_ref(), size) {
            // Nobody is left on the other side.
            Ok(()) | Err(rustix::io::Errno::IO) => Ok(()),
            Err(e) => Err(system("resize the terminal")(e)),
        }
    }

    /// What is shown on it.
    pub(crate) fn reader(self: &Arc<Self>) -> Reader {
        Box::pin(Output(Arc::clone(self)))
    }

    /// What is typed on it.
    pub(crate) fn writer(self: &Arc<Self>) -> Writer {
        Box::pin(Input(Arc::clone(self)))
    }
}

struct Output(Arc<Terminal>);

impl AsyncRead for Output {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.0.poll_read_ready(cx))?;
            let mut chunk = vec![0; buf.remaining().min(64 * 1024)];
            let read = guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut chunk)?));
            match read {
                Ok(Ok(n)) => {
                    buf.put_slice(&chunk[..n]);
                    return Poll::Ready(Ok(()));
                }
                // Linux's way of saying that the last one on the other side has closed it.
                Ok(Err(e)) if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_) => {}
            }
        }
    }
}

/// Shutting it down does nothing: a terminal has no end of file of its own.
struct Input(Arc<Terminal>);

impl AsyncWrite for Input {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.0.poll_write_ready(cx))?;
            if let Ok(written) = guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
