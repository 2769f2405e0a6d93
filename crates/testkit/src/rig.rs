//! Where the real servers are that tests run against.
//!
//! `rig/up` brings them up and prints where they are as shell variables. A
//! person with an Incus of their own sets `PIXELS_TEST_INCUS_SOCKET` instead,
//! which `rig/up` passes on without touching anything.
//!
//! [`Rig::server`] looks in this order: the file that `PIXELS_RIG_ENV` names,
//! the environment itself (`PIXELS_RIG_SOCKET` is set), and else it runs
//! `rig/up`, which takes a second when the rig is up already. [`Rig::cluster`]
//! does the same with `PIXELS_CLUSTER_ENV`, `PIXELS_CLUSTER_HTTPS_1` and
//! `rig/up cluster`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail};

/// What every variable of the rig begins with.
const SERVER: &str = "PIXELS_RIG_";
/// What every variable of the rig's cluster begins with.
const CLUSTER: &str = "PIXELS_CLUSTER_";

/// The variables of a running rig.
#[derive(Clone, Debug)]
pub struct Rig {
    vars: BTreeMap<String, String>,
    /// What the names of its variables begin with.
    prefix: &'static str,
    /// What brings up a rig that has what is missing.
    command: &'static str,
}

impl Rig {
    /// The single server with its images. Found or brought up once in a process.
    ///
    /// # Errors
    /// What `rig/up` said, or that it could not be run.
    pub fn server() -> Result<&'static Self> {
        static FOUND: OnceLock<Result<Rig, String>> = OnceLock::new();
        let found = FOUND
            .get_or_init(|| Self::find(SERVER, "SOCKET", "rig/up").map_err(|e| format!("{e:#}")));
        found.as_ref().map_err(|e| anyhow!("{e}"))
    }

    /// The cluster of three members. Found or brought up once in a process.
    ///
    /// # Errors
    /// As [`Rig::server`].
    pub fn cluster() -> Result<&'static Self> {
        static FOUND: OnceLock<Result<Rig, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            Self::find(CLUSTER, "HTTPS_1", "rig/up cluster").map_err(|e| format!("{e:#}"))
        });
        found.as_ref().map_err(|e| anyhow!("{e}"))
    }

    fn find(prefix: &'static str, first: &str, command: &'static str) -> Result<Self> {
        let file = format!("{prefix}ENV");
        if let Some(path) = std::env::var_os(&file) {
            let path = PathBuf::from(path);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("{file} names {}", path.display()))
                .with_context(|| format!("hint: {command} makes it anew: {command} > FILE"))?;
            return Self::parse(&text, prefix, command);
        }
        if std::env::var_os(format!("{prefix}{first}")).is_some() {
            let vars = std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .filter(|(k, _)| k.starts_with(prefix))
                .collect();
            return Ok(Self { vars, prefix, command });
        }
        let mut words = command.split(' ');
        let program = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(words.next().unwrap_or_default());
        let out = Command::new(&program)
            .args(words)
            .stdin(Stdio::null())
            // Its progress belongs to whoever reads the test's output.
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("run {}", program.display()))?;
        if !out.status.success() {
            bail!("{command} failed ({}); hint: run it by hand and read what it says", out.status);
        }
        Self::parse(
            &String::from_utf8(out.stdout).context("what the rig printed")?,
            prefix,
            command,
        )
    }

    /// Reads `KEY=value` lines, the value bare or in single quotes.
    fn parse(text: &str, prefix: &'static str, command: &'static str) -> Result<Self> {
        let mut vars = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (key, value) =
                line.split_once('=').with_context(|| format!("not a variable: {line:?}"))?;
            let value = unquote(value).with_context(|| format!("{key}: a quote does not end"))?;
            vars.insert(key.to_owned(), value);
        }
        if vars.is_empty() {
            bail!("{command} printed no variables");
        }
        Ok(Self { vars, prefix, command })
    }

    /// A variable by its full name.
    ///
    /// # Errors
    /// Says which command makes a rig that has it.
    pub fn var(&self, key: &str) -> Result<&str> {
        self.get(key)
            .with_context(|| format!("the rig has no {key}; hint: {} sets it", self.command))
    }

    /// A variable by its full name, if it is there and not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.vars.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// The full name of a variable that server and cluster both have.
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A file that a variable names.
    ///
    /// # Errors
    /// As [`Rig::var`].
    pub fn path(&self, key: &str) -> Result<PathBuf> {
        self.var(key).map(PathBuf::from)
    }

    /// The daemon's unix socket. A cluster has [`Rig::member_socket`].
    pub fn socket(&self) -> Result<PathBuf> {
        self.path(&self.key("SOCKET"))
    }

    /// The daemon's HTTPS address. A cluster has [`Rig::member_https`].
    pub fn https(&self) -> Result<&str> {
        self.var(&self.key("HTTPS"))
    }

    /// The certificate that the daemon shows over HTTPS.
    pub fn server_cert(&self) -> Result<PathBuf> {
        self.path(&self.key("SERVER_CERT"))
    }

    /// A certificate that the daemon trusts.
    pub fn client_cert(&self) -> Result<PathBuf> {
        self.path(&self.key("CLIENT_CERT"))
    }

    /// The key of [`Rig::client_cert`].
    pub fn client_key(&self) -> Result<PathBuf> {
        self.path(&self.key("CLIENT_KEY"))
    }

    /// A project that forbids what restricted projects forbid.
    pub fn restricted_project(&self) -> Result<&str> {
        self.var(&self.key("RESTRICTED_PROJECT"))
    }

    /// The managed bridge.
    pub fn network(&self) -> Result<&str> {
        self.var(&self.key("NETWORK"))
    }

    /// The storage pool.
    pub fn pool(&self) -> Result<&str> {
        self.var(&self.key("POOL"))
    }

    /// A storage pool that is soon full.
    pub fn small_pool(&self) -> Result<&str> {
        self.var(&self.key("SMALL_POOL"))
    }

    /// The simplestreams server's address.
    pub fn simplestreams(&self) -> Result<&str> {
        self.var(&self.key("SIMPLESTREAMS"))
    }

    /// The CA of the simplestreams server's certificate.
    pub fn simplestreams_ca(&self) -> Result<PathBuf> {
        self.path(&self.key("SIMPLESTREAMS_CA"))
    }

    /// The alias of the image to make pixels from.
    pub fn image(&self) -> Result<&str> {
        self.var(&self.key("IMAGE"))
    }

    /// The alias of an image in which nothing of ours can be run.
    pub fn distroless_image(&self) -> Result<&str> {
        self.var(&self.key("DISTROLESS_IMAGE"))
    }

    /// The daemon's process, for the tests that kill it. Missing for an Incus
    /// that is not the rig's own.
    pub fn daemon_pid(&self) -> Result<u32> {
        Ok(self.var(&self.key("DAEMON_PID"))?.parse()?)
    }

    /// The HTTPS address of the cluster's member 1, 2 or 3.
    pub fn member_https(&self, member: u8) -> Result<&str> {
        self.var(&format!("PIXELS_CLUSTER_HTTPS_{member}"))
    }

    /// The unix socket of the cluster's member 1, 2 or 3.
    pub fn member_socket(&self, member: u8) -> Result<PathBuf> {
        self.path(&format!("PIXELS_CLUSTER_SOCKET_{member}"))
    }

    /// The names of the cluster's members.
    pub fn members(&self) -> Result<Vec<&str>> {
        let all = self.var("PIXELS_CLUSTER_MEMBERS")?;
        Ok(all.split([',', ' ']).filter(|m| !m.is_empty()).collect())
    }

    /// Whether this is somebody's own Incus: nothing of it may be killed.
    pub fn is_external(&self) -> bool {
        self.get("PIXELS_RIG_EXTERNAL").is_some()
    }
}

