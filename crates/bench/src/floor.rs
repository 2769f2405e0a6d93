//! The floor: bare REST calls.

use anyhow::{Context as _, Result, anyhow, ensure};
use pixels_wire::{Client, HeaderName, HeaderValue, Message, Method, Request};
use serde_json::{Value, json};

/// A daemon's API, without anything that the product adds.
#[derive(Clone)]
pub(crate) struct Floor(Client);

impl Floor {
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// One call; the answer's whole envelope.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = Request::new(method, path);
        if let Some(body) = body {
            let json = HeaderValue::from_static("application/json");
            request = request
                .header(HeaderName::from_static("content-type"), json)
                .body(body.to_string().into_bytes());
        }
        let answer = self.0.request(request).await?;
        let value: Value = serde_json::from_slice(&answer.body)?;
        ensure!(answer.status < 400, "{path}: {}", value["error"]);
        Ok(value)
    }

    /// One asynchronous call, and its operation when it has ended.
    pub async fn done(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.call(method, path, body).await?;
        let operation = answer["operation"].as_str().context("no operation")?;
        let ended = self.call(Method::GET, &format!("{operation}/wait?timeout=-1"), None).await?;
        let op = ended["metadata"].clone();
        ensure!(op["status_code"] == 200, "{path}: {}", op["err"]);
        Ok(op)
    }

    /// Copies a checkpoint and starts the copy, in one request.
    pub async fn clone(&self, source: &Value, from: &str, name: &str) -> Result<()> {
        let mut config = source["config"].as_object().cloned().unwrap_or_default();
        config.retain(|k, _| !k.starts_with("volatile.") && k != "raw.lxc");
        config.insert("environment.PIXELS_NETWORK".into(), json!(""));
        let mut devices = source["devices"].clone();
        if let Some(nic) = devices["eth0"].as_object_mut() {
            nic.remove("ipv4.address");
        }
        let body = json!({
            "name": name, "start": true, "architecture": source["architecture"],
            "profiles": source["profiles"], "config": config, "devices": devices,
            "source": {"type": "copy", "source": from, "instance_only": true},
        });
        self.done(Method::POST, "/1.0/instances", Some(&body)).await.map(drop)
    }

    /// Runs a command with all its sockets and reads its exit code. It runs as it is
    /// to run in a pixel, through root's login shell: that is no cost of ours.
    pub async fn exec(&self, name: &str, command: &[&str]) -> Result<i64> {
        let mut command = command.to_vec();
        command.splice(0..0, ["bash", "-l", "-c", "exec \"$0\" \"$@\""]);
        let body = json!({
            "command": command, "wait-for-websocket": true, "interactive": false, "user": 0, "cwd": "/",
        });
        let answer =
            self.call(Method::POST, &format!("/1.0/instances/{name}/exec"), Some(&body)).await?;
        let operation = answer["operation"].as_str().context("no operation")?;
        let fds = &answer["metadata"]["metadata"]["fds"];
        let open = async |fd: &str| {
            let secret = fds[fd].as_str().unwrap_or_default();
            self.0.websocket(&format!("{operation}/websocket?secret={secret}")).await
        };
        let (mut input, _out, _err, _control) =
            tokio::try_join!(open("0"), open("1"), open("2"), open("control"))?;
        input.send(Message::Text(String::new())).await?;
        let ended = self.call(Method::GET, &format!("{operation}/wait?timeout=-1"), None).await?;
        ended["metadata"]["metadata"]["return"].as_i64().ok_or_else(|| anyhow!("no exit code"))
    }

    /// Removes instances, running or not, a few at a time.
    pub async fn remove(&self, names: &[String]) -> Result<()> {
        use futures_util::StreamExt;
        let one = |name: String| async move {
            let at = format!("/1.0/instances/{name}");
            let stop = json!({"action": "stop", "force": true, "timeout": -1});
            let _ = self.done(Method::PUT, &format!("{at}/state"), Some(&stop)).await;
            self.done(Method::DELETE, &at, None).await.map(drop)
        };
        let results: Vec<_> =
            futures_util::stream::iter(names.to_vec()).map(one).buffer_unordered(4).collect().await;
        results.into_iter().collect()
    }
}
