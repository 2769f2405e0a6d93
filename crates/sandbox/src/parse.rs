//! What commands take in one word and mean two things by.

use std::fmt;
use std::str::FromStr;

use pixels_core::{Bytes, Error, Label, Name, Result};

/// `name[:label]`: what a clone is made from.
///
/// ```
/// use pixels_sandbox::Origin;
/// let origin: Origin = "base:ready".parse().unwrap();
/// assert_eq!(origin.name.as_str(), "base");
/// assert_eq!(origin.label.unwrap().as_str(), "ready");
/// assert!("base".parse::<Origin>().unwrap().label.is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The source.
    pub name: Name,
    /// Its checkpoint; `None` is the source as it is now.
    pub label: Option<Label>,
}

impl FromStr for Origin {
    type Err = Error;
    fn from_str(raw: &str) -> Result<Self> {
        match raw.split_once(':') {
            Some((name, label)) => {
                Ok(Self { name: Name::new(name)?, label: Some(Label::new(label)?) })
            }
            None => Ok(Self { name: Name::new(raw)?, label: None }),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "{}:{label}", self.name),
            None => self.name.fmt(f),
        }
    }
}

/// `name:path`: a place in a pixel. The path is bytes; a relative one starts at
/// the home of the user that commands run as, which [`crate::Pixels::push`] and
/// [`crate::Pixels::pull`] look up.
///
/// ```
/// use pixels_sandbox::Remote;
/// let place = Remote::parse(b"mybox:/srv/a b").unwrap();
/// assert_eq!(place.name.as_str(), "mybox");
/// assert_eq!(place.path, b"/srv/a b");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The pixel.
    pub name: Name,
    /// The path in it; empty is the home directory.
    pub path: Bytes,
}

impl Remote {
    /// Reads `name:path`.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a colon, for a bad name, or for a NUL in the path.
    pub fn parse(raw: &[u8]) -> Result<Self> {
        let shown = String::from_utf8_lossy(raw);
        let at = raw
            .iter()
            .position(|b| *b == b':')
            .ok_or_else(|| Error::invalid("path in a pixel", &shown, "it is written name:path"))?;
        let (name, path) = (&raw[..at], &raw[at + 1..]);
        if path.contains(&0) {
            return Err(Error::invalid("path in a pixel", &shown, "a path holds no NUL"));
        }
        Ok(Self { name: Name::new(&String::from_utf8_lossy(name))?, path: path.to_vec() })
    }
}

/// `K=V`: a variable given on the command line. The value may be anything but NUL.
///
/// # Errors
/// [`Error::Invalid`] without `=`, with an empty name, or with a NUL. The value is not quoted.
pub fn variable(raw: &[u8]) -> Result<(Bytes, Bytes)> {
    let at = raw.iter().position(|b| *b == b'=');
    match at {
        Some(at) if at > 0 && !raw.contains(&0) => Ok((raw[..at].to_vec(), raw[at + 1..].to_vec())),
        _ => {
            let name = &raw[..at.unwrap_or(raw.len())];
            let shown = String::from_utf8_lossy(name);
            Err(Error::invalid("variable", &shown, "a variable is written NAME=value"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_a_colon() {
        assert!("a:b:c".parse::<Origin>().is_err());
        assert!("a:".parse::<Origin>().is_err());
        assert_eq!("px-a:b".parse::<Origin>().unwrap().to_string(), "a:b");
        assert_eq!(Remote::parse(b"a:/x:y").unwrap().path, b"/x:y");
        assert_eq!(Remote::parse(b"a:\xff").unwrap().path, b"\xff");
        assert!(Remote::parse(b"/etc/passwd").is_err());
        assert!(Remote::parse(b"a:/\0").is_err());
    }

    #[test]
    fn variables() {
        assert_eq!(variable(b"A=b=c").unwrap(), (b"A".to_vec(), b"b=c".to_vec()));
        assert_eq!(variable(b"A=").unwrap().1, b"");
        for bad in [&b"A"[..], b"=x", b"A=\0secret"] {
            let err = variable(bad).unwrap_err().to_string();
            assert!(!err.contains("secret"), "{err}");
        }
    }
}
