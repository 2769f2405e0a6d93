//! forward: a port on this machine that leads to one inside a pixel.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pixels_core::{Error, Name, Result, Sandbox};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Pixels;

/// A port that listens; [`Forward::serve`] has connections go on to the pixel.
/// Dropping it, or the future, closes the port and every connection.
pub struct Forward {
    listener: TcpListener,
    backend: Arc<dyn Sandbox>,
    name: Name,
    remote: u16,
}

impl Pixels {
    /// Listens on `local` for connections to port `remote` of the pixel's own
    /// 127.0.0.1. Port 0 is any free one. Whether something listens inside is
    /// seen at each connection.
    ///
    /// # Errors
    /// What keeps it from listening, before anything else; `NotFound`; `WrongState` for
    /// a pixel that does not run.
    pub async fn forward(&self, name: &Name, local: SocketAddr, remote: u16) -> Result<Forward> {
        if remote == 0 {
            return Err(Error::invalid("port", "0", "a pixel's port is 1 to 65535"));
        }
        let listener = TcpListener::bind(local).await.map_err(|e| refused(local, &e))?;
        let state = self.backend().get(name).await?.status;
        if !state.is_running() {
            let (name, needs) = (name.to_string(), "forward needs it running".into());
            return Err(Error::WrongState { name, state, needs });
        }
        let backend = Arc::clone(self.backend());
        Ok(Forward { listener, backend, name: name.clone(), remote })
    }
}

fn refused(local: SocketAddr, e: &io::Error) -> Error {
    let what = format!("listening on {local}");
    match e.kind() {
        io::ErrorKind::AddrInUse => Error::backend(what, "the port is in use")
            .with_hint("another local port, or 0 for any that is free"),
        io::ErrorKind::PermissionDenied => {
            Error::Denied { what, reason: "ports below 1024 are root's".into() }
                .with_hint("a local port from 1024 on, or 0 for any that is free")
        }
        _ => Error::backend(what, e.to_string()),
    }
}

impl Forward {
    /// Where it listens.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| Error::backend("listening", e.to_string()))
    }

    /// Serves until it is dropped. Connections do not wait for each other; the
    /// end of one direction leaves the other open. What keeps a single connection
    /// from the pixel closes that one and goes to `tell`.
    ///
    /// # Errors
    /// What keeps it from accepting any more.
    pub async fn serve(self, mut tell: impl FnMut(&Error)) -> Result<Infallible> {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (backend, name) = (Arc::clone(&self.backend), self.name.clone());
                        open.spawn(connect(stream, backend, name, self.remote));
                    }
                    // The other side was gone before it was accepted.
                    Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                    // Out of descriptors, say: there is room when one ends.
                    Err(e) => match open.join_next().await {
                        Some(done) => report(done, &mut tell),
                        None => return Err(Error::backend("accepting", e.to_string())),
                    },
                },
                Some(done) = open.join_next() => report(done, &mut tell),
            }
        }
    }
}

fn report(done: Result<Result<()>, tokio::task::JoinError>, tell: &mut impl FnMut(&Error)) {
    if let Ok(Err(error)) = done {
        tell(&error);
    }
}

async fn connect(
    mut near: TcpStream,
    backend: Arc<dyn Sandbox>,
    name: Name,
    port: u16,
) -> Result<()> {
    // Small writes are passed on as they come.
    let _ = near.set_nodelay(true);
    let (reader, writer) = backend.dial(&name, port).await?;
    let mut far = tokio::io::join(reader, writer);
    // What goes wrong between the two ends is theirs to see.
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    Ok(())
}
