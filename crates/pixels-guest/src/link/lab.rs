//! Network namespaces for tests: they go with the test, whatever comes of it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// For what works.
const PATIENCE: Duration = Duration::from_secs(10);

/// A network namespace of its own; it goes with its last user.
pub(super) struct Namespace(File);

impl Namespace {
    pub(super) fn new() -> Self {
        std::thread::spawn(|| {
            // SAFETY: changes this thread alone, which does nothing else.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
            Self(File::open("/proc/thread-self/ns/net").unwrap())
        })
        .join()
        .unwrap()
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Does `work` in there, on a thread of its own.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                // SAFETY: changes this thread alone.
                assert_eq!(unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                work()
            });
            entered.join().unwrap()
        })
    }
}

/// Says so where this cannot be tried.
pub(super) fn cannot_run(test: &str) -> bool {
    // SAFETY: plain call without pointers.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        crate::sys::fd::complain(&format!("{test}: cannot run: it needs root"));
    }
    !root
}

/// Connects to `to` and has a byte come back.
pub(super) fn talk(from: &Namespace, to: &Namespace, listen: IpAddr) -> IpAddr {
    let listener = to.enter(|| TcpListener::bind((listen, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let client =
        from.enter(|| TcpStream::connect_timeout(&SocketAddr::from((listen, port)), PATIENCE));
    let mut client = client.unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    server.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    peer.ip()
}
