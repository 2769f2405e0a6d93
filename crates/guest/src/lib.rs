//! The protocol spoken between the host and `pixels-guest`, the static binary
//! that runs inside a pixel. No I/O and no dependencies: byte strings in, byte
//! strings out, on any operating system.
//!
//! One exec is: the host starts `guest_path(hash) exec` as root through the
//! backend, writes one [`ExecRequest`] frame as the first bytes of stdin, and
//! everything after it belongs to the command. What goes wrong before the
//! command runs (or its timeout) comes back as one [`Report`] frame in the
//! stderr stream (the only stream of a terminal), found by [`ReportFilter`].
//!
//! The host first waits for [`READY_MARKER`] ([`ReadyScanner`]) on that stream:
//! on a terminal only then is the echo off, so that the request is neither
//! echoed nor edited by the line discipline; and in any case only then is there
//! somebody who takes the command's input.

mod codec;
pub mod fail;
pub mod files;
mod filter;
pub mod host;
mod path;
mod ready;
mod report;
mod request;
pub mod tree;

#[cfg(feature = "embed")]
mod embed;

#[cfg(feature = "embed")]
pub use embed::{GUEST, GUEST_SHA256_HEX};
pub use filter::ReportFilter;
pub use path::{GUEST_DIR, HASH_LEN, guest_path};
pub use ready::{READY_MARKER, ReadyScanner};
pub use report::{MAX_MESSAGE, Report, ReportError, ReportKind};
pub use request::{
    ExecRequest, HEADER_LEN, MAX_FRAME, MAX_ITEMS, Nonce, PROTOCOL_VERSION, RequestError,
    RequestHeader, UserSpec,
};

/// Exit code of the `exec` face when the command outlived its `timeout_ms`.
pub const EXIT_TIMEOUT: u8 = 124;
/// Exit code of the `exec` face for every failure of its own.
pub const EXIT_SETUP: u8 = 125;
/// Exit code when the command was found and could not be executed.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// Exit code when the command was not found.
pub const EXIT_NOT_FOUND: u8 = 127;
/// Exit code after [`SIGNAL_KILL_TREE`]: what a shell says of a SIGKILL.
pub const EXIT_KILLED: u8 = 137;

/// Signal number that, sent to the `exec` face, kills the command and all its
/// descendants; the face then exits with [`EXIT_KILLED`]. It is SIGRTMIN+1 as
/// Linux's C libraries number it (glibc's and musl's own use ends below), a
/// number that fits the integer of Incus's `signal` control message.
pub const SIGNAL_KILL_TREE: i32 = 36;

/// Environment variable of a pixel's PID 1 that holds its identity token; read
/// by the face `boot`.
pub const IDENTITY_VARIABLE: &str = "PIXELS_IDENTITY";

/// Environment variable of a pixel's PID 1 that holds its address, where the host
/// chose one: `address/prefix gateway dns…`, the gateway `-` where there is none.
pub const NETWORK_VARIABLE: &str = "PIXELS_NETWORK";

/// The names of the binary's faces: its first argument.
pub mod face {
    /// Runs one command; the request arrives on stdin.
    pub const EXEC: &str = "exec";
    /// Prints the protocol's and the build's version.
    pub const VERSION: &str = "version";
    /// Waits for a global address: `ready <timeout in ms>`.
    pub const READY: &str = "ready";
    /// Renews a clone's identity: `identity [--record] <token>`.
    pub const IDENTITY: &str = "identity";
    /// Renews a clone's identity and sets its address, before its network comes up.
    pub const BOOT: &str = "boot";
    /// Sets permission bits, the special ones too: `chmod [--follow] <octal> <path>`.
    pub const CHMOD: &str = "chmod";
    /// Makes a pixel; runs on the host (see [`crate::host`]).
    pub const LAUNCH: &str = "launch";
    /// Runs something in a pixel of this host.
    pub const ENTER: &str = "enter";
    /// Works on trees of the store.
    pub const TREE: &str = "tree";
    /// Supervises a pixel that `launch` made and whose supervisor is gone.
    pub const WATCH: &str = "watch";
    /// PID 1 of a pixel that `launch` made.
    pub const INIT: &str = "init";
    /// Serves file operations on the socket that is its stdin: `files [<idle ms>]`.
    pub const FILES: &str = "files";
}
