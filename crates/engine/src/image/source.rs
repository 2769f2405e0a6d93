//! What a name of an image means.

use std::path::{Path, PathBuf};

use pixels_core::{Error, Result};

use super::oci::reference::Reference;

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A name of the image server: `ubuntu/24.04`, also `images:ubuntu/24.04`.
    Server(String),
    /// `debootstrap:bookworm`.
    Debootstrap(String),
    /// `oci:dir` or `oci:dir:tag`.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// The name in its index.
        tag: Option<String>,
    },
    /// `docker:debian:12`, `oci://registry/repository:tag`.
    Registry(Reference),
    /// A tarball, a squashfs or a directory of this machine.
    Path(PathBuf),
}

impl Source {
    /// Reads a name. `home` is what `~` means.
    ///
    /// # Errors
    /// `Invalid` with the rule.
    pub(crate) fn parse(name: &str, home: Option<&Path>) -> Result<Self> {
        let invalid = |rule: &str| Error::invalid("image", name, rule);
        if is_path(name) {
            return Ok(Self::Path(expand(name, home).ok_or_else(|| invalid("there is no home"))?));
        }
        if let Some(suite) = name.strip_prefix("debootstrap:") {
            let right = suite.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
            if suite.is_empty() || suite.starts_with(['-', '.']) || !right {
                return Err(invalid(
                    "a suite is letters, digits, dots and hyphens: debootstrap:bookworm",
                ));
            }
            return Ok(Self::Debootstrap(suite.into()));
        }
        if let Some(rest) = name.strip_prefix("oci://") {
            return Reference::parse(rest, true).map(Self::Registry).map_err(|r| invalid(&r));
        }
        if let Some(rest) = name.strip_prefix("docker:") {
            let rest = rest.strip_prefix("//").unwrap_or(rest);
            return Reference::parse(rest, false).map(Self::Registry).map_err(|r| invalid(&r));
        }
        if let Some(rest) = name.strip_prefix("oci:") {
            let (dir, tag) = match rest.rsplit_once(':') {
                Some((dir, tag)) if !tag.contains('/') && !tag.is_empty() => (dir, Some(tag)),
                _ => (rest, None),
            };
            if dir.is_empty() {
                return Err(invalid("an OCI layout is oci:DIRECTORY or oci:DIRECTORY:TAG"));
            }
            let dir = expand(dir, home).ok_or_else(|| invalid("there is no home"))?;
            return Ok(Self::Layout { dir, tag: tag.map(Into::into) });
        }
        let name = name.strip_prefix("images:").unwrap_or(name);
        check_name(name).map_err(invalid)?;
        Ok(Self::Server(name.into()))
    }

    /// The name under which what was fetched is at hand next time; none for
    /// what is told by its content alone.
    pub(crate) fn alias(&self, name: &str) -> Option<String> {
        match self {
            Self::Server(name) => Some(name.clone()),
            Self::Debootstrap(_) | Self::Registry(_) => Some(name.into()),
            Self::Layout { .. } | Self::Path(_) => None,
        }
    }
}

/// Whether a name is meant as a path: nothing else begins like one.
fn is_path(name: &str) -> bool {
    name.starts_with(['/', '~']) || name.starts_with("./") || name.starts_with("../")
}

fn expand(path: &str, home: Option<&Path>) -> Option<PathBuf> {
    match path.strip_prefix('~') {
        Some("") => home.map(Into::into),
        Some(rest) if rest.starts_with('/') => Some(home?.join(rest.trim_start_matches('/'))),
        _ => Some(path.into()),
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let rule = "an image is a name such as ubuntu/24.04, docker:IMAGE, oci:DIRECTORY, \
                debootstrap:SUITE, or a path that begins with /, ./ or ~";
    let right = |b: u8| b.is_ascii_alphanumeric() || b"/._+-@".contains(&b);
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if begins && name.len() <= 128 && name.bytes().all(right) { Ok(()) } else { Err(rule) }
}

/// Checks a name that somebody gives to an image.
///
/// # Errors
/// `Invalid` with the rule.
pub(crate) fn check_alias(alias: &str) -> Result<()> {
    let begins = alias.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let right = |b: u8| b.is_ascii_alphanumeric() || b"/._+-".contains(&b);
    if begins && alias.len() <= 128 && alias.bytes().all(right) {
        return Ok(());
    }
    let rule = "an alias is letters, digits and /._+-, at most 128, a letter or digit first";
    Err(Error::invalid("alias", alias, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<Source> {
        Source::parse(name, Some(Path::new("/home/a")))
    }

    #[test]
    fn names_mean_what_they_look_like() {
        let server = |n: &str| Source::Server(n.into());
        assert_eq!(parse("ubuntu/24.04").unwrap(), server("ubuntu/24.04"));
        assert_eq!(parse("images:ubuntu/24.04").unwrap(), server("ubuntu/24.04"));
        assert_eq!(parse("debootstrap:bookworm").unwrap(), Source::Debootstrap("bookworm".into()));
        assert_eq!(parse("./a.tar").unwrap(), Source::Path("./a.tar".into()));
        assert_eq!(parse("~/a").unwrap(), Source::Path("/home/a/a".into()));
        assert_eq!(parse("/a:b").unwrap(), Source::Path("/a:b".into()));
        let layout = |dir: &str, tag: Option<&str>| Source::Layout {
            dir: dir.into(),
            tag: tag.map(Into::into),
        };
        assert_eq!(parse("oci:dir:v1").unwrap(), layout("dir", Some("v1")));
        assert_eq!(parse("oci:/a:b/c").unwrap(), layout("/a:b/c", None));
        assert!(matches!(parse("docker:debian:12").unwrap(), Source::Registry(_)));
        assert!(matches!(parse("oci://host.example/a/b").unwrap(), Source::Registry(_)));
    }

    #[test]
    fn everything_else_is_refused_with_the_rule() {
        for name in [
            "",
            "-x",
            "a b",
            "debootstrap:",
            "debootstrap:-x",
            "debootstrap:a/b",
            "oci:",
            "oci://x",
            "docker:",
            "docker:A",
            "a\nb",
            "http://host/x",
            ".hidden",
        ] {
            let e = parse(name).unwrap_err();
            assert_eq!(e.code(), "invalid", "{name:?}: {e}");
        }
        for alias in ["", "./x", "docker:x", "a b", "-a", &"a".repeat(129)] {
            check_alias(alias).unwrap_err();
        }
        check_alias("my/base-1").unwrap();
    }
}
