//! What is being made, and taking it back when nobody waits for it any more.

use std::sync::Arc;

use pixels_core::Name;
use serde_json::Value;
use tokio::sync::{Mutex, oneshot};

use crate::Incus;
use crate::api::{Fault, Path, Reply};
use crate::model::{Raw, key};

/// See [`Incus::half_made`].
pub(crate) struct HalfMade {
    incus: Incus,
    pub name: Name,
    pub id: String,
    /// Held while the request that makes it is under way.
    posting: Arc<Mutex<()>>,
    armed: bool,
}

impl HalfMade {
    /// Sends the request that makes it. Whoever drops this does not stop the
    /// request: the daemon may have begun, and only its answer says whether
    /// there is something to take back.
    pub async fn post(&self, path: Path, body: &Value) -> Result<Reply, Fault> {
        let held = Arc::clone(&self.posting).lock_owned().await;
        let (tell, told) = oneshot::channel();
        let (api, body) = (self.incus.api.clone(), body.clone());
        self.incus.background.spawn(async move {
            let answer = api.post(path, &body).await;
            drop(held);
            let _ = tell.send(answer);
        });
        told.await.unwrap_or_else(|_| Err(Fault::Answer("no answer".into())))
    }

    /// It is made: nothing is removed.
    pub fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (incus, name, id) = (self.incus.clone(), self.name.clone(), self.id.clone());
        let posting = Arc::clone(&self.posting);
        self.incus.background.spawn(async move {
            drop(posting.lock().await);
            incus.undo_create(&name, &id).await;
        });
    }
}

impl Incus {
    /// Guards an instance that is being made: unless kept it is removed.
    pub(crate) fn half_made(&self, name: &Name, id: &str) -> HalfMade {
        HalfMade {
            incus: self.clone(),
            name: name.clone(),
            id: id.to_owned(),
            posting: Arc::default(),
            armed: true,
        }
    }

    /// Waits for what the daemon is doing with an instance: a task goes on when
    /// the client that asked for it is gone.
    pub(crate) async fn settled(&self, name: &Name) {
        for op in self.api.tasks_on(&name.instance()).await.unwrap_or_default() {
            let path = format!("/1.0/operations/{}", op.id);
            let _ = self.api.wait_operation(&path, None).await;
        }
    }

    /// As [`Incus::settled`], calling off what can be.
    pub(crate) async fn settle(&self, name: &Name) {
        for op in self.api.tasks_on(&name.instance()).await.unwrap_or_default() {
            let path = format!("/1.0/operations/{}", op.id);
            // A download can be called off; most operations cannot and are waited for.
            let _ = self.api.delete(Path::new(&path)).await;
            let _ = self.api.wait_operation(&path, None).await;
        }
    }

    /// Removes the instance with that id, also one that the daemon is still making.
    async fn undo_create(&self, name: &Name, id: &str) {
        self.settle(name).await;
        let ours = |raw: &Raw| raw.meta_key(key::ID) == Some(id);
        if let Err(e) = self.remove_if(name, ours).await {
            tracing::warn!(error = %e, "could not remove the half-made pixel: pixels gc does");
        }
    }
}
