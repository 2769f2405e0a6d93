//! The library's end of a connection to a port inside a pixel.
//!
//! A process in the pixel's network namespace makes the connection and hands its
//! descriptor over (the face `enter` of the static binary); after
//! that it is a socket like any other, and no process of ours stays in between.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use pixels_core::{Error, Name, Result, text};
use pixels_guest_api::host::Answer;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// More than any failure has words for.
const MOST: usize = 64 * 1024;
/// A failure begins with its kind and how long the rest is; the rest with an errno.
const HEAD: usize = 5;
const ERRNO: usize = 4;

/// Takes the connection to `port` of pixel `name` from the process at the other
/// end of `socket`, which has been asked to make it. Dropping the future drops
/// the socket; that process then ends by itself.
///
/// # Errors
/// `Backend` with the kernel's word for it, such as a refused connection.
pub async fn receive(socket: UnixStream, name: &Name, port: u16) -> Result<TcpStream> {
    let what = || format!("connecting to port {port} of {name}");
    let failed = |e: io::Error| Error::backend(what(), describe(&e));
    match answer(&socket).await.map_err(failed)? {
        Ok(fd) => {
            let stream = std::net::TcpStream::from(fd);
            stream.set_nonblocking(true).map_err(failed)?;
            TcpStream::from_std(stream).map_err(failed)
        }
        Err((errno, words)) => {
            let error = io::Error::from_raw_os_error(errno);
            Err(match error.kind() {
                io::ErrorKind::ConnectionRefused => Error::backend(what(), describe(&error))
                    .with_hint("nothing listens there on the pixel's 127.0.0.1"),
                _ => Error::backend(what(), words),
            })
        }
    }
}

/// What the process said: a descriptor, or an errno and the step in words.
async fn answer(socket: &UnixStream) -> io::Result<Result<OwnedFd, (i32, String)>> {
    let mut said = Vec::new();
    loop {
        let mut buf = [0; 1024];
        let (n, fd) = socket.async_io(Interest::READABLE, || take(socket, &mut buf)).await?;
        said.extend_from_slice(&buf[..n]);
        let kind = said.first().copied().and_then(Answer::from_byte);
        match (kind, fd) {
            (Some(Answer::Done), Some(fd)) => return Ok(Ok(fd)),
            (Some(Answer::Failed), None) if n > 0 => {
                if let Some(failure) = failure(&said)? {
                    return Ok(Err(failure));
                }
            }
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A failure's errno and words; `None` until it is whole.
fn failure(said: &[u8]) -> io::Result<Option<(i32, String)>> {
    let Some(len) = said.get(1..HEAD).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
    else {
        return Ok(None);
    };
    let len = usize::try_from(len).ok().filter(|len| (ERRNO..=MOST).contains(len));
    let len = len.ok_or(io::ErrorKind::InvalidData)?;
    let Some((errno, words)) = said.get(HEAD..HEAD + len).and_then(|b| b.split_first_chunk())
    else {
        return Ok(None);
    };
    Ok(Some((i32::from_be_bytes(*errno), text::clean_bytes(words))))
}

/// One message, with at most one descriptor.
fn take(socket: &UnixStream, buf: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buf)];
    let got = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fd = fds.last();
        }
    }
    Ok((got.bytes, fd))
}

/// The system's words, without Rust's ` (os error N)`.
fn describe(e: &io::Error) -> String {
    let text = e.to_string();
    match text.rfind(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::fd::AsFd;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn name() -> Name {
        "a".parse().unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_received_and_works() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let made = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [made.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&theirs, &[IoSlice::new(&[Answer::Done.byte()])], &mut control, SendFlags::empty())
            .unwrap();
        drop((made, theirs));
        let mut near = receive(ours, &name(), 80).await.unwrap();
        near.write_all(b"ping").await.unwrap();
        near.shutdown().await.unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        far.write_all(b"pong").await.unwrap();
        drop(far);
        heard.clear();
        near.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"pong");
    }

    #[tokio::test]
    async fn a_refusal_comes_in_pieces_and_is_told() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let told = tokio::spawn(async move { receive(ours, &name(), 80).await });
        let refused = rustix::io::Errno::CONNREFUSED.raw_os_error().to_be_bytes();
        let said = [&b"F\0\0\0\x0b"[..], &refused, b"connect"].concat();
        for part in said.chunks(3) {
            theirs.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        let error = told.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "connecting to port 80 of a: Connection refused");
        assert!(error.hint().unwrap().contains("127.0.0.1"));
    }

    #[tokio::test]
    async fn nonsense_and_silence_are_errors() {
        for said in [&b""[..], b"\0", b"D", b"F\0\0", b"F\0\0\0\x03abc", b"F\xff\xff\xff\xff"] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(said).await.unwrap();
            drop(theirs);
            let error = receive(ours, &name(), 80).await.unwrap_err();
            assert_eq!(error.code(), "backend", "{said:?}");
        }
    }
}
