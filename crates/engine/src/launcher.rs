//! Processes of the static binary, which do what a library must not: they make
//! and enter namespaces, freshly spawned, so that it does not matter how many
//! threads the program has.

use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;

use pixels_core::{Error, Result, text};
use pixels_guest_api::host::Answer;
use pixels_guest_api::{GUEST, face};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::failpoint;

/// The longest answer.
const MAX_ANSWER: u32 = 1 << 20;

/// Starts them.
pub(crate) struct Launcher {
    /// The binary, sealed: nobody can change what runs as a pixel's first process.
    binary: OwnedFd,
}

/// One of them.
pub(crate) struct Running {
    /// What it hears and says.
    pub(crate) socket: UnixStream,
    child: Child,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) kind: Answer,
    pub(crate) payload: Vec<u8>,
}

/// An error of a system call, as an error of the engine's.
pub(crate) fn system(what: &str) -> impl FnOnce(rustix::io::Errno) -> Error + '_ {
    move |e| failed(what, std::io::Error::from(e))
}

/// An I/O error, as an error of the engine's.
pub(crate) fn failed(what: &str, e: std::io::Error) -> Error {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let words = plain(&e);
    if matches!(e.kind(), StorageFull | QuotaExceeded) {
        return Error::Exhausted { what: what.into(), reason: words };
    }
    Error::Backend { what: what.into(), message: words, source: Some(Box::new(e)) }
}

/// The system's words without Rust's number.
fn plain(e: &std::io::Error) -> String {
    let text = e.to_string();
    let end = text.rfind(" (os error").unwrap_or(text.len());
    let mut words = text[..end].to_owned();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    words
}

impl Launcher {
    /// Puts the binary in memory, sealed.
    pub(crate) fn new() -> Result<Self> {
        let what = "prepare the guest binary";
        if GUEST.is_empty() {
            return Err(Error::unsupported("local", "this architecture"));
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let binary = rustix::fs::memfd_create("pixels-guest", flags).map_err(system(what))?;
        let mut file = std::fs::File::from(binary);
        file.write_all(GUEST).map_err(|e| failed(what, e))?;
        // Whoever may not read a program may not look into a process that runs it
        // either, not even with rights over all processes of its namespace: so a
        // pixel's root can do nothing to the pixel's init (ptrace(2)).
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o511);
        file.set_permissions(mode).map_err(|e| failed(what, e))?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(system(what))?;
        Ok(Self { binary: file.into() })
    }

    /// Starts a face with its request and descriptors.
    pub(crate) fn start(&self, face: &str, spec: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Running> {
        let what = format!("start {face}");
        let broken = || system(&what);
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(broken())?;
        let request =
            rustix::fs::memfd_create("pixels-request", MemfdFlags::CLOEXEC).map_err(broken())?;
        let mut request = std::fs::File::from(request);
        request.write_all(spec).map_err(|e| failed(&what, e))?;
        let mut all = vec![request.as_fd()];
        all.extend_from_slice(fds);
        let mut room = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&all)) {
            return Err(Error::backend(&what, "too many descriptors"));
        }
        let one = [IoSlice::new(&[0])];
        rustix::net::sendmsg(&ours, &one, &mut ancillary, SendFlags::NOSIGNAL).map_err(broken())?;
        let child = Command::new(self.path())
            .arg0("pixels-guest")
            .arg(face)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| failed(&what, e))?;
        let ours = std::os::unix::net::UnixStream::from(ours);
        ours.set_nonblocking(true).map_err(|e| failed(&what, e))?;
        let socket = UnixStream::from_std(ours).map_err(|e| failed(&what, e))?;
        Ok(Running { socket, child })
    }

    /// The binary in memory, for whoever starts it.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.binary.as_raw_fd()))
    }

    /// Starts the face `tree`, and waits for what it says.
    pub(crate) async fn tree(
        &self,
        spec: &pixels_guest_api::host::TreeSpec,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<u64>> {
        let mut running = self.start(face::TREE, &spec.encode(), fds)?;
        let answered = running.answer("work on the store").await?;
        let numbers = answered.payload.chunks_exact(8);
        Ok(numbers.filter_map(|n| n.try_into().ok()).map(u64::from_be_bytes).collect())
    }
}

impl Running {
    /// The next answer; a failure is an error.
    pub(crate) async fn answer(&mut self, what: &str) -> Result<Answered> {
        let answered = read_answer(&mut self.socket).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                failpoint::helper_ended();
                Error::backend(what, "the helper process ended without an answer")
            }
            _ => failed(what, e),
        })?;
        match answered.kind {
            Answer::Failed => Err(said(&answered.payload)),
            _ => Ok(answered),
        }
    }

    /// Lets it see that nobody waits for it, and waits until it is gone.
    pub(crate) async fn abandon(self) {
        let Self { socket, mut child } = self;
        drop(socket);
        if let Err(e) = child.wait().await {
            tracing::debug!(%e, "a helper process is left to itself");
        }
    }

    /// Kills it; its end can be waited for.
    pub(crate) fn end(mut self) -> Child {
        // One that has ended by itself is as good.
        let _ = self.child.start_kill();
        self.child
    }

    /// Its socket, and what waits for its end.
    pub(crate) fn split(self) -> (UnixStream, Child) {
        (self.socket, self.child)
    }
}

/// Sends descriptors over a socket, with one byte that means nothing.
pub(crate) fn pass(socket: impl AsFd, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let what = "hand descriptors over";
    let mut room = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Error::backend(what, "there are too many"));
    }
    let one = [IoSlice::new(&[0])];
    rustix::net::sendmsg(socket, &one, &mut ancillary, SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(system(what))
}

/// Reads one answer.
pub(crate) async fn read_answer(
    socket: &mut (impl AsyncReadExt + Unpin),
) -> std::io::Result<Answered> {
    let kind = Answer::from_byte(socket.read_u8().await?);
    let len = socket.read_u32().await?;
    let kind = kind.filter(|_| len <= MAX_ANSWER);
    let kind = kind.ok_or_else(|| std::io::Error::other("the helper process makes no sense"))?;
    let mut payload = vec![0; len as usize];
    socket.read_exact(&mut payload).await?;
    Ok(Answered { kind, payload })
}

/// The error that a face told.
pub(crate) fn said(payload: &[u8]) -> Error {
    let Some((number, words)) = payload.split_first_chunk::<4>() else {
        return Error::backend("work on this host", "the helper process failed");
    };
    let words = text::clean_bytes(words);
    let (step, why) = words.rsplit_once(": ").unwrap_or((&words, "it failed"));
    let number = i32::from_be_bytes(*number);
    if number == 0 {
        return Error::backend(step, why);
    }
    let error = failed(step, std::io::Error::from_raw_os_error(number));
    match hint(step, number) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// What helps against the failures that a machine's settings cause.
fn hint(step: &str, number: i32) -> Option<&'static str> {
    const NEEDS: &str =
        "pixels doctor shows what this machine lacks, and the command that mends it";
    let setup = ["namespace", "subordinate", "mount", "map "].iter().any(|w| step.contains(w));
    // EPERM, EACCES, ENOENT, EINVAL, ENOSPC (too many namespaces), EOVERFLOW
    (setup && [1, 2, 13, 22, 28, 75].contains(&number)).then_some(NEEDS)
}
