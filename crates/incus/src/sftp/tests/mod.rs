//! The client against a real server (OpenSSH's, over a socket pair), against servers that
//! lie, and its codec against arbitrary bytes.

mod codec;
mod hostile;
mod real;
mod streams;
