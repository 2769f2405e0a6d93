//! Lengths of time as people write them: `90s`, `90m`, `1h30m`, `2d`.

use std::time::Duration;

use pixels_core::{Error, Result};

/// The rule a length of time has to keep, as errors print it.
const RULE: &str =
    "a length of time is whole numbers with ms, s, m, h, d or w, such as 90m or 1h30m";

/// Parses a length of time: one or more `<whole number><unit>` with the units
/// `ms`, `s`, `m`, `h`, `d` (24 h) and `w` (7 d). `0` alone is zero.
///
/// ```
/// use pixels_sandbox::duration;
/// assert_eq!(duration::parse("ttl", "1h30m").unwrap().as_secs(), 5400);
/// assert_eq!(duration::parse("ttl", "2d").unwrap().as_secs(), 172_800);
/// assert!(duration::parse("ttl", "90").is_err());
/// ```
///
/// # Errors
/// [`Error::Invalid`] naming `what` and the value: no unit, an unknown one, or too long to count.
pub fn parse(what: &str, raw: &str) -> Result<Duration> {
    parse_opt(raw).ok_or_else(|| Error::invalid(what, raw, RULE))
}

fn parse_opt(raw: &str) -> Option<Duration> {
    let mut rest = raw.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().ok()?;
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            "w" => Duration::from_secs(number.checked_mul(604_800)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = tail;
    }
    // What jiff can add to a timestamp; more is a slip of the finger.
    (total.as_secs() <= 100 * 366 * 86_400).then_some(total)
}

/// The shortest spelling of `d` that [`parse`] reads back as the same.
pub fn format(d: Duration) -> String {
    if d.is_zero() {
        return "0".into();
    }
    let mut out = String::new();
    let mut secs = d.as_secs();
    for (unit, size) in [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
        if secs >= size {
            out.push_str(&format!("{}{unit}", secs / size));
            secs %= size;
        }
    }
    if d.subsec_millis() > 0 {
        out.push_str(&format!("{}ms", d.subsec_millis()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, secs) in [("90s", 90), ("90m", 5400), ("2d", 172_800), ("1w", 604_800), ("0", 0)]
        {
            let parsed = parse("ttl", text).unwrap();
            assert_eq!(parsed.as_secs(), secs, "{text}");
            assert_eq!(parse("ttl", &format(parsed)).unwrap(), parsed);
        }
        assert_eq!(format(parse("x", "1h30m").unwrap()), "1h30m");
        assert_eq!(format(parse("x", "24h").unwrap()), "1d");
        for bad in ["", "1", "h", "1y", "-1h", "1.5h", "1h 2m", "99999999999999999999s", "200000d"]
        {
            assert!(parse("ttl", bad).is_err(), "{bad}");
        }
    }
}
