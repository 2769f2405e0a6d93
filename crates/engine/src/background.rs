//! Work that goes on after the call that started it: clean-up above all.

use std::future::Future;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Tasks that [`Background::drain`] waits for.
#[derive(Clone, Default)]
pub(crate) struct Background(Arc<Mutex<JoinSet<()>>>);

impl Background {
    /// Runs `work` on the current runtime. Outside of one (the program is on
    /// its way out) nothing runs, and the next `sweep` finds what is left.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(handle) = Handle::try_current()
            && let Ok(mut tasks) = self.0.lock()
        {
            tasks.spawn_on(work, &handle);
        }
    }

    /// Waits until nothing is under way.
    pub async fn drain(&self) {
        loop {
            let mut tasks = match self.0.lock() {
                Ok(mut tasks) if !tasks.is_empty() => std::mem::take(&mut *tasks),
                _ => return,
            };
            while tasks.join_next().await.is_some() {}
        }
    }
}
