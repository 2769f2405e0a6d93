//! The pipe against real servers on this machine: sockets, TLS, HTTP, WebSocket.

mod certificates;
mod http;
mod support;
mod tls;
mod upgrade;
mod websocket;
