//! `remote trust`: becoming a client that a remote daemon trusts.
//!
//! The token of `incus config trust add` is base64 of JSON with the server's
//! certificate's fingerprint, its addresses and a one-time secret. The
//! fingerprint is what makes the first contact safe: nothing is sent to a
//! server whose certificate is another.

use std::fs;
use std::io::Write;
use std::path::{Path as FsPath, PathBuf};

use base64::Engine;
use pixels_core::{Error, Result};
use pixels_wire::{Client, ClientIdentity, Endpoint, Method, ServerTrust, TlsEndpoint, cert};
use serde::Deserialize;
use serde_json::json;

use crate::api::{Api, Fault, Path, wire_error};
use crate::settings::split_remote;

/// What a token holds.
#[derive(Clone, Deserialize)]
struct Token {
    fingerprint: String,
    addresses: Vec<String>,
    #[serde(default)]
    client_name: String,
}

/// What to put into the configuration: `[incus] remote, client_cert, client_key, server_cert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// `https://host:port`.
    pub remote: String,
    /// The client certificate's file.
    pub client_cert: PathBuf,
    /// Its key's file, mode 0600.
    pub client_key: PathBuf,
    /// The server certificate's file: the pin.
    pub server_cert: PathBuf,
    /// What the token calls this client.
    pub client_name: String,
    /// The project to work in, where the token is for one project alone.
    pub project: Option<String>,
    /// Whether the server trusted the key pair before: the token is unspent then.
    pub already: bool,
}

/// Redeems a token. The key pair and the pinned certificate are written below
/// `dir`, in a directory named by the server's fingerprint; a pair that is
/// there already is used again, so that a run that was killed after the token
/// was spent loses nothing.
///
/// # Errors
/// [`Error::Invalid`] for what is no token; [`Error::Unreachable`] if none of
/// its addresses answers with the right certificate; [`Error::Denied`] for a
/// token that was used or has expired.
pub async fn redeem(token: &str, dir: &FsPath) -> Result<Trusted> {
    let parsed = parse(token.trim())?;
    let pin = cert::parse_fingerprint(&parsed.fingerprint)
        .ok_or_else(|| invalid("its fingerprint is malformed"))?;
    let (host, port, der) = find_server(&parsed, &pin).await?;
    let home = dir.join(&cert::fingerprint(&der)[..16]);
    let mut files = Trusted {
        remote: if host.contains(':') {
            format!("https://[{host}]:{port}")
        } else {
            format!("https://{host}:{port}")
        },
        client_cert: home.join("client.crt"),
        client_key: home.join("client.key"),
        server_cert: home.join("server.crt"),
        client_name: parsed.client_name.clone(),
        project: None,
        already: false,
    };
    let identity = key_pair(&files)?;
    write(&files.server_cert, pem("CERTIFICATE", &der).as_bytes(), 0o644)?;
    let tls = TlsEndpoint { host, port, trust: ServerTrust::Pinned(pin), identity: Some(identity) };
    let api = Api { http: Client::new(Endpoint::Tls(tls)), project: None };
    files.already = trusted(&api).await?;
    if !files.already {
        spend(&api, token.trim()).await?;
    }
    files.project = only_project(&api).await?;
    Ok(files)
}

/// Shows the token to the server, which then trusts the certificate of this connection.
async fn spend(api: &Api, token: &str) -> Result<()> {
    let body = json!({"type": "client", "trust_token": token});
    if let Err(fault) = api.send(Method::POST, Path::new("/1.0/certificates"), Some(&body)).await {
        // For one that has expired Incus 6.0 has another status, and only text.
        return Err(match fault {
            Fault::Api { status, message }
                if matches!(status, 400 | 403) || message.ends_with("Token has expired") =>
            {
                let why = message.rsplit(": ").next().unwrap_or_default().to_lowercase();
                Error::Denied {
                    what: "trust token".into(),
                    reason: format!("the server does not take it ({why})"),
                }
            }
            .with_hint("a token works once and for a while: ask for a new one with `incus config trust add <name>`"),
            other => other.during("trust token"),
        });
    }
    if trusted(api).await? {
        return Ok(());
    }
    Err(Error::backend("trust token", "the daemon took it and still does not trust this client"))
}

