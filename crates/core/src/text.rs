//! Making untrusted text fit to be shown.

/// `raw` without control characters and bidirectional overrides, for lists,
/// logs and errors.
///
/// Guests print what they like, and terminals obey it. Newlines and tabs become
/// one space each; every other C0, C1 and DEL character, and the Unicode
/// formatting characters that reorder a line (U+200E/F, U+202A-E, U+2066-9),
/// are dropped.
///
/// ```
/// assert_eq!(pixels_core::text::clean("a\x1b[31mb\nc"), "a[31mb c");
/// ```
pub fn clean(raw: &str) -> String {
    raw.chars()
        .filter_map(|c| match c {
            '\n' | '\t' => Some(' '),
            c if c.is_control() => None,
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
            c => Some(c),
        })
        .collect()
}

/// As [`clean`], from bytes that need not be UTF-8.
pub fn clean_bytes(raw: &[u8]) -> String {
    clean(&String::from_utf8_lossy(raw))
}

/// As [`clean`], cut to at most `max` characters with a `…` that says so.
pub fn clean_short(raw: &str, max: usize) -> String {
    let text = clean(raw);
    if text.chars().count() <= max {
        return text;
    }
    let mut cut: String = text.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}
