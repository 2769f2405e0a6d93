//! Connecting to a port that listens inside a pixel: the connection is made by
//! a process in the pixel's network namespace (the face `enter`) and handed to whoever
//! asked. From then on the bytes pass no process of ours in there.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a listener whose queue is full is given.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to `port` on the loopback of the network namespace that this process
/// is in, IPv4 first.
///
/// # Errors
/// What was said to IPv4: most pixels have no IPv6 listener.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&v4, PATIENCE).or_else(|refused| {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        TcpStream::connect_timeout(&v6, PATIENCE).map_err(|_| refused)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::sys::fd;

    #[test]
    fn a_listener_on_either_loopback_is_found() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                fd::complain(&format!(
                    "a_listener_on_either_loopback_is_found: cannot run on {host}"
                ));
                continue;
            };
            let own = listener.local_addr().unwrap();
            assert_eq!(connect(own.port()).unwrap().peer_addr().unwrap(), own);
        }
    }

    #[test]
    fn a_refused_port_is_told() {
        // Bound and closed again: nobody listens there now.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(connect(port).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
