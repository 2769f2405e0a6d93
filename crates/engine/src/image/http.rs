//! Fetching from image servers and registries: HTTPS, or plain HTTP to this
//! machine; redirects, limits, resumed downloads, digests.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pixels_core::{Bytes, Error, Result};
use pixels_wire::{
    Client, Endpoint, HeaderMap, HeaderValue, Method, Request, ServerTrust, StreamResponse,
    TlsEndpoint, header,
};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use url::{Host, Url};

use super::meter::Meter;

/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// How many redirects are followed.
const REDIRECTS: usize = 8;
/// How often a download that broke off is taken up again without having got further.
const ATTEMPTS: usize = 3;

/// A client for any number of servers that are trusted for the same reason.
pub(crate) struct Http {
    trust: ServerTrust,
    clients: Mutex<HashMap<String, Client>>,
}

/// What a server said.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What a downloaded file must be.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// SHA-256, 64 lower-case hexadecimal digits.
    pub(crate) sha256: String,
    /// Its length in bytes, where somebody said.
    pub(crate) size: Option<u64>,
    /// The most bytes that are taken.
    pub(crate) limit: u64,
}

impl Http {
    pub(crate) fn new(trust: ServerTrust) -> Self {
        Self { trust, clients: Mutex::default() }
    }

    fn client(&self, url: &Url) -> Result<Client> {
        let refused = |rule: &str| Error::invalid("address", shown(url).as_str(), rule);
        let host = url.host().ok_or_else(|| refused("it names no host"))?;
        let name = host.to_string();
        let port = url.port_or_known_default().ok_or_else(|| refused("it names no port"))?;
        let endpoint = match url.scheme() {
            "https" => Endpoint::Tls(TlsEndpoint {
                host: name,
                port,
                trust: self.trust.clone(),
                identity: None,
            }),
            "http" if is_here(&host) => Endpoint::Loopback { host: name, port },
            _ => return Err(refused("it has to be https:// (or this machine)")),
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = clients.entry(endpoint.to_string()).or_insert_with(|| Client::new(endpoint));
        Ok(client.clone())
    }

    /// One GET, redirects followed. Credentials go to the first server alone.
    async fn open(&self, url: &Url, headers: &HeaderMap) -> Result<StreamResponse> {
        let (mut url, mut headers) = (url.clone(), headers.clone());
        let agent = HeaderValue::from_static(concat!("pixels/", env!("CARGO_PKG_VERSION")));
        headers.insert(header::USER_AGENT, agent);
        for _ in 0..REDIRECTS {
            let client = self.client(&url)?;
            let mut request = Request::get(path_and_query(&url));
            request.headers = headers.clone();
            let sent = client.request_stream(request);
            let answer = in_time(&url, sent).await?.map_err(|e| failed(&url, &e))?;
            let moved = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
            let Some(to) = answer.headers.get(header::LOCATION).filter(|_| moved) else {
                return Ok(answer);
            };
            let broken = || Error::backend(shown(&url), "it redirects to nowhere");
            let next = to.to_str().ok().and_then(|to| url.join(to).ok()).ok_or_else(broken)?;
            if next.origin() != url.origin() {
                headers.remove(header::AUTHORIZATION);
            }
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(Error::backend(shown(&url), "it redirects to what is not https"));
            }
            url = next;
        }
        Err(Error::backend(shown(&url), "it redirects too often"))
    }

    /// A GET whose answer is at most `limit` bytes.
    ///
    /// # Errors
    /// `Unreachable` where there is no answer, `Backend` for one that is broken
    /// or too long. A status is none.
    pub(crate) async fn get(&self, url: &Url, headers: &HeaderMap, limit: u64) -> Result<Answer> {
        let answer = self.open(url, headers).await?;
        let body = answer.body.collect(limit);
        let body = in_time(url, body).await?.map_err(|e| failed(url, &e))?;
        Ok(Answer { status: answer.status, headers: answer.headers, body: body.to_vec() })
    }