/// The project of a client that may use one alone, and not the default one.
async fn only_project(api: &Api) -> Result<Option<String>> {
    let reply = api.get(Path::new("/1.0/projects")).await;
    let urls: Vec<String> =
        reply.and_then(|r| r.parse()).map_err(|f| f.during("list the projects"))?;
    let [url] = &urls[..] else { return Ok(None) };
    let name = url.split('?').next().and_then(|u| u.rsplit('/').next()).unwrap_or_default();
    Ok((!name.is_empty() && name != "default").then(|| name.to_owned()))
}

async fn trusted(api: &Api) -> Result<bool> {
    let reply = api.get(Path::new("/1.0")).await.map_err(|f| f.during("ask the daemon"))?;
    Ok(reply.metadata["auth"] == "trusted")
}

fn parse(token: &str) -> Result<Token> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(token)
        .or_else(|_| base64::engine::general_purpose::STANDARD_NO_PAD.decode(token))
        .map_err(|_| invalid("it is not base64"))?;
    let token: Token = serde_json::from_slice(&bytes)
        .map_err(|_| invalid("it does not hold what a token holds"))?;
    if token.addresses.is_empty() {
        return Err(invalid("it names no address"));
    }
    Ok(token)
}

/// The token is a secret: it is not quoted.
fn invalid(rule: &str) -> Error {
    Error::invalid("trust token", "…", rule)
        .with_hint("the token is what `incus config trust add <name>` prints on the server")
}

/// The first of the token's addresses whose certificate has the fingerprint.
async fn find_server(token: &Token, pin: &[u8; 32]) -> Result<(String, u16, Vec<u8>)> {
    let mut last = None;
    for address in &token.addresses {
        let Ok((host, port)) = split_remote(address) else { continue };
        match cert::fetch_server_certificate(&host, port).await {
            Ok(der) if cert::sha256(&der) == *pin => return Ok((host, port, der)),
            Ok(der) => {
                last = Some(
                    Error::Unreachable {
                        target: format!("incus at {address}"),
                        reason: format!(
                            "its certificate has fingerprint {}, not {}",
                            cert::fingerprint(&der),
                            token.fingerprint
                        ),
                    }
                    .with_hint(
                        "nothing was sent: someone may be in between; check the server, then ask for a new token",
                    ),
                );
            }
            Err(e) => last = Some(wire_error(e)),
        }
    }
    Err(last.unwrap_or_else(|| invalid("it names no address that can be reached")))
}

/// The key pair that is there, or a new one: ECDSA P-384, ten years, as the
/// incus client's own.
fn key_pair(files: &Trusted) -> Result<ClientIdentity> {
    if let (Ok(cert), Ok(key)) = (fs::read(&files.client_cert), fs::read(&files.client_key)) {
        return Ok(ClientIdentity { cert_chain_pem: cert, key_pem: key });
    }
    let made = || -> std::result::Result<(String, String), rcgen::Error> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?;
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, "pixels");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        // The library's own beginning is in 1975. A day for clocks that disagree.
        let day = std::time::Duration::from_secs(86400);
        let now = std::time::SystemTime::now();
        params.not_before = (now - day).into();
        params.not_after = (now + 10 * 365 * day).into();
        Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
    };
    let (cert, key) =
        made().map_err(|e| Error::backend("make a client certificate", e.to_string()))?;
    write(&files.client_key, key.as_bytes(), 0o600)?;
    write(&files.client_cert, cert.as_bytes(), 0o644)?;
    Ok(ClientIdentity { cert_chain_pem: cert.into_bytes(), key_pem: key.into_bytes() })
}

/// Writes a file whole or not at all, below a directory of the user's own.
fn write(path: &FsPath, content: &[u8], mode: u32) -> Result<()> {
    let inner = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(FsPath::new("."));
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir)?;
        let temp = path.with_extension(format!("new{}", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        let mut file = options.open(&temp)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temp, path)
    };
    inner().map_err(|e| Error::backend(format!("write {}", path.display()), e.to_string()))
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {kind}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {kind}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_is_refused_without_being_quoted() {
        for bad in ["", "!!!", "aGVsbG8=", "e30="] {
            let err = parse(bad).err().unwrap();
            assert_eq!(err.code(), "invalid");
            assert!(err.to_string().starts_with("invalid trust token \"…\": "), "{err}");
        }
    }
}
