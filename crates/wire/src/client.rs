//! The HTTP/1 client.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;

use crate::body::Body;
use crate::connect::{self, Stream};
use crate::endpoint::{Endpoint, TlsEndpoint, authority};
use crate::error::Error;
use crate::pool::{Lease, Pool};
use crate::response::{BodyReader, Response, StreamResponse};

/// What an answer in memory may measure, unless the client says otherwise.
const BODY_LIMIT: u64 = 64 << 20;

/// One HTTP request.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded, beginning with `/`.
    pub path_and_query: String,
    /// Headers; `Host` and the length are added.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

impl Request {
    /// A request without headers or body.
    pub fn new(method: Method, path_and_query: impl Into<String>) -> Request {
        Request {
            method,
            path_and_query: path_and_query.into(),
            headers: HeaderMap::new(),
            body: Body::empty(),
        }
    }

    /// A GET.
    pub fn get(path_and_query: impl Into<String>) -> Request {
        Request::new(Method::GET, path_and_query)
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Body>) -> Request {
        self.body = body.into();
        self
    }

    /// With a header in addition.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Request {
        self.headers.append(name, value);
        self
    }
}

/// A client of one endpoint. Clones share connections and counters.
///
/// Requests made one after the other use one connection; while it is busy others are opened,
/// and a few are kept idle. A request is sent a second time only if the first time did not
/// reach the server, or if it is a GET or HEAD and a kept connection turned out to be stale.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    limit: u64,
}

struct Shared {
    endpoint: Endpoint,
    /// The endpoint as errors name it.
    name: Arc<str>,
    host: HeaderValue,
    pool: Arc<Pool>,
    tls: Mutex<Option<Arc<ClientConfig>>>,
    requests: AtomicU64,
    connections: AtomicU64,
}

impl Client {
    /// A client that has done nothing yet: neither files nor sockets are opened before the
    /// first request. Requests must be made inside a tokio runtime.
    pub fn new(endpoint: Endpoint) -> Client {
        let host = match &endpoint {
            Endpoint::Unix(_) => None,
            Endpoint::Tls(tls) => host_header(&tls.host, tls.port, 443),
            Endpoint::Loopback { host, port } => host_header(host, *port, 80),
        };
        Client {
            shared: Arc::new(Shared {
                name: endpoint.to_string().into(),
                endpoint,
                // A host that cannot be a header is refused when its TLS name is made.
                host: host.unwrap_or(HeaderValue::from_static("localhost")),
                pool: Arc::default(),
                tls: Mutex::default(),
                requests: AtomicU64::new(0),
                connections: AtomicU64::new(0),
            }),
            limit: BODY_LIMIT,
        }
    }

    /// The same client with another limit, in bytes, for answers of [`request`](Self::request).
    #[must_use]
    pub fn with_body_limit(mut self, limit: u64) -> Client {
        self.limit = limit;
        self
    }

    /// Where this client connects.
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// How many HTTP requests were sent, handshakes of WebSockets and upgrades included.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many connections were opened.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Sends a request and reads the whole answer, whatever its status. There is no time limit
    /// beyond that for connecting: a daemon may be asked to wait.
    ///
    /// # Errors
    /// What connecting gives; [`Error::Closed`], [`Error::Http`], [`Error::Upload`];
    /// [`Error::TooLarge`] if the body exceeds the limit (64 MiB unless set).
    pub async fn request(&self, request: Request) -> Result<Response, Error> {
        let answer = self.request_stream(request).await?;
        Ok(Response {
            status: answer.status,
            headers: answer.headers,
            body: answer.body.collect(self.limit).await?,
        })
    }

    /// Sends a request and hands over the answer's body as a stream.
    ///
    /// # Errors
    /// As [`request`](Self::request), but for the body, whose errors come from reading it.
    pub async fn request_stream(&self, request: Request) -> Result<StreamResponse, Error> {
        let (answer, lease) = self.exchange(request).await?;
        let (parts, incoming) = answer.into_parts();
        Ok(StreamResponse {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: BodyReader::new(incoming, Some(lease), Arc::clone(&self.shared.name)),
        })
    }

