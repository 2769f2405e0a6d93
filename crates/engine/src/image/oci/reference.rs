//! Names of images in registries: `[host[:port]/]repository[:tag][@digest]`.

use std::net::IpAddr;

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Host, and port where it is not 443, as it was given.
    pub(crate) registry: String,
    /// The repository.
    pub(crate) repository: String,
    /// The tag; `latest` where nothing is said.
    pub(crate) tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub(crate) digest: Option<String>,
}

/// Docker Hub as names have it.
const HUB: &str = "docker.io";
/// Docker Hub as it is reached.
const HUB_HOST: &str = "registry-1.docker.io";
/// Docker Hub as its credentials are filed.
const HUB_KEY: &str = "https://index.docker.io/v1/";

impl Reference {
    /// Reads a reference. A first component without a dot or a port is a
    /// repository of Docker Hub, unless `explicit`: then it has to be a host.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn parse(text: &str, explicit: bool) -> Result<Self, String> {
        let (text, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        if let Some(digest) = digest {
            check_digest(digest)?;
        }
        let is_host = |first: &str| explicit || first.contains(['.', ':']) || first == "localhost";
        let (registry, rest) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ if explicit => return Err("it is oci://HOST/REPOSITORY[:TAG]".into()),
            _ => (HUB, text),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (rest, None),
        };
        let official = registry == HUB && !repository.contains('/');
        let repository = if official { format!("library/{repository}") } else { repository.into() };
        check_host(registry)?;
        check_repository(&repository)?;
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        Ok(Self {
            registry: registry.to_ascii_lowercase(),
            repository,
            tag: tag.map(Into::into),
            digest: digest.map(Into::into),
        })
    }

    /// What its manifest is asked for by.
    pub(crate) fn version(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The address of the registry. Plain http is for this machine alone.
    pub(crate) fn base(&self) -> String {
        let host = if self.registry == HUB { HUB_HOST } else { &self.registry };
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
        });
        let address: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
        let here = name == "localhost" || address.is_some_and(|ip| ip.is_loopback());
        format!("{}://{host}/", if here { "http" } else { "https" })
    }

    /// The key of its registry in Docker's configuration.
    pub(crate) fn credentials_key(&self) -> &str {
        if self.registry == HUB { HUB_KEY } else { &self.registry }
    }
}

/// Checks `sha256:` and 64 lower-case hexadecimal digits.
///
/// # Errors
/// The rule.
pub(crate) fn check_digest(digest: &str) -> Result<&str, String> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    let right = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if right { Ok(hex) } else { Err("a digest is sha256: and 64 hexadecimal digits".into()) }
}

fn check_host(host: &str) -> Result<(), String> {
    let right = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    let begins = |b: u8| b.is_ascii_alphanumeric() || b == b'[';
    if host.bytes().next().is_some_and(begins) && host.bytes().all(right) {
        return Ok(());
    }
    Err("a registry is HOST or HOST:PORT".into())
}

fn check_repository(repository: &str) -> Result<(), String> {
    let component = |c: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let right = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        edge(c.bytes().next()) && edge(c.bytes().last()) && c.bytes().all(right)
    };
    if repository.len() <= 255 && repository.split('/').all(component) {
        return Ok(());
    }
    Err("a repository is lower-case letters, digits and ._-, in components with / between".into())
}

fn check_tag(tag: &str) -> Result<(), String> {
    let right = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !tag.is_empty() && tag.len() <= 128 && !tag.starts_with(['.', '-']) && tag.bytes().all(right)
    {
        return Ok(());
    }
    Err("a tag is letters, digits and ._-, at most 128".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, String, String) {
        let r = Reference::parse(text, false).unwrap();
        (r.base(), r.repository.clone(), r.version().to_owned())
    }

    #[test]
    fn references_are_read_as_docker_does() {
        let all = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        let hub = "https://registry-1.docker.io/";
        assert_eq!(parts("debian:12"), all(hub, "library/debian", "12"));
        assert_eq!(parts("debian"), all(hub, "library/debian", "latest"));
        assert_eq!(parts("org/app"), all(hub, "org/app", "latest"));
        assert_eq!(parts("docker.io/debian"), all(hub, "library/debian", "latest"));
        assert_eq!(parts("ghcr.io/a/b/c:v1"), all("https://ghcr.io/", "a/b/c", "v1"));
        assert_eq!(parts("localhost:5000/x"), all("http://localhost:5000/", "x", "latest"));
        assert_eq!(parts("127.0.0.1:5000/x"), all("http://127.0.0.1:5000/", "x", "latest"));
        assert_eq!(parts("127.evil.example/x").0, "https://127.evil.example/");
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(parts(&format!("debian:12@{digest}")).2, digest);
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            ":",
            "A",
            "a:",
            "a:b:c/..",
            "a/../b",
            "a//b",
            "host.example/",
            "a@sha256:1",
            "a@md5:x",
            "a b",
            "-x.example/a",
            "a:-x",
            "../a",
        ] {
            assert!(Reference::parse(text, false).is_err(), "{text:?}");
        }
        assert!(Reference::parse("debian", true).is_err());
    }
}
