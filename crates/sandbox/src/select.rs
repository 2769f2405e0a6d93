//! Which backend, and why.
//!
//! Set is set. Unset means `incus` where its socket file exists or a remote is
//! set, else `local`. A daemon that does not answer is no reason to choose
//! another one: that would run an agent somewhere its owner did not mean.

use std::path::{Path, PathBuf};

use pixels_core::{Error, Result};

use crate::config::{Config, Environ, Source};

/// A backend chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its name: `incus`, `local`, `truenas`, or what a program registered.
    pub backend: String,
    /// Why it, as a clause: `the socket /run/incus/unix.socket exists`.
    pub why: String,
    /// Where it is reached.
    pub reach: Reach,
    /// The project that comes with the place it is reached at, where one does
    /// and the configuration names none.
    pub project: Option<String>,
}

/// Where a backend is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// In this process or on this host, without a connection.
    Here,
    /// Over a unix socket, which need not exist.
    Socket(PathBuf),
    /// Over the network.
    Remote(String),
}

/// What choosing looks at besides the configuration. Tests bring their own.
pub trait Host {
    /// Whether there is a file at `path`, whatever its type, links not followed.
    fn exists(&self, path: &Path) -> bool;
    /// Whether this process may write to `path`.
    fn writable(&self, path: &Path) -> bool;
}

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisHost;

impl Host for ThisHost {
    fn exists(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok()
    }
    fn writable(&self, path: &Path) -> bool {
        rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
    }
}

/// Chooses. Nothing is opened: the file of a socket is looked for, no more.
///
/// # Errors
/// [`Error::Invalid`] where `[truenas] host` is set and `backend` is not, with
/// the line to add as its hint.
pub fn choose(config: &Config, host: &dyn Host) -> Result<Choice> {
    match config.backend.as_deref() {
        Some("incus") => Ok(incus(config, host, named(config))),
        Some(other) => Ok(Choice {
            backend: other.into(),
            why: named(config),
            reach: match (&config.truenas.host, other) {
                (Some(server), "truenas") => Reach::Remote(server.clone()),
                _ => Reach::Here,
            },
            project: None,
        }),
        None => unset(config, host),
    }
}

fn named(config: &Config) -> String {
    match config.source("backend") {
        Some(Source::Default) | None => "it is set".into(),
        Some(source) => format!("{source} says so"),
    }
}

fn unset(config: &Config, host: &dyn Host) -> Result<Choice> {
    if let Some(server) = &config.truenas.host {
        let rule = "[truenas] host is set, but backend is not";
        return Err(Error::invalid("configuration", server, rule).with_hint(
            "backend = \"truenas\" at the top of the file (or PIXELS_BACKEND=truenas) uses it",
        ));
    }
    let choice = incus(config, host, String::new());
    let why = match &choice.reach {
        Reach::Remote(remote) => format!("[incus] remote is set to {remote}"),
        Reach::Socket(path) if host.exists(path) => format!("the socket {} exists", path.display()),
        // Named by the user: then it is meant, and its absence is the error to show.
        Reach::Socket(path) if config.incus.socket.is_some() => {
            format!("[incus] socket is set to {}", path.display())
        }
        Reach::Socket(path) => {
            return Ok(Choice {
                backend: "local".into(),
                why: format!(
                    "there is no Incus: no remote is set and {} does not exist",
                    path.display()
                ),
                reach: Reach::Here,
                project: None,
            });
        }
        Reach::Here => String::new(),
    };
    Ok(Choice { why, ..choice })
}

fn incus(config: &Config, host: &dyn Host, why: String) -> Choice {
    let (reach, project) = match &config.incus.remote {
        Some(remote) => (Reach::Remote(remote.clone()), None),
        None => {
            let (path, project) = socket(config, host);
            (Reach::Socket(path), project)
        }
    };
    Choice { backend: "incus".into(), why, reach, project }
}

