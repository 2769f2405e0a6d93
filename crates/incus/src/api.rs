//! The REST API: requests, the envelope of answers, and errors by code.

use pixels_core::{Error, What};
use pixels_wire::{
    Client, Error as WireError, HeaderName, HeaderValue, Method, Request, TlsFailure,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One daemon, one project.
#[derive(Clone)]
pub(crate) struct Api {
    pub http: Client,
    pub project: Option<String>,
}

/// Why a request failed, before it is known what it was about.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The daemon said so.
    Api { status: u16, message: String },
    /// It does not know this client.
    Untrusted { endpoint: String },
    /// It knows this client, which may not use the project.
    Forbidden { project: String },
    /// The pipe broke or was never there.
    Wire(WireError),
    /// The daemon's answer makes no sense.
    Answer(String),
}

impl From<WireError> for Fault {
    fn from(e: WireError) -> Self {
        match e {
            WireError::Status { status, body, .. } => {
                let message = serde_json::from_slice::<Envelope>(&body).map(|e| e.error);
                Self::Api {
                    status,
                    message: message.unwrap_or_else(|_| format!("status {status}")),
                }
            }
            other => Self::Wire(other),
        }
    }
}

/// The outside of every answer.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_code: u16,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    metadata: Value,
}

/// An answer.
pub(crate) struct Reply {
    pub metadata: Value,
    /// The operation's path, for an asynchronous call.
    pub operation: Option<String>,
}

impl Reply {
    /// The metadata as a type.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T, Fault> {
        serde_json::from_value(self.metadata).map_err(|e| Fault::Answer(e.to_string()))
    }
}

/// A path of the API with its query, escaped.
#[derive(Clone, Debug)]
pub(crate) struct Path(String, bool);

impl Path {
    /// From a fixed beginning such as `/1.0/instances`.
    pub fn new(fixed: &str) -> Self {
        Self(fixed.to_owned(), false)
    }

    /// Appends one escaped segment.
    pub fn seg(mut self, segment: &str) -> Self {
        self.0.push('/');
        escape(segment, &mut self.0);
        self
    }

    /// Appends a query parameter.
    pub fn query(mut self, key: &str, value: &str) -> Self {
        self.0.push(if self.1 { '&' } else { '?' });
        self.1 = true;
        self.0.push_str(key);
        self.0.push('=');
        escape(value, &mut self.0);
        self
    }
}

fn escape(raw: &str, out: &mut String) {
    for b in raw.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
}

impl Api {
    /// A path in this project.
    pub fn path(&self, path: Path) -> String {
        match &self.project {
            Some(project) => path.query("project", project).0,
            None => path.0,
        }
    }

    pub async fn get(&self, path: Path) -> Result<Reply, Fault> {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: Path, body: &Value) -> Result<Reply, Fault> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: Path, body: &Value) -> Result<Reply, Fault> {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub async fn patch(&self, path: Path, body: &Value) -> Result<Reply, Fault> {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: Path) -> Result<Reply, Fault> {
        self.call(Method::DELETE, path, None).await
    }

    /// One request.
    pub async fn call(
        &self,
        method: Method,
        path: Path,
        body: Option<&Value>,
    ) -> Result<Reply, Fault> {
        match self.send(method, path, body).await {
            Err(Fault::Api { status: 403, message }) => Err(self.refusal(message).await),
            other => other,
        }
    }

    /// Why the daemon refuses. Its message is words; what it thinks of this
    /// client and of the project can be asked.
    async fn refusal(&self, message: String) -> Fault {
        #[derive(Deserialize)]
        struct Server {
            auth: String,
        }
        let server = self.send(Method::GET, Path::new("/1.0"), None).await;
        if server.and_then(Reply::parse::<Server>).is_ok_and(|s| s.auth != "trusted") {
            return Fault::Untrusted { endpoint: self.http.endpoint().to_string() };
        }
        let project = self.project_name();
        let path = Path::new("/1.0/projects").seg(project);
        match self.send(Method::GET, path, None).await {
            Err(Fault::Api { status: 403, .. }) => Fault::Forbidden { project: project.to_owned() },
            _ => Fault::Api { status: 403, message },
        }
    }

    /// The project that is used, also where none is configured.
    pub fn project_name(&self) -> &str {
        self.project.as_deref().unwrap_or("default")
    }

    /// As [`Api::call`], a refusal as the daemon words it.
    pub async fn send(
        &self,
        method: Method,
        path: Path,
        body: Option<&Value>,
    ) -> Result<Reply, Fault> {
        let path = self.path(path);
        tracing::debug!(%method, path, "request");
        let mut request = Request::new(method, path);
        if let Some(body) = body {
            let json = HeaderValue::from_static("application/json");
            request = request
                .header(HeaderName::from_static("content-type"), json)
                .body(body.to_string().into_bytes());
        }
        let answer = self.http.request(request).await?;
        let envelope: Envelope = serde_json::from_slice(&answer.body)
            .map_err(|e| Fault::Answer(format!("status {}: {e}", answer.status)))?;
        if answer.status >= 400 || envelope.error_code >= 400 {
            let status =
                if envelope.error_code >= 400 { envelope.error_code } else { answer.status };
            return Err(Fault::Api { status, message: envelope.error });
        }
        // In a cluster it comes with a query: `/1.0/operations/ID?project=default`.
        let operation = envelope.operation.split('?').next().filter(|o| !o.is_empty());
        Ok(Reply { operation: operation.map(str::to_owned), metadata: envelope.metadata })
    }
}

