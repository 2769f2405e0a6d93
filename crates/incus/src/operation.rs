//! Operations: what the daemon does while we wait.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, Fault, Path, Reply};

/// An operation as the daemon describes it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Operation {
    pub id: String,
    /// `task`, `websocket` (somebody's command or files, which end when they like) or `token`.
    #[serde(default)]
    pub class: String,
    pub status_code: u16,
    #[serde(default)]
    pub err: String,
    #[serde(default)]
    pub metadata: Value,
    #[serde(default)]
    pub resources: Value,
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    /// The cluster member that does it; `none` or empty without a cluster.
    #[serde(default)]
    pub location: String,
}

impl Operation {
    /// Whether it has ended, well or not.
    pub fn ended(&self) -> bool {
        self.status_code >= 200
    }
}

impl Api {
    /// Waits for what an asynchronous call started.
    ///
    /// # Errors
    /// What the operation failed with, as [`Fault::Api`].
    pub async fn wait(&self, reply: Reply) -> Result<Operation, Fault> {
        match reply.operation {
            Some(path) => self.wait_operation(&path, None).await,
            None => Err(Fault::Answer("no operation".into())),
        }
    }

    /// As [`Api::wait`], by the operation's path; for at most `limit` if there is one.
    pub async fn wait_operation(
        &self,
        path: &str,
        limit: Option<Duration>,
    ) -> Result<Operation, Fault> {
        let seconds = limit.map_or_else(|| "-1".to_owned(), |d| d.as_secs().to_string());
        let answer = self.get(Path::new(path).seg("wait").query("timeout", &seconds)).await;
        let operation: Operation = match answer {
            Ok(reply) => reply.parse()?,
            // A limit that passed and a failed operation are both errors here: ask.
            Err(fault @ Fault::Api { .. }) => match self.get(Path::new(path)).await {
                Ok(reply) => reply.parse()?,
                Err(_) => return Err(fault),
            },
            Err(fault) => return Err(fault),
        };
        if operation.ended() && operation.status_code != 200 {
            return Err(Fault::Api { status: operation.status_code, message: operation.err });
        }
        Ok(operation)
    }

    /// The tasks under way that change an instance. Commands that run in it are none.
    pub async fn tasks_on(&self, instance: &str) -> Result<Vec<Operation>, Fault> {
        let all: Value =
            self.get(Path::new("/1.0/operations").query("recursion", "1")).await?.parse()?;
        let suffix = format!("/instances/{instance}");
        let mut found = Vec::new();
        // Grouped by state: {"running": [..], "failure": [..]}.
        for group in all.as_object().into_iter().flat_map(|o| o.values()) {
            for op in group.as_array().into_iter().flatten() {
                let Ok(op) = serde_json::from_value::<Operation>(op.clone()) else { continue };
                let about = op.resources["instances"].as_array().is_some_and(|list| {
                    list.iter().any(|r| {
                        r.as_str()
                            .and_then(|r| r.split('?').next())
                            .is_some_and(|r| r.ends_with(&suffix))
                    })
                });
                if about && op.class == "task" && !op.ended() {
                    found.push(op);
                }
            }
        }
        Ok(found)
    }
}
