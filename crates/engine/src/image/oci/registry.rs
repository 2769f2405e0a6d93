//! Registries: manifests and blobs over HTTP, with the token that a registry
//! wants for a repository.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pixels_core::{Bytes, Error, Result, What};
use pixels_wire::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use url::Url;

use super::super::http::{Answer, Expected, Http, status_error};
use super::super::meter::Meter;
use super::credentials::Credentials;
use super::reference::Reference;
use super::{Descriptor, LONGEST_DOCUMENT, hex_sha256};

const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// One repository of a registry.
pub(crate) struct Registry<'a> {
    http: &'a Http,
    reference: Reference,
    base: Url,
    credentials: Option<Credentials>,
    /// What the registry asked for, and what it got.
    granted: Mutex<Option<(Challenge, HeaderValue)>>,
}

/// How a registry wants to be spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl<'a> Registry<'a> {
    /// A repository; nothing is sent yet.
    pub(crate) fn new(
        http: &'a Http,
        reference: Reference,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        let base = reference.base();
        let base = Url::parse(&base)
            .map_err(|e| Error::invalid("registry", &reference.registry, &e.to_string()))?;
        Ok(Self { http, reference, base, credentials, granted: Mutex::default() })
    }

    fn url(&self, kind: &str, version: &str) -> Result<Url> {
        let path = format!("v2/{}/{kind}/{version}", self.reference.repository);
        let odd = |e: url::ParseError| Error::invalid("registry", &path, &e.to_string());
        self.base.join(&path).map_err(odd)
    }

    /// The manifest that the reference names, and the digits of its digest.
    pub(crate) async fn manifest(&self) -> Result<(Bytes, String)> {
        let version = self.reference.version();
        let bytes = self.document(version, true).await?;
        let sha256 = hex_sha256(&bytes);
        if let Some(digest) = &self.reference.digest
            && *digest != format!("sha256:{sha256}")
        {
            return Err(Error::backend(
                digest.as_str(),
                "the registry's manifest has another digest",
            ));
        }
        Ok((bytes, sha256))
    }

    /// A manifest by tag or digest, or a small blob.
    pub(crate) async fn document(&self, version: &str, manifest: bool) -> Result<Bytes> {
        let url = self.url(if manifest { "manifests" } else { "blobs" }, version)?;
        let mut headers = HeaderMap::new();
        if manifest {
            headers.insert(header::ACCEPT, HeaderValue::from_static(MANIFESTS));
        }
        let answer = self.get(&url, headers).await?;
        match answer.status {
            200 => Ok(answer.body),
            // Registries refuse what there is not, so that nobody learns what there is.
            404 | 401 | 403 if manifest => {
                let Reference { registry, repository, .. } = &self.reference;
                let name = format!("{registry}/{repository}:{version}");
                let e = Error::not_found(What::Image, name);
                Err(if answer.status == 404 {
                    e
                } else {
                    e.with_hint(format!("if it is private: docker login {registry}"))
                })
            }
            status => Err(status_error(&url, status)),
        }
    }

    /// A layer, as a file at `to` with the right digest.
    pub(crate) async fn blob(
        &self,
        what: &Descriptor,
        to: &Path,
        limit: u64,
        meter: &Meter,
    ) -> Result<()> {
        let url = self.url("blobs", &what.digest)?;
        let sha256 = what.sha256()?.to_owned();
        let expected = Expected { sha256, size: Some(what.size), limit };
        let headers = self.authorized(HeaderMap::new());
        match self.http.download(&url, &headers, &expected, to, meter).await {
            // A token lives for some minutes; an image may take longer.
            Err(e) if matches!(e.kind(), Error::Denied { .. }) && self.renew().await? => {
                tokio::fs::remove_file(to)
                    .await
                    .map_err(|e| super::super::local("removing a download", &e))?;
                let headers = self.authorized(HeaderMap::new());
                self.http.download(&url, &headers, &expected, to, meter).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    async fn get(&self, url: &Url, headers: HeaderMap) -> Result<Answer> {
        let sent = self.authorized(headers.clone());
        let answer = self.http.get(url, &sent, LONGEST_DOCUMENT).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let Some(challenge) = challenge(&answer.headers) else { return Ok(answer) };
        if !self.answer(challenge).await? {
            return Ok(answer);
        }
        self.http.get(url, &self.authorized(headers), LONGEST_DOCUMENT).await
    }

    fn authorized(&self, mut headers: HeaderMap) -> HeaderMap {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = &*granted {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        headers
    }

    /// Asks for the same as before once more; false where nothing was asked.
    async fn renew(&self) -> Result<bool> {
        let before = self.granted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match before {
            Some((challenge, _)) => self.answer(challenge).await,
            None => Ok(false),
        }
    }

    /// Does what a registry wants; false where there is nothing to do it with.
    async fn answer(&self, challenge: Challenge) -> Result<bool> {
        let value = match &challenge {
            Challenge::Basic => match &self.credentials {
                Some(c) => c.basic(),
                None => return Ok(false),
            },
            Challenge::Bearer { realm, service, scope } => {
                let token = self.token(realm, service.as_deref(), scope.as_deref()).await?;
                secret_header(&format!("Bearer {token}"))?
            }
        };
        *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = Some((challenge, value));
        Ok(true)
    }

    async fn token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<String> {
        // Plain http, which only this machine may speak, is not for others to send us to.
        if realm.scheme() != "https" && realm.scheme() != self.base.scheme() {
            let rule = "a registry's token service has to be https";
            return Err(Error::invalid("address", realm.as_str(), rule));
        }
        let pull = format!("repository:{}:pull", self.reference.repository);
        let scope = scope.unwrap_or(&pull);
        let answer = match &self.credentials {
            Some(Credentials::Identity(identity)) => {
                let form = refresh_form(identity, scope, service);
                self.http.post_form(realm, form, LONGEST_DOCUMENT).await?
            }
            other => {
                let mut url = realm.clone();
                url.query_pairs_mut().append_pair("scope", scope);
                if let Some(service) = service {
                    url.query_pairs_mut().append_pair("service", service);
                }
                let mut headers = HeaderMap::new();
                if let Some(credentials) = other {
                    headers.insert(header::AUTHORIZATION, credentials.basic());
                }
                self.http.get(&url, &headers, LONGEST_DOCUMENT).await?
            }
        };
        if answer.status != 200 {
            return Err(status_error(realm, answer.status));
        }
        let token: Option<Token> = serde_json::from_slice(&answer.body).ok();
        token
            .and_then(|t| t.token.or(t.access_token))
            .ok_or_else(|| Error::backend(realm.as_str(), "the token service gave no token"))
    }
}

fn refresh_form(identity: &str, scope: &str, service: Option<&str>) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", identity);
    form.append_pair("client_id", "pixels").append_pair("scope", scope);
    form.extend_pairs(service.map(|service| ("service", service)));
    form.finish()
}

fn secret_header(text: &str) -> Result<HeaderValue> {
    let odd = |_| Error::backend("token", "it cannot be sent");
    let mut value = HeaderValue::try_from(text).map_err(odd)?;
    value.set_sensitive(true);
    Ok(value)
}

impl Credentials {
    /// The header `Authorization` of this user.
    fn basic(&self) -> HeaderValue {
        let text = match self {
            Self::User { name, password } => format!("{name}:{password}"),
            Self::Identity(token) => format!("<token>:{token}"),
        };
        let value = format!("Basic {}", BASE64_STANDARD.encode(text));
        // Base64 is always a header.
        secret_header(&value).unwrap_or_else(|_| HeaderValue::from_static("Basic"))
    }
}

/// What a 401 asks for; the first kind that is known.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    headers.get_all(header::WWW_AUTHENTICATE).iter().find_map(|v| parse_challenge(v.to_str().ok()?))
}

fn parse_challenge(text: &str) -> Option<Challenge> {
    let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    let mut rest = rest.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "realm" => realm = Url::parse(value).ok(),
            "service" => service = Some(value.to_owned()),
            "scope" => scope = Some(value.to_owned()),
            _ => {}
        }
        rest = after.trim_start_matches([',', ' ']);
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = r#"Bearer realm="https://auth.example/token",service="a, b",scope="repository:x:pull,push""#;
        let Some(Challenge::Bearer { realm, service, scope }) = parse_challenge(text) else {
            panic!()
        };
        assert_eq!(realm.as_str(), "https://auth.example/token");
        assert_eq!(service.as_deref(), Some("a, b"));
        assert_eq!(scope.as_deref(), Some("repository:x:pull,push"));
        assert_eq!(parse_challenge("Basic realm=\"x\""), Some(Challenge::Basic));
        for odd in ["", "Bearer", "Bearer realm=\"", "Negotiate x", "Bearer service=\"x\""] {
            assert_eq!(parse_challenge(odd), None, "{odd:?}");
        }
    }
}