/// A shell word's value; `None` if a quote does not end.
fn unquote(word: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    c => value.push(c),
                }
            },
            '"' => loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => value.push(chars.next()?),
                    c => value.push(c),
                }
            },
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_variables_are_read() {
        let text = "# a rig\nPIXELS_RIG_SOCKET=/a/b\nexport PIXELS_RIG_IMAGE='it'\\''s'\n\
                    PIXELS_RIG_NETWORK=\"a b\"\nPIXELS_CLUSTER_MEMBERS='n1 n2,n3'\n";
        let rig = Rig::parse(text, SERVER, "rig/up").unwrap();
        assert_eq!(rig.socket().unwrap(), PathBuf::from("/a/b"));
        assert_eq!(rig.image().unwrap(), "it's");
        assert_eq!(rig.network().unwrap(), "a b");
        assert_eq!(rig.members().unwrap(), ["n1", "n2", "n3"]);
        let cluster = Rig::parse("PIXELS_CLUSTER_IMAGE=x\n", CLUSTER, "rig/up cluster").unwrap();
        assert_eq!(cluster.image().unwrap(), "x");
        let missing = rig.https().unwrap_err().to_string();
        assert_eq!(missing, "the rig has no PIXELS_RIG_HTTPS; hint: rig/up sets it");
        assert!(Rig::parse("A='b", SERVER, "rig/up").is_err());
        assert!(Rig::parse("", SERVER, "rig/up").is_err());
    }
}
