//! Rough checks of values whose real meaning another part decides.

use std::net::{IpAddr, Ipv4Addr};

/// A count of CPUs above zero, or a set such as `0-3,5`.
pub(super) fn cpus(raw: &str) -> bool {
    if let Ok(count) = raw.parse::<u32>() {
        return count > 0;
    }
    raw.split(',').all(|part| match part.split_once('-') {
        Some((a, b)) => matches!((number(a), number(b)), (Some(a), Some(b)) if a <= b),
        None => number(part).is_some(),
    })
}

fn number(raw: &str) -> Option<u32> {
    raw.bytes().all(|b| b.is_ascii_digit()).then(|| raw.parse().ok()).flatten()
}

/// `https://host[:port][/path]` without userinfo, blanks or controls.
pub(super) fn https(raw: &str) -> bool {
    let Some(rest) = raw.strip_prefix("https://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    !host.is_empty() && !host.contains('@') && rest.bytes().all(|b| b.is_ascii_graphic())
}

/// `10.209.0.0/16`: an IPv4 network, with no bits set behind its length.
pub(super) fn subnet(raw: &str) -> bool {
    let Some((base, len)) = raw.split_once('/') else { return false };
    match (base.parse::<Ipv4Addr>(), number(len)) {
        (Ok(base), Some(len @ 8..=28)) => u32::from(base).trailing_zeros() >= 32 - len,
        _ => false,
    }
}

/// A URL's path: `/` and visible ASCII without a query.
pub(super) fn endpoint(raw: &str) -> bool {
    raw.starts_with('/') && raw.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#')
}

/// The beginning of a pixel's name.
pub(super) fn prefix(raw: &str) -> bool {
    raw.len() <= 32
        && !raw.starts_with('-')
        && raw.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A tool's name, perhaps with a version: `node@22`, `npm:@openai/codex`.
pub(super) fn word(raw: &str) -> bool {
    !raw.is_empty() && !raw.starts_with('-') && raw.bytes().all(|b| b.is_ascii_graphic())
}

/// A host name, a `*.` wildcard, an address or a CIDR, with an optional `:port`.
pub(super) fn domain(raw: &str) -> bool {
    if let Some((address, bits)) = raw.split_once('/') {
        let (bits, port) = match bits.split_once(':') {
            Some((bits, port)) => (bits, Some(port)),
            None => (bits, None),
        };
        let most = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        return number(bits).is_some_and(|n| n <= most) && port.is_none_or(is_port);
    }
    if raw.parse::<IpAddr>().is_ok() {
        return true;
    }
    let (host, port) = match raw.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (raw, None),
    };
    let host = host.strip_prefix("*.").unwrap_or(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    port.is_none_or(is_port)
        && (1..=253).contains(&host.len())
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                // Names in other scripts are letters here; IDNA comes with the policy itself.
                && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        })
}

fn is_port(raw: &str) -> bool {
    number(raw).is_some_and(|n| (1..=65_535).contains(&n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rough_checks() {
        for good in ["1", "2", "0-3", "0,2,4-5"] {
            assert!(cpus(good), "{good}");
        }
        for bad in ["", "0", "-1", "a", "3-1", "1.5", "1,,2"] {
            assert!(!cpus(bad), "{bad}");
        }
        for good in
            ["a.com", "*.a.com", "a.com:8443", "10.0.0.0/8", "fd00::/8:443", "1.2.3.4", "bücher.de"]
        {
            assert!(domain(good), "{good}");
        }
        for bad in
            ["", "*", "a b", "a..b", "http://a.com", "a.com:0", "10.0.0.0/33", "-a.com", "*.*.a"]
        {
            assert!(!domain(bad), "{bad}");
        }
        assert!(https("https://127.0.0.1:8443") && !https("http://a") && !https("https://u@h"));
    }
}