/// The socket, in the order in which Incus's own client looks: the
/// configuration, `$INCUS_SOCKET`, `$INCUS_DIR/unix.socket`, then
/// `/run/incus/unix.socket` where there is one, else the one below
/// `/var/lib/incus`. Where only the socket of incus-user may be written, that
/// one, with the project that its daemon makes for this user.
fn socket(config: &Config, host: &dyn Host) -> (PathBuf, Option<String>) {
    let environ: &Environ = config.environ();
    if let Some(path) = &config.incus.socket {
        return (path.clone(), None);
    }
    if let Some(path) = environ.get("INCUS_SOCKET") {
        return (path.into(), None);
    }
    let dir = match environ.get("INCUS_DIR") {
        Some(dir) => PathBuf::from(dir),
        None if host.exists(Path::new("/run/incus/unix.socket")) => "/run/incus".into(),
        None => "/var/lib/incus".into(),
    };
    let (admin, user) = (dir.join("unix.socket"), dir.join("unix.socket.user"));
    if !host.writable(&admin) && host.writable(&user) {
        let project = format!("user-{}", rustix::process::geteuid().as_raw());
        return (user, Some(project));
    }
    (admin, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;

    struct Fake(&'static [&'static str], &'static [&'static str]);
    impl Host for Fake {
        fn exists(&self, path: &Path) -> bool {
            self.0.iter().any(|p| Path::new(p) == path)
        }
        fn writable(&self, path: &Path) -> bool {
            self.1.iter().any(|p| Path::new(p) == path)
        }
    }

    fn config(vars: &[(&str, &str)]) -> Config {
        let environ: Environ = vars.iter().copied().collect();
        Config::load(Loader { environ, ..Loader::default() }).unwrap()
    }

    fn chosen(vars: &[(&str, &str)], there: &'static [&'static str]) -> (String, Reach) {
        let choice = choose(&config(vars), &Fake(there, there)).unwrap();
        assert!(!choice.why.is_empty());
        (choice.backend, choice.reach)
    }

    #[test]
    fn unset_means_incus_where_there_is_one_else_local() {
        const RUN: &str = "/run/incus/unix.socket";
        const VAR: &str = "/var/lib/incus/unix.socket";
        let socket = |p: &str| ("incus".to_string(), Reach::Socket(p.into()));
        assert_eq!(chosen(&[], &[]), ("local".into(), Reach::Here));
        assert_eq!(chosen(&[], &[RUN, VAR]), socket(RUN));
        assert_eq!(chosen(&[], &[VAR]), socket(VAR));
        assert_eq!(
            chosen(&[("INCUS_DIR", "/d")], &["/d/unix.socket", RUN]),
            socket("/d/unix.socket")
        );
        assert_eq!(chosen(&[("INCUS_SOCKET", "/s"), ("INCUS_DIR", "/d")], &["/s"]), socket("/s"));
        // A socket of a variable that is not there is no reason to look elsewhere.
        assert_eq!(chosen(&[("INCUS_SOCKET", "/s")], &[RUN]), ("local".into(), Reach::Here));
        assert_eq!(chosen(&[("PIXELS_INCUS_SOCKET", "/s")], &[RUN]), socket("/s"));
        let remote = ("incus".to_string(), Reach::Remote("https://h:8443".into()));
        assert_eq!(chosen(&[("PIXELS_INCUS_REMOTE", "https://h:8443")], &[RUN]), remote);
        assert_eq!(chosen(&[("PIXELS_BACKEND", "local")], &[RUN]), ("local".into(), Reach::Here));
    }

    #[test]
    fn a_truenas_host_without_a_backend_is_refused() {
        let config = config(&[("PIXELS_TRUENAS_HOST", "nas")]);
        let err = choose(&config, &Fake(&[], &[])).unwrap_err();
        assert!(err.hint().unwrap().contains("backend = \"truenas\""), "{err}");
    }

    #[test]
    fn the_users_own_socket_brings_its_project() {
        let fake = Fake(
            &["/run/incus/unix.socket", "/run/incus/unix.socket.user"],
            &["/run/incus/unix.socket.user"],
        );
        let choice = choose(&config(&[("PIXELS_BACKEND", "incus")]), &fake).unwrap();
        assert_eq!(choice.reach, Reach::Socket("/run/incus/unix.socket.user".into()));
        assert!(choice.project.unwrap().starts_with("user-"));
        assert_eq!(choice.why, "PIXELS_BACKEND says so");
    }
}
