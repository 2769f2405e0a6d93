//! One byte pipe to a daemon: a unix socket or TLS, and what is spoken over it:
//! HTTP/1, WebSocket, and an HTTP protocol upgrade.
//!
//! Nothing here knows what the daemon is. [`Client::new`] does no I/O; the first
//! request connects. Requests made one after the other share one connection.
//!
//! ```no_run
//! # async fn example() -> Result<(), pixels_wire::Error> {
//! use pixels_wire::{Client, Endpoint, Request};
//! let client = Client::new(Endpoint::Unix("/var/lib/incus/unix.socket".into()));
//! let answer = client.request(Request::get("/1.0")).await?;
//! assert_eq!(answer.status, 200);
//! # Ok(()) }
//! ```

#![forbid(unsafe_code)]

mod body;
pub mod cert;
mod client;
mod connect;
mod endpoint;
mod error;
mod pool;
mod response;
mod tls;
mod upgrade;
mod websocket;

pub use body::Body;
pub use client::{Client, Request};
pub use endpoint::{ClientIdentity, Endpoint, IdentityFault, ServerTrust, TlsEndpoint};
pub use error::{Error, TlsFailure};
pub use hyper::Method;
pub use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use response::{BodyReader, Response, StreamResponse};
pub use upgrade::Upgraded;
pub use websocket::{Message, WebSocket, WebSocketReceiver, WebSocketSender};
