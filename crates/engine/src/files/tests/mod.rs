//! The client against the face itself, in a directory of this machine, and
//! against servers that lie.

mod hostile;
mod real;
mod streams;
mod writes;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use pixels_core::{Bytes, FileSession, Reader, Result};
use pixels_guest_api::{GUEST, face};
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::{Connect, Session, Unfinished};

/// The guest binary, in memory: nothing that is executed is open for writing
/// meanwhile in some other test's child.
fn guest() -> String {
    static FILE: OnceLock<OwnedFd> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let fd = memfd_create("pixels-guest", MemfdFlags::CLOEXEC).unwrap();
        let mut left = GUEST;
        while !left.is_empty() {
            left = &left[rustix::io::write(&fd, left).unwrap()..];
        }
        fd
    });
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Starts the face on this machine's own tree, once per connection.
#[derive(Default)]
pub(super) struct Faces {
    idle: Option<u64>,
    limit: Option<u64>,
    servers: Mutex<Vec<Child>>,
    made: AtomicUsize,
}

impl Faces {
    /// Servers that end when they were idle for so many milliseconds.
    fn idle(ms: u64) -> Self {
        let mut faces = Self::default();
        faces.idle = Some(ms);
        faces
    }

    /// Servers whose files hold at most so many blocks of 512 bytes.
    fn limited(blocks: u64) -> Self {
        let mut faces = Self::default();
        faces.limit = Some(blocks);
        faces
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    /// Kills every server there is, as a stop of the pixel does.
    fn kill(&self) {
        for mut child in self.servers.lock().unwrap().drain(..) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Waits until every server has ended by itself, and answers how.
    fn wait(&self) -> Vec<Option<i32>> {
        let mut servers = self.servers.lock().unwrap();
        servers.drain(..).map(|mut child| child.wait().unwrap().code()).collect()
    }
}

impl Drop for Faces {
    fn drop(&mut self) {
        self.kill();
    }
}

#[async_trait]
impl Connect for Faces {
    async fn connect(&self) -> Result<UnixStream> {
        let (ours, theirs) = Socket::pair().unwrap();
        let mut command = match self.limit {
            None => Command::new(guest()),
            Some(blocks) => {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(format!("ulimit -f {blocks}; exec \"$0\" \"$@\""));
                // The shell's own /proc/self is another.
                command.arg(guest().replace("self", &std::process::id().to_string()));
                command
            }
        };
        command.arg(face::FILES).args(self.idle.map(|ms| ms.to_string()));
        let child = command.stdin(OwnedFd::from(theirs)).spawn().unwrap();
        self.servers.lock().unwrap().push(child);
        self.made.fetch_add(1, Ordering::SeqCst);
        ours.set_nonblocking(true).unwrap();
        Ok(UnixStream::from_std(ours).unwrap())
    }
}

/// A directory, a session, and what is behind it.
struct World {
    dir: tempfile::TempDir,
    session: Session,
    faces: Arc<Faces>,
    unfinished: Arc<Unfinished>,
}

impl World {
    fn new() -> Self {
        Self::of(Faces::default())
    }

    fn of(faces: Faces) -> Self {
        let (faces, unfinished) = (Arc::new(faces), Arc::<Unfinished>::default());
        let session = Session::new(Arc::clone(&faces) as _, Arc::clone(&unfinished));
        Self { dir: tempfile::tempdir().unwrap(), session, faces, unfinished }
    }

    /// A path in it.
    fn at(&self, name: impl AsRef<[u8]>) -> Bytes {
        join(self.dir.path(), name.as_ref())
    }

    /// The names in it, in order.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn join(dir: &Path, name: &[u8]) -> Bytes {
    [dir.as_os_str().as_encoded_bytes(), b"/", name].concat()
}

fn reader(content: impl Into<Vec<u8>>) -> Reader {
    Box::pin(std::io::Cursor::new(content.into()))
}

async fn read(session: &dyn FileSession, path: &[u8]) -> Result<Bytes> {
    let (_, mut from) = session.open_read(path).await?;
    let mut content = Bytes::new();
    from.read_to_end(&mut content)
        .await
        .map_err(|e| *e.into_inner().unwrap().downcast::<pixels_core::Error>().unwrap())?;
    Ok(content)
}

/// A hang is a failure after this long.
async fn at_once<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), call).await.expect("it hangs")
}
