//! Idle keep-alive connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use tokio::time::timeout;

use crate::body::Body;

/// More are closed instead of kept.
const MOST_IDLE: usize = 8;
/// Older ones are not used again: the nearer to a server's own limit, the likelier it closes
/// the connection under a request that must not be sent twice.
const LONGEST_IDLE: Duration = Duration::from_secs(30);
/// A connection becomes ready within one turn of its task after the last answer's end;
/// one that does not is still sending an upload that the server did not wait for.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<(SendRequest<Body>, Instant)>>,
}

impl Pool {
    /// An idle connection that is ready for a request and not known to be closed.
    pub(crate) async fn take(&self) -> Option<SendRequest<Body>> {
        loop {
            let (mut sender, since) = self.lock().pop()?;
            if sender.is_closed() || since.elapsed() > LONGEST_IDLE {
                continue;
            }
            if let Ok(Ok(())) = timeout(SETTLE, sender.ready()).await {
                return Some(sender);
            }
        }
    }

    fn put(&self, sender: SendRequest<Body>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.lock();
        if idle.len() >= MOST_IDLE {
            idle.remove(0);
        }
        idle.push((sender, Instant::now()));
    }

    /// Nothing can be left half-done under the lock, so a panic elsewhere does not matter.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(SendRequest<Body>, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use. Dropped, it closes; handed back, it serves the next request.
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<Body>,
    pub(crate) pool: Arc<Pool>,
}

impl Lease {
    /// To be called once the answer has been read to its end.
    pub(crate) fn hand_back(self) {
        self.pool.put(self.sender);
    }
}
