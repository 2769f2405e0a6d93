//! Files of pixels, running or not: connections to a process inside.
//!
//! A stopped pixel's layers are mounted for it in namespaces of their own, once,
//! and its lock is held for as long, by the processes that have them mounted
//! too. Whoever wants to change the pixel itself takes the mount away first.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pixels_core::{FileSession, Files, Name, Result};
use pixels_guest_api::face;
use pixels_guest_api::host::{GO, Purpose, Run as Enter};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::engine::Engine;
use crate::files::{Connect, Session};
use crate::launcher::{failed, pass, system};
use crate::process::Handle;
use crate::record::Run;
use crate::store::Lock;

/// How long a connection's process waits for the next operation.
const IDLE: Duration = Duration::from_millis(500);
/// How long a process may take to end when nobody is left.
const END: Duration = Duration::from_secs(10);

/// The stopped pixels whose files this program has in use.
#[derive(Default)]
pub(crate) struct Stills {
    open: tokio::sync::Mutex<HashMap<Name, Still>>,
    /// How many sessions there are of each.
    sessions: Mutex<HashMap<Name, usize>>,
}

/// One whose layers are mounted.
struct Still {
    door: UnixStream,
    run: Run,
    _lock: Lock,
}

/// Connects one session.
struct Door {
    engine: Engine,
    name: Name,
}

#[async_trait]
impl Files for Engine {
    async fn files(&self, name: &Name) -> Result<Box<dyn FileSession>> {
        self.ready()?.record(name)?;
        if let Ok(mut sessions) = self.still.sessions.lock() {
            *sessions.entry(name.clone()).or_default() += 1;
        }
        let door = Door { engine: self.clone(), name: name.clone() };
        Ok(Box::new(Session::new(Arc::new(door), Arc::clone(&self.unfinished))))
    }
}

/// A pair of connected sockets: ours, and one to give away.
fn pair() -> Result<(UnixStream, OwnedFd)> {
    let what = "connect to the pixel's files";
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(system(what))?;
    let ours = std::os::unix::net::UnixStream::from(ours);
    ours.set_nonblocking(true).map_err(|e| failed(what, e))?;
    Ok((UnixStream::from_std(ours).map_err(|e| failed(what, e))?, theirs))
}

fn millis(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
}

#[async_trait]
impl Connect for Door {
    async fn connect(&self) -> Result<UnixStream> {
        loop {
            let (ours, theirs) = pair()?;
            if self.engine.ready()?.run(&self.name).is_some() {
                let run = Enter::Files(millis(IDLE));
                let mut entered = self.engine.enter(&self.name, "", run, &[theirs.as_fd()])?;
                if let Err(e) = entered.answer("open the pixel's files").await {
                    return Err(self.engine.of(&self.name).explain(e).await);
                }
                // It lives as long as the connection does.
                return Ok(ours);
            }
            let mut open = self.engine.still.open.lock().await;
            if !open.contains_key(&self.name) {
                // Else it was started meanwhile.
                let Some(still) = self.engine.mount(&self.name).await? else { continue };
                open.insert(self.name.clone(), still);
            }
            if pass(&open[&self.name].door, &[theirs.as_fd()]).is_ok() {
                return Ok(ours);
            }
            // Somebody ended it: once more from the start.
            open.remove(&self.name);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let last = {
            let sessions = self.engine.still.sessions.lock();
            let mut sessions = sessions.unwrap_or_else(PoisonError::into_inner);
            match sessions.get_mut(&self.name) {
                Some(n) if *n > 1 => {
                    *n -= 1;
                    false
                }
                _ => {
                    sessions.remove(&self.name);
                    true
                }
            }
        };
        if last {
            let (engine, name) = (self.engine.clone(), self.name.clone());
            self.engine.background.spawn(async move {
                if let Err(e) = engine.unmount(&name).await {
                    tracing::debug!(%e, "a stopped pixel's files stay mounted");
                }
            });
        }
    }
}

impl Engine {
    /// Mounts a stopped pixel's layers for the use of its files; nothing if it
    /// runs by now.
    async fn mount(&self, name: &Name) -> Result<Option<Still>> {
        let ready = self.ready()?;
        let (lock, record) = self.lock_settled(ready, name).await?;
        if ready.run(name).is_some() {
            return Ok(None);
        }
        let (door, theirs) = pair()?;
        let purpose = Purpose::Files(millis(IDLE));
        let spec = self.launch_spec(ready, name, &record, None, &[], purpose)?;
        let fds = [theirs.as_fd(), lock.as_fd()];
        let mut running = ready.launcher.start(face::LAUNCH, &spec.encode(), &fds)?;
        drop(theirs);
        let run = Self::birth(&mut running).await?;
        let what = "open the pixel's files";
        running.socket.write_all(&[GO]).await.map_err(|e| failed(what, e))?;
        running.answer(what).await?;
        Ok(Some(Still { door, run, _lock: lock }))
    }

    /// Ends the use of a stopped pixel's files by this program, so that its lock
    /// is free. Sessions that are open connect anew when they are used again.
    pub(crate) async fn unmount(&self, name: &Name) -> Result<()> {
        let Some(still) = self.still.open.lock().await.remove(name) else { return Ok(()) };
        let Still { door, run, _lock } = still;
        drop(door);
        let Some(handle) = Handle::open(&run)? else { return Ok(()) };
        if tokio::time::timeout(END, handle.ended()).await.is_err() {
            handle.signal(rustix::process::Signal::KILL)?;
            handle.ended().await?;
        }
        Ok(())
    }
}
