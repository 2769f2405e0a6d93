//! Sizes as people write and read them.

use crate::Error;

/// Bytes in a mebibyte: the unit of a memory size that has no suffix.
pub const MIB: u64 = 1024 * 1024;

/// Parses a size into bytes. A bare number counts in `unit` bytes; a suffix
/// says otherwise: `k`/`KiB`, `m`/`MiB`, `g`/`GiB`, `t`/`TiB` are powers of
/// 1024, `kB`/`KB`, `MB`, `GB`, `TB` powers of 1000, `B` bytes.
///
/// ```
/// use pixels_core::size::{parse, MIB};
/// assert_eq!(parse("memory", "2048", MIB).unwrap(), 2048 * MIB);
/// assert_eq!(parse("memory", "2GiB", MIB).unwrap(), 2048 * MIB);
/// assert_eq!(parse("memory", "2g", MIB).unwrap(), 2048 * MIB);
/// ```
///
/// # Errors
/// [`Error::Invalid`] naming `what` and the value when it is not a number
/// above zero, has an unknown suffix, or does not fit.
pub fn parse(what: &str, raw: &str, unit: u64) -> Result<u64, Error> {
    const RULE: &str = "a size is a whole number above zero, with k, M, G, T (or KiB, MB, …) where it is not the default unit";
    let text = raw.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let scale = match suffix.trim() {
        "" => unit,
        "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "m" | "M" | "MiB" => 1 << 20,
        "g" | "G" | "GiB" => 1 << 30,
        "t" | "T" | "TiB" => 1 << 40,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(Error::invalid(what, raw, RULE)),
    };
    match number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)) {
        Some(n) if n > 0 => Ok(n),
        _ => Err(Error::invalid(what, raw, RULE)),
    }
}

/// Bytes for a person: `0 B`, `42.0 MiB`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse("m", "1MB", MIB).unwrap(), 1_000_000);
        assert_eq!(parse("m", "17 B", MIB).unwrap(), 17);
        for bad in
            ["", "0", "-1", "1.5G", "2Q", "G", "99999999999999999999", "18446744073709551615T"]
        {
            assert_eq!(parse("m", bad, MIB).unwrap_err().code(), "invalid", "{bad}");
        }
        assert_eq!(human(0), "0 B");
        assert_eq!(human(42 * MIB), "42.0 MiB");
        assert_eq!(human(u64::MAX), "16384.0 PiB");
    }
}
