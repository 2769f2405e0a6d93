//! Times as people read them.

use std::time::Duration;

use jiff::Timestamp;

/// How long ago `then` was, in its largest unit: `12s`, `5m`, `3h`, `9d`.
/// A clock that is behind gives `0s`.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    short(now.as_second().saturating_sub(then.as_second()))
}

/// [`age`] of what may not be known.
pub fn age_or_dash(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "-".to_owned(), |then| age(then, now))
}

/// When something ends: `in 5m`, or `expired`.
pub fn until(then: Timestamp, now: Timestamp) -> String {
    let left = then.as_second().saturating_sub(now.as_second());
    if left <= 0 { "expired".to_owned() } else { format!("in {}", short(left)) }
}

fn short(seconds: i64) -> String {
    match seconds {
        ..=0 => "0s".to_owned(),
        s @ 1..=119 => format!("{s}s"),
        s @ 120..=7199 => format!("{}m", s / 60),
        s @ 7200..=172_799 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// Elapsed time for notes: `45 ms`, `0.4 s`, `2 min 5 s`.
pub fn elapsed(d: Duration) -> String {
    let s = d.as_secs();
    if d < Duration::from_millis(100) {
        format!("{} ms", d.as_millis())
    } else if s < 60 {
        format!("{:.1} s", d.as_secs_f64())
    } else {
        format!("{} min {} s", s / 60, s % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let ago = |s: i64| age(Timestamp::from_second(1_000_000 - s).unwrap(), now);
        assert_eq!(ago(-5), "0s");
        assert_eq!(ago(59), "59s");
        assert_eq!(ago(119), "119s");
        assert_eq!(ago(120), "2m");
        assert_eq!(ago(7200), "2h");
        assert_eq!(ago(172_800), "2d");
        let soon = Timestamp::from_second(1_000_030).unwrap();
        assert_eq!(until(soon, now), "in 30s");
        assert_eq!(until(now, now), "expired");
        assert_eq!(elapsed(Duration::from_millis(45)), "45 ms");
        assert_eq!(elapsed(Duration::from_millis(420)), "0.4 s");
        assert_eq!(elapsed(Duration::from_secs(125)), "2 min 5 s");
    }
}
