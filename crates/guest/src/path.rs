//! Where the binary lives inside a pixel.

/// The directory in the guest that holds the binary and its small state.
pub const GUEST_DIR: &str = "/var/lib/pixels";

/// How many hexadecimal digits of the binary's SHA-256 its name carries.
pub const HASH_LEN: usize = 16;

/// The absolute path in the guest of the binary with this SHA-256 (lower-case
/// hexadecimal; only the first [`HASH_LEN`] digits are used, and a shorter hash
/// is used whole). The name changes with the content, so an old binary is never
/// taken for a new one.
///
/// ```
/// let hash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// assert_eq!(
///     pixels_guest_api::guest_path(hash),
///     "/var/lib/pixels/guest-0123456789abcdef"
/// );
/// ```
pub fn guest_path(sha256_hex: &str) -> String {
    let short = sha256_hex.get(..HASH_LEN).unwrap_or(sha256_hex);
    format!("{GUEST_DIR}/guest-{short}")
}
