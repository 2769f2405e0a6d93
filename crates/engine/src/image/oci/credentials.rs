//! Who we are to a registry: Docker's configuration, and the programs it names
//! for keeping secrets.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pixels_core::{Error, Result};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// A program that asks a person has this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// What such a program says at most.
const LONGEST: u64 = 64 << 10;

/// What a registry believes. `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A user.
    User {
        /// The name.
        name: String,
        /// The password, or a token in its place.
        password: String,
    },
    /// A token that is exchanged for others.
    Identity(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Configuration {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    username: String,
    secret: String,
}

/// Looks through files for a registry's credentials; the first that has some
/// wins. Helpers are looked for in `path`, unset in `PATH`.
///
/// # Errors
/// A file that is there and cannot be read, a helper that fails otherwise than
/// by not knowing the registry. No secret is in them.
pub(crate) async fn find(
    files: &[PathBuf],
    key: &str,
    path: Option<&OsStr>,
) -> Result<Option<Credentials>> {
    for file in files {
        let shown = file.to_string_lossy();
        let text = match std::fs::read(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::backend(shown, e.to_string())),
        };
        // The parser's own message may quote what is in the file.
        let config: Configuration = serde_json::from_slice(&text)
            .map_err(|_| Error::backend(shown, "it is no configuration of Docker"))?;
        let helper = config.cred_helpers.iter().find(|(k, _)| host(k) == host(key));
        let helper = helper.map(|(_, name)| name).or(config.creds_store.as_ref());
        if let Some(name) = helper
            && let Some(found) = ask(name, key, path).await?
        {
            return Ok(Some(found));
        }
        let entry = config.auths.iter().find(|(k, _)| host(k) == host(key));
        if let Some(found) = entry.and_then(|(_, entry)| stored(entry)) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The host of `https://host/v1/`; all names of Docker Hub are one.
fn host(key: &str) -> &str {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    match bare.split('/').next().unwrap_or(bare) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

fn stored(entry: &Entry) -> Option<Credentials> {
    if let Some(token) = entry.identitytoken.as_ref().filter(|t| !t.is_empty()) {
        return Some(Credentials::Identity(token.clone()));
    }
    if let (Some(name), Some(password)) = (&entry.username, &entry.password) {
        return Some(Credentials::User { name: name.clone(), password: password.clone() });
    }
    let decoded = BASE64_STANDARD.decode(entry.auth.as_ref()?.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, password) = text.trim_end_matches('\0').split_once(':')?;
    Some(Credentials::User { name: name.into(), password: password.into() })
}

/// Asks `docker-credential-<name> get`; the registry goes to its stdin.
async fn ask(name: &str, key: &str, path: Option<&OsStr>) -> Result<Option<Credentials>> {
    let right = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(right) {
        return Err(Error::invalid("credential helper", name, "it is letters, digits and ._-"));
    }
    let program = format!("docker-credential-{name}");
    let failed = |e: std::io::Error| Error::backend(program.as_str(), e.to_string());
    let mut command = Command::new(&program);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let mut child = command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let talk = async {
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read its input says so by how it ends.
            let _ = stdin.write_all(format!("{key}\n").as_bytes()).await;
        }
        let mut said = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LONGEST).read_to_end(&mut said).await?;
        }
        Ok((child.wait().await?, said))
    };
    let (status, said) = tokio::time::timeout(PATIENCE, talk)
        .await
        .map_err(|_| Error::Timeout { what: program.clone(), after: PATIENCE })?
        .map_err(failed)?;
    // It ends with 1 for a registry that it does not know.
    if !status.success() {
        return Ok(None);
    }
    let said: Said = serde_json::from_slice(&said)
        .map_err(|_| Error::backend(program.as_str(), "it gave no credentials"))?;
    Ok(Some(match said.username.as_str() {
        "<token>" => Credentials::Identity(said.secret),
        _ => Credentials::User { name: said.username, password: said.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, text).unwrap();
        (dir, vec!["/nowhere/config.json".into(), file])
    }

    fn user(name: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::User { name: name.into(), password: password.into() })
    }

    #[tokio::test]
    async fn files_are_searched_by_host() {
        let (_dir, files) = config(
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YTpiOmM="},
                "ghcr.io": {"identitytoken": "t"}, "x.example": {"username": "u", "password": "p"}}}"#,
        );
        assert_eq!(
            find(&files, "https://index.docker.io/v1/", None).await.unwrap(),
            user("a", "b:c")
        );
        assert_eq!(find(&files, "x.example", None).await.unwrap(), user("u", "p"));
        let token = find(&files, "ghcr.io", None).await.unwrap().unwrap();
        assert_eq!(token, Credentials::Identity("t".into()));
        assert_eq!(format!("{token:?}"), "Credentials(hidden)");
        assert_eq!(find(&files, "other.example", None).await.unwrap(), None);
    }

    #[tokio::test]
    async fn helpers_are_asked_over_their_input() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let helper = dir.path().join("docker-credential-test");
        let script = "#!/bin/sh\nread key\n[ \"$1 $key\" = \"get r.example\" ] || exit 1\n\
                      echo '{\"ServerURL\": \"\", \"Username\": \"u\", \"Secret\": \"s\"}'\n";
        std::fs::write(&helper, script).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        let path = Some(OsStr::new(&path));
        let (_dir, files) = config(r#"{"credHelpers": {"r.example": "test"}}"#);
        assert_eq!(find(&files, "r.example", path).await.unwrap(), user("u", "s"));
        let (_dir, files) = config(r#"{"credsStore": "test"}"#);
        assert_eq!(find(&files, "other.example", path).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_broken_file_or_helper_is_named_without_its_content() {
        let (_dir, files) = config(r#"{"auths": {"x": {"auth": SECRET"#);
        let e = find(&files, "x", None).await.unwrap_err().to_string();
        assert!(e.contains("config.json") && !e.contains("SECRET"), "{e}");
        let (_dir, files) = config(r#"{"credsStore": "../../bin/sh"}"#);
        find(&files, "x", None).await.unwrap_err();
        let (_dir, files) = config(r#"{"credsStore": "there-is-no-such-helper"}"#);
        let e = find(&files, "x", None).await.unwrap_err().to_string();
        assert!(e.contains("docker-credential-there-is-no-such-helper"), "{e}");
    }
}