    async fn exchange(
        &self,
        request: Request,
    ) -> Result<(hyper::Response<Incoming>, Lease), Error> {
        let mut request = self.prepare(request)?;
        let repeatable = matches!(*request.method(), Method::GET | Method::HEAD);
        let mut kept = self.shared.pool.take().await;
        loop {
            let was_kept = kept.is_some();
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => self.http_connection().await?,
            };
            let spare = if repeatable && was_kept { copy_of(&request) } else { None };
            self.count_request();
            let mut failed = match sender.try_send_request(request).await {
                Ok(answer) => {
                    let pool = Arc::clone(&self.shared.pool);
                    return Ok((answer, Lease { sender, pool }));
                }
                Err(failed) => failed,
            };
            let unsent = failed.take_message();
            if unsent.is_some() {
                self.shared.requests.fetch_sub(1, Ordering::Relaxed);
            }
            // From the second time on the connection is a fresh one.
            match unsent.or(spare).filter(|_| was_kept) {
                Some(again) => request = again,
                None => return Err(Error::from_hyper(&self.shared.name, failed.into_error())),
            }
        }
    }

    /// Into the HTTP library's form, with everything the server expects in the head.
    pub(crate) fn prepare(&self, request: Request) -> Result<hyper::Request<Body>, Error> {
        let invalid = |what: &str| Error::http(&self.shared.name, format!("invalid {what}"));
        if !request.path_and_query.starts_with('/') {
            return Err(invalid("path"));
        }
        let uri = Uri::try_from(request.path_and_query).map_err(|_| invalid("path"))?;
        let mut out = hyper::Request::new(request.body);
        *out.uri_mut() = uri;
        *out.headers_mut() = request.headers;
        out.headers_mut().insert(HOST, self.shared.host.clone());
        // Only bodies that mean something get a length; the library adds it to those.
        if matches!(request.method, Method::POST | Method::PUT | Method::PATCH)
            && hyper::body::Body::size_hint(out.body()).exact() == Some(0)
        {
            out.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        *out.method_mut() = request.method;
        Ok(out)
    }

    /// A fresh connection with HTTP on it.
    pub(crate) async fn http_connection(&self) -> Result<SendRequest<Body>, Error> {
        let stream = self.open().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| Error::from_hyper(&self.shared.name, e))?;
        let name = Arc::clone(&self.shared.name);
        tokio::spawn(async move {
            // Whoever waits for an answer is told too; an idle connection may well be closed.
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(endpoint = %name, %error, "connection ended");
            }
        });
        Ok(sender)
    }

    /// A fresh byte stream.
    pub(crate) async fn open(&self) -> Result<Stream, Error> {
        let stream = match &self.shared.endpoint {
            Endpoint::Unix(path) => connect::unix(path).await?,
            Endpoint::Tls(tls) => {
                let config = self.tls_config(tls)?;
                connect::tls(&tls.host, tls.port, config).await?
            }
            Endpoint::Loopback { host, port } => connect::loopback(host, *port).await?,
        };
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }

    fn tls_config(&self, endpoint: &TlsEndpoint) -> Result<Arc<ClientConfig>, Error> {
        let mut made = self.shared.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*made {
            return Ok(Arc::clone(config));
        }
        let config = crate::tls::config(endpoint)
            .map_err(|kind| Error::Tls { endpoint: self.shared.name.to_string(), kind })?;
        Ok(Arc::clone(made.insert(Arc::new(config))))
    }

    pub(crate) fn count_request(&self) {
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    pub(crate) fn host(&self) -> &HeaderValue {
        &self.shared.host
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.shared.endpoint)
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}

/// The `Host` header. A scheme's own port is left out: storage services sign
/// the header as everybody sends it.
fn host_header(host: &str, port: u16, usual: u16) -> Option<HeaderValue> {
    let whole = authority(host, port);
    let text = match whole.strip_suffix(&format!(":{usual}")) {
        Some(short) if port == usual => short,
        _ => &whole,
    };
    HeaderValue::try_from(text).ok()
}

/// The request once more, where its body allows.
fn copy_of(request: &hyper::Request<Body>) -> Option<hyper::Request<Body>> {
    let mut copy = hyper::Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
