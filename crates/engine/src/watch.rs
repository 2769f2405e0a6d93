//! Supervisors: the process that made a pixel stays and takes the pixel's control
//! groups away when it has ended. It holds the lock of the pixel's file `watched`
//! as long. Without one nothing is lost, and the next operation starts another.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use pixels_core::{Error, Name, Result};
use pixels_guest_api::face;
use pixels_guest_api::host::WatchSpec;

use crate::cgroup;
use crate::engine::{Engine, Ready};
use crate::failpoint;
use crate::launcher::failed;
use crate::record::{Record, Run};

/// How long the supervisor of the run before may take to be done.
const DONE: Duration = Duration::from_secs(30);

impl Engine {
    /// The right to supervise a pixel that is about to be started. Waited for: the
    /// one before still kills what is left in the groups that the next run uses.
    pub(crate) async fn supervision(&self, ready: &Ready, name: &Name) -> Result<File> {
        let what = "supervise the pixel";
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        let file = options.open(ready.store.pixel(name).join("watched"));
        let file = file.map_err(|e| failed(what, e))?;
        if file.try_lock().is_ok() {
            return Ok(file);
        }
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
        match tokio::time::timeout(DONE, locked).await {
            Ok(Ok(locked)) => locked.map_err(|e| failed(what, e)),
            Ok(Err(e)) => Err(Error::backend(what, e.to_string())),
            Err(_) => Err(Error::Timeout { what: format!("the end of {name}"), after: DONE }),
        }
    }

    /// Gives a running pixel a supervisor, if its own is gone. What fails here
    /// fails nobody's operation.
    pub(crate) fn watch(&self, ready: &Ready, name: &Name, record: &Record, run: &Run) {
        let Ok(watched) = File::open(ready.store.pixel(name).join("watched")) else { return };
        if watched.try_lock().is_err() {
            return;
        }
        let spec = WatchSpec {
            pid: run.pid,
            start_time: run.start_time,
            cgroups: cgroup::bytes(&ready.cgroups.dirs(&record.id)),
        };
        let started = ready.launcher.start(face::WATCH, &spec.encode(), &[watched.as_fd()]);
        failpoint::at("watch-asked");
        match started {
            Ok(mut running) => self.background.spawn(async move {
                if let Err(e) = running.answer("supervise the pixel").await {
                    tracing::debug!(%e, "the pixel has no supervisor");
                }
                running.abandon().await;
            }),
            Err(e) => tracing::debug!(%e, "the pixel has no supervisor"),
        }
    }

    /// Lets a pixel run on that a checkpoint has left frozen whose process was
    /// killed together with its helper: nobody holds the pixel's lock then.
    pub(crate) fn wake(&self, ready: &Ready, name: &Name, record: &Record) {
        if ready.cgroups.frozen(&record.id)
            && let Ok(Some(_lock)) = ready.store.try_lock(name)
        {
            ready.cgroups.thaw(&record.id);
        }
    }
}
