//! The binary itself, built by this crate's build script.

/// The static `pixels-guest` for this host's architecture. Empty where the host
/// is not Linux on x86_64 or aarch64 and no binary was named at build time: the
/// host then takes one from `PIXELS_GUEST_BIN` at run time.
pub static GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pixels-guest"));

/// The lower-case hexadecimal SHA-256 of [`GUEST`].
pub const GUEST_SHA256_HEX: &str = env!("PIXELS_GUEST_SHA256");
