//! Names of pixels and labels of checkpoints, checked where they enter.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// The name of a pixel, without the `px-` prefix that it carries on the backend.
///
/// 1 to 59 lower-case ASCII letters, digits and inner hyphens. `mybox` and
/// `px-mybox` parse to the same name.
///
/// ```
/// use pixels_core::Name;
/// let name: Name = "px-mybox".parse().unwrap();
/// assert_eq!(name.as_str(), "mybox");
/// assert_eq!(name.instance(), "px-mybox");
/// assert!("My Box".parse::<Name>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The rule a name has to keep, as errors print it.
const NAME_RULE: &str =
    "a name is 1 to 59 lower-case letters, digits and inner hyphens (a leading px- is dropped)";

impl Name {
    /// What every pixel's name begins with on its backend.
    pub const PREFIX: &'static str = "px-";
    /// The longest a name may be, in bytes, prefix not counted.
    pub const MAX: usize = 59;

    /// Checks `raw` and drops one `px-` prefix.
    ///
    /// # Errors
    /// [`Error::Invalid`] that quotes the value and states the rule.
    pub fn new(raw: &str) -> Result<Self, Error> {
        let bare = raw.strip_prefix(Self::PREFIX).unwrap_or(raw);
        let bytes = bare.as_bytes();
        let ok = (1..=Self::MAX).contains(&bytes.len())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-'
            // `px-px-a` would be listed as `px-a`, and typing that means `a`.
            && !bare.starts_with(Self::PREFIX);
        if ok { Ok(Self(bare.to_owned())) } else { Err(Error::invalid("name", raw, NAME_RULE)) }
    }

    /// The name of an instance on the backend, if it is one of ours.
    pub fn from_instance(instance: &str) -> Option<Self> {
        instance.strip_prefix(Self::PREFIX).and_then(|_| Self::new(instance).ok())
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name on the backend: `px-` and the bare name.
    pub fn instance(&self) -> String {
        format!("{}{}", Self::PREFIX, self.0)
    }
}

/// The label of a checkpoint: 1 to 63 ASCII letters, digits and `._-`, and
/// neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

/// The rule a label has to keep, as errors print it.
const LABEL_RULE: &str = "a label is 1 to 63 letters, digits and ._- (and neither . nor ..)";

impl Label {
    /// The longest a label may be, in bytes.
    pub const MAX: usize = 63;

    /// Checks `raw`.
    ///
    /// # Errors
    /// [`Error::Invalid`] that quotes the value and states the rule.
    pub fn new(raw: &str) -> Result<Self, Error> {
        let ok = (1..=Self::MAX).contains(&raw.len())
            && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && raw != "."
            && raw != "..";
        if ok { Ok(Self(raw.to_owned())) } else { Err(Error::invalid("label", raw, LABEL_RULE)) }
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text {
    ($t:ty) => {
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $t {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self, Error> {
                Self::new(s)
            }
        }
        impl AsRef<str> for $t {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl serde::Serialize for $t {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
    };
}
text!(Name);
text!(Label);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "0", "a-b", "px-a", "a1-2-3", &"x".repeat(59)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "px-", "-a", "a-", "A", "a_b", "a.b", "é", "a/b", "px-px-a", " a", &"x".repeat(60)]
        {
            let err = Name::new(bad).unwrap_err();
            assert_eq!(err.code(), "invalid", "{bad}");
        }
        assert_eq!(Name::from_instance("other"), None);
        assert_eq!(Name::from_instance("px-a").unwrap().as_str(), "a");
    }

    #[test]
    fn labels() {
        for good in ["a", "A.b_c-1", "...", &"x".repeat(63)] {
            assert!(Label::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "é", &"x".repeat(64)] {
            assert!(Label::new(bad).is_err(), "{bad}");
        }
    }
}
