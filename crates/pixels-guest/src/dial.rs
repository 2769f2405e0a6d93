//! Connecting to a port that listens inside a pixel: the connection is made by
//! a process in the pixel's network namespace and handed to whoever asked.
//! From then on the bytes pass no process of ours in there.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::sys::{errno, fd, pass};

/// How long a listener whose queue is full is given.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to `port` on the loopback of the network namespace that this process
/// is in, IPv4 first, and answers on `socket`: `0` with the connection's
/// descriptor, or `1` and the errno (little endian). The exit code: 0 if the
/// answer was sent, whatever it says.
pub(crate) fn dial(port: u16, socket: BorrowedFd<'_>) -> i32 {
    let sent = match connect(port) {
        Ok(stream) => pass::send(socket, &[0], stream.as_fd()),
        Err(e) => {
            let [a, b, c, d] = errno(&e).to_le_bytes();
            fd::write_all(socket.as_raw_fd(), &[1, a, b, c, d])
        }
    };
    i32::from(sent.is_err())
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&v4, PATIENCE).or_else(|refused| {
        // What the first said is what counts: most pixels have no IPv6 listener.
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        TcpStream::connect_timeout(&v6, PATIENCE).map_err(|_| refused)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_refused_port_is_told_by_its_errno() {
        // Bound and closed again: nobody listens there now.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(dial(port, theirs.as_fd()), 0);
        drop(theirs);
        let mut said = Vec::new();
        ours.read_to_end(&mut said).unwrap();
        let refused = libc::ECONNREFUSED.to_le_bytes();
        assert_eq!(said, [&[1][..], &refused].concat());
    }

    #[test]
    fn a_listener_on_either_loopback_is_found() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                fd::complain(&format!(
                    "a_listener_on_either_loopback_is_found: cannot run on {host}"
                ));
                continue;
            };
            let (ours, theirs) = UnixStream::pair().unwrap();
            assert_eq!(dial(listener.local_addr().unwrap().port(), theirs.as_fd()), 0);
            // The descriptor is in flight: the connection is open as long as that is.
            let (mut inside, _) = listener.accept().unwrap();
            inside.write_all(b"x").unwrap();
            drop((ours, theirs));
            let mut rest = Vec::new();
            // Closed with an unread byte is a reset.
            let ended = inside.read_to_end(&mut rest);
            assert!(rest.is_empty() && ended.map_or(true, |n| n == 0));
        }
    }

    #[test]
    fn whoever_has_gone_is_no_signal() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert_eq!(dial(listener.local_addr().unwrap().port(), theirs.as_fd()), 1);
    }
}