    /// A POST of a form, whose answer is at most `limit` bytes. Redirects are
    /// not followed: forms hold secrets.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub(crate) async fn post_form(&self, url: &Url, form: String, limit: u64) -> Result<Answer> {
        let client = self.client(url)?.with_body_limit(limit);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = Request::new(Method::POST, path_and_query(url))
            .header(header::CONTENT_TYPE, kind)
            .body(form);
        let answer = in_time(url, client.request(request)).await?.map_err(|e| failed(url, &e))?;
        Ok(Answer { status: answer.status, headers: answer.headers, body: answer.body.to_vec() })
    }

    /// Downloads to a new file, which is what it must be when this returns.
    ///
    /// # Errors
    /// As [`Http::get`]; `Backend` for another status, length or digest.
    pub(crate) async fn download(
        &self,
        url: &Url,
        headers: &HeaderMap,
        expected: &Expected,
        to: &Path,
        meter: &Meter,
    ) -> Result<u64> {
        let local = |e: std::io::Error| super::local("writing a download", &e);
        let limit = expected.size.unwrap_or(expected.limit).min(expected.limit);
        if expected.size.is_some_and(|size| size > expected.limit) {
            return Err(Error::backend(shown(url), "it is larger than an image may be"));
        }
        let mut file = tokio::fs::File::create_new(to).await.map_err(local)?;
        let (mut hash, mut done, mut left) = (Sha256::new(), 0u64, ATTEMPTS);
        loop {
            let before = done;
            let got = self.part(url, headers, &mut file, &mut hash, &mut done, limit, meter).await;
            match got {
                Ok(()) => break,
                Err(Broke::Off(error)) => {
                    left = if done > before { ATTEMPTS } else { left - 1 };
                    if left == 0 {
                        return Err(error);
                    }
                    tracing::debug!(%error, done, "download broke off");
                }
                Err(Broke::Down(error)) => return Err(error),
            }
        }
        file.flush().await.map_err(local)?;
        if expected.size.is_some_and(|size| size != done) {
            let message = format!("it has {done} bytes and not {limit}");
            return Err(Error::backend(shown(url), message));
        }
        let sha256 = super::hex(&hash.finalize());
        if sha256 != expected.sha256 {
            let message = format!("its SHA-256 is {sha256} and not {}", expected.sha256);
            return Err(Error::backend(shown(url), message).with_hint(
                "what was downloaded is not what was announced; nothing of it was used",
            ));
        }
        Ok(done)
    }

    /// As much of a file as one connection gives.
    #[expect(clippy::too_many_arguments, reason = "the state of one download")]
    async fn part(
        &self,
        url: &Url,
        headers: &HeaderMap,
        file: &mut tokio::fs::File,
        hash: &mut Sha256,
        done: &mut u64,
        limit: u64,
        meter: &Meter,
    ) -> Result<(), Broke> {
        let mut headers = headers.clone();
        if *done > 0
            && let Ok(range) = HeaderValue::try_from(format!("bytes={done}-"))
        {
            headers.insert(header::RANGE, range);
        }
        let mut answer = self.open(url, &headers).await.map_err(|e| match e.kind() {
            Error::Unreachable { .. } if *done > 0 => Broke::Off(e),
            _ => Broke::Down(e),
        })?;
        match answer.status {
            206 if *done > 0 => {}
            // It begins anew.
            200 => {
                meter.take_back(*done);
                (*done, *hash) = (0, Sha256::new());
                rewind(file).await.map_err(Broke::Down)?;
            }
            status => return Err(Broke::Down(status_error(url, status))),
        }
        loop {
            let chunk = match in_time(url, answer.body.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(e)) => return Err(Broke::Off(failed(url, &e))),
                Err(e) => return Err(Broke::Off(e)),
            };
            *done += chunk.len() as u64;
            if *done > limit {
                let error = Error::backend(shown(url), "it is longer than announced");
                return Err(Broke::Down(error));
            }
            hash.update(&chunk);
            let written = file.write_all(&chunk).await;
            written.map_err(|e| Broke::Down(super::local("writing a download", &e)))?;
            meter.add(chunk.len() as u64);
        }
    }
}

/// Whether it is worth trying again.
enum Broke {
    Off(Error),
    Down(Error),
}

async fn rewind(file: &mut tokio::fs::File) -> Result<()> {
    use tokio::io::AsyncSeekExt;
    let local = |e: std::io::Error| super::local("writing a download", &e);
    file.flush().await.map_err(local)?;
    file.set_len(0).await.map_err(local)?;
    file.seek(std::io::SeekFrom::Start(0)).await.map_err(local).map(drop)
}

fn is_here(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

fn path_and_query(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().into(),
    }
}

/// An address for messages: queries may hold signatures, the rest may hold a password.
pub(crate) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

async fn in_time<T>(url: &Url, work: impl Future<Output = T>) -> Result<T> {
    timeout(SILENCE, work).await.map_err(|_| Error::Unreachable {
        target: shown(url),
        reason: format!("it said nothing for {} s", SILENCE.as_secs()),
    })
}

fn failed(url: &Url, e: &pixels_wire::Error) -> Error {
    use pixels_wire::Error as E;
    let broken_off = matches!(e, E::Closed { .. } | E::Io { .. });
    if e.is_unreachable() || broken_off {
        return Error::Unreachable { target: shown(url), reason: e.to_string() };
    }
    Error::backend(shown(url), e.to_string())
}

/// What a status that is no success means.
pub(crate) fn status_error(url: &Url, status: u16) -> Error {
    let what = shown(url);
    match status {
        401 | 403 => Error::Denied { what, reason: format!("the server answered {status}") },
        _ => Error::backend(what, format!("the server answered {status}")),
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}