impl Fault {
    /// The HTTP or operation status, where the daemon gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            Self::Untrusted { .. } | Self::Forbidden { .. } => Some(403),
            _ => None,
        }
    }

    /// What the daemon said, if it said something.
    pub fn message(&self) -> &str {
        match self {
            Self::Api { message, .. } | Self::Answer(message) => message,
            Self::Wire(_) | Self::Untrusted { .. } | Self::Forbidden { .. } => "",
        }
    }

    /// The error, when `op` was done to the thing named.
    pub fn about(self, what: What, name: &str, op: &str) -> Error {
        match self {
            Self::Api { status: 404, .. } => Error::not_found(what, name),
            Self::Api { status: 409, .. } => Error::exists(what, name),
            other => other.during(op),
        }
    }

    /// The error, when nothing can be missing.
    pub fn during(self, op: &str) -> Error {
        match self {
            Self::Wire(e) => wire_error(e),
            Self::Untrusted { endpoint } => Error::Denied {
                what: format!("incus at {endpoint}"),
                reason: "the daemon does not trust this client".into(),
            }
            .with_hint(
                "ask its owner for a token (incus config trust add <name>) and run pixels remote trust <token>",
            ),
            Self::Forbidden { project } => Error::Denied {
                what: format!("project {project:?}"),
                reason: "this client may use other projects only".into(),
            }
            .with_hint(PROJECTS),
            Self::Api { status: 403, message } => {
                Error::Denied { what: op.to_owned(), reason: message }
            }
            Self::Api { message, .. } if used_up(&message).is_some() => exhausted(op, &message),
            Self::Api { message, .. } => Error::backend(op, message),
            Self::Answer(message) => {
                Error::backend(op, format!("unexpected answer from incus: {message}"))
            }
        }
    }
}

/// The next step where a project is missing or forbidden.
pub(crate) const PROJECTS: &str = "set [incus] project to one of `incus project list`";

/// What is used up, if that is why something failed. Storage has no code of
/// its own for it: the text is the kernel's, between paths of the host.
pub(crate) fn used_up(message: &str) -> Option<&'static str> {
    let message = message.to_ascii_lowercase();
    [
        ("no space left on device", "the storage pool is full"),
        ("disk quota exceeded", "the disk's size is used up"),
    ]
    .into_iter()
    .find_map(|(text, reason)| message.contains(text).then_some(reason))
}

fn exhausted(op: &str, message: &str) -> Error {
    tracing::debug!(message, "out of space");
    let reason = used_up(message).unwrap_or(message);
    Error::Exhausted { what: op.to_owned(), reason: reason.to_owned() }
        .with_hint("free space in the pool: pixels gc, pixels destroy, pixels checkpoint delete")
}

/// A failure of the pipe, with the next step.
pub(crate) fn wire_error(e: WireError) -> Error {
    let reason =
        |target: String, reason: &str| Error::Unreachable { target, reason: reason.into() };
    match e {
        WireError::NoSocket { path } => {
            reason(format!("incus at {}", path.display()), "no such socket")
                .with_hint("start the daemon, or set [incus] socket or remote to where it listens")
        }
        WireError::PermissionDenied { path } => Error::Denied {
            what: format!("incus at {}", path.display()),
            reason: "this user may not use the socket".into(),
        }
        .with_hint(
            "join the socket's group: sudo usermod -aG incus-admin $USER, then log in again",
        ),
        WireError::Refused { endpoint } => {
            reason(format!("incus at {endpoint}"), "connection refused")
                .with_hint("nothing listens there: start the daemon (systemctl start incus)")
        }
        WireError::Resolve { host, reason: why } => {
            reason(format!("incus at {host}"), &format!("its name does not resolve: {why}"))
        }
        WireError::Timeout { endpoint, what, after } => {
            Error::Timeout { what: format!("{what} incus at {endpoint}"), after }
        }
        WireError::Tls { endpoint, kind } => tls_error(&endpoint, kind),
        WireError::Closed { endpoint } => {
            reason(format!("incus at {endpoint}"), "it closed the connection in the middle")
                .with_hint("the daemon may have been restarted: pixels list shows what is there, and pixels gc removes what was left half-made")
        }
        other => Error::Backend {
            what: "incus".into(),
            message: other.to_string(),
            source: Some(Box::new(other)),
        },
    }
}

fn tls_error(endpoint: &str, kind: TlsFailure) -> Error {
    let hint = match &kind {
        TlsFailure::PinMismatch { .. } => {
            "if the server was set up anew, get its certificate again and replace [incus] server_cert; else someone is in between"
        }
        TlsFailure::ClientCertificateRequired | TlsFailure::ClientCertificateRefused(_) => {
            "pixels remote trust <token> makes a client certificate that the server trusts"
        }
        _ => {
            "set [incus] server_cert to the server's certificate, or run pixels remote trust <token>"
        }
    };
    Error::Unreachable { target: format!("incus at {endpoint}"), reason: kind.to_string() }
        .with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped() {
        let p = Path::new("/1.0/images/aliases").seg("debian/12 ü").query("a", "b&c");
        assert_eq!(p.0, "/1.0/images/aliases/debian%2F12%20%C3%BC?a=b%26c");
    }

    #[test]
    fn not_found_goes_by_code_not_wording() {
        let by_code = Fault::Api { status: 404, message: "x".into() };
        assert!(by_code.about(What::Pixel, "a", "get").is_not_found());
        let by_word = Fault::Api { status: 500, message: "not found".into() };
        assert!(!by_word.about(What::Pixel, "a", "get").is_not_found());
    }
}
