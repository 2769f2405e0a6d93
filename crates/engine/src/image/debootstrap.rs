//! Images made here, of Debian's or Ubuntu's packages, by `mmdebstrap` where
//! that is installed, else by `debootstrap`.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pixels_core::{Error, Progress, Result, text};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use super::apt::{self, Mirror};
use super::directory::Skip;

/// What the smallest variant lacks and an agent's machine needs.
pub(crate) const PACKAGES: &[&str] =
    &["bash", "ca-certificates", "curl", "git", "iproute2", "login", "passwd", "procps", "sudo"];

/// What is in a fresh system and of no use in an image.
pub(crate) const SKIP: Skip = Skip {
    inside: &[b"var/cache/apt/archives", b"var/lib/apt/lists", b"proc", b"sys", b"tmp"],
    whole: &[
        b"debootstrap",
        b"etc/dpkg/dpkg.cfg.d/pixels",
        b"var/cache/apt/pkgcache.bin",
        b"var/cache/apt/srcpkgcache.bin",
        b"var/log/bootstrap.log",
    ],
};

/// Where scripts for suites are.
const SCRIPTS: &str = "/usr/share/debootstrap/scripts";

/// What of this machine is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// apt's configuration.
    pub(crate) apt: PathBuf,
    /// What this system is.
    pub(crate) os_release: PathBuf,
    /// Where programs are looked for.
    pub(crate) path: OsString,
}

impl Machine {
    /// This one. Programs for root are looked for too, which users' `PATH`s lack.
    pub(crate) fn of_process() -> Self {
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
        Self { apt: "/etc/apt".into(), os_release: "/etc/os-release".into(), path }
    }

    /// The suite of this system where it is Debian or Ubuntu.
    pub(crate) fn suite(&self) -> Option<String> {
        let os = apt::os_release(&self.os_release);
        let known = ["debian", "ubuntu"].contains(&os.id.as_str());
        (known && !os.codename.is_empty()).then_some(os.codename)
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        let mut all = std::env::split_paths(&self.path).map(|dir| dir.join(program));
        all.find(|p| {
            fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
    }

    fn mirror(&self, suite: &str) -> Option<Mirror> {
        let sources = apt::sources(&self.apt);
        if let Some(mirror) = apt::mirror(&sources, suite) {
            return Some(mirror);
        }
        // Another suite of the same system is on the same mirror.
        let own = self.suite()?;
        (script(suite).is_some() && script(suite) == script(&own))
            .then(|| apt::mirror(&sources, &own))
            .flatten()
    }

    /// How a system of this suite is made here.
    ///
    /// # Errors
    /// `Backend` with a hint where there is no program for it, `Invalid` for a
    /// suite that it does not know.
    pub(crate) fn plan(&self, suite: &str, root: bool) -> Result<Plan> {
        let mirror = self.mirror(suite);
        if let Some(program) = self.find("mmdebstrap") {
            return Ok(Plan { tool: Tool::Mmdebstrap, program, unshare: None, mirror });
        }
        let what = format!("debootstrap:{suite}");
        let Some(program) = self.find("debootstrap") else {
            return Err(Error::backend(what, "there is neither mmdebstrap nor debootstrap here")
                .with_hint("apt install mmdebstrap"));
        };
        if !root {
            return Err(Error::backend(what, "debootstrap works for root alone")
                .with_hint("apt install mmdebstrap, which works for everybody"));
        }
        if Path::new(SCRIPTS).is_dir() && script(suite).is_none() {
            return Err(Error::invalid(
                "suite",
                suite,
                "this machine's debootstrap does not know it",
            ));
        }
        Ok(Plan { tool: Tool::Debootstrap, program, unshare: self.find("unshare"), mirror })
    }
}

/// The script for a suite; suites of one system share it.
fn script(suite: &str) -> Option<PathBuf> {
    fs::canonicalize(Path::new(SCRIPTS).join(suite)).ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Makes a tarball.
    Mmdebstrap,
    /// Makes a directory.
    Debootstrap,
}

/// How a system is made here.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) tool: Tool,
    program: PathBuf,
    unshare: Option<PathBuf>,
    mirror: Option<Mirror>,
}

impl Plan {
    /// The program and its arguments.
    fn argv(&self, suite: &str, target: &Path) -> Vec<OsString> {
        let mut argv: Vec<OsString> = Vec::new();
        let include = format!("--include={}", PACKAGES.join(","));
        match self.tool {
            Tool::Mmdebstrap => {
                argv.push(self.program.clone().into());
                for word in [
                    "--variant=minbase",
                    &include,
                    "--format=tar",
                    "--aptopt=APT::Install-Recommends \"false\"",
                    "--dpkgopt=force-unsafe-io",
                    suite,
                ] {
                    argv.push(word.into());
                }
                argv.push(target.into());
                if let Some(mirror) = &self.mirror {
                    let key = mirror.keyring.as_ref();
                    let option = key.map(|k| format!("[signed-by={}] ", k.display()));
                    let option = option.unwrap_or_default();
                    argv.push(format!("deb {option}{} {suite} main", mirror.uri).into());
                }
            }
            Tool::Debootstrap => {
                // In namespaces of its own: whatever ends it, its processes and mounts go too.
                if let Some(unshare) = &self.unshare {
                    argv.push(unshare.clone().into());
                    for word in ["--mount", "--pid", "--fork", "--kill-child", "--"] {
                        argv.push(word.into());
                    }
                }
                argv.push(self.program.clone().into());
                argv.push("--variant=minbase".into());
                argv.push(include.into());
                if let Some(key) = self.mirror.as_ref().and_then(|m| m.keyring.as_ref()) {
                    let mut option = OsString::from("--keyring=");
                    option.push(key);
                    argv.push(option);
                }
                argv.push(suite.into());
                argv.push(target.into());
                argv.extend(self.mirror.iter().map(|m| OsString::from(&m.uri)));
            }
        }
        argv
    }

    /// Makes the system: a tarball at `target`, or a directory there. Dropped, it
    /// stops; what is there by then is the caller's to remove.
    ///
    /// # Errors
    /// `Backend` with the end of what the program said.
    pub(crate) async fn run(
        &self,
        machine: &Machine,
        suite: &str,
        target: &Path,
        progress: &Progress,
    ) -> Result<()> {
        let failed = |e: io::Error| super::local("making an image of packages", &e);
        if self.tool == Tool::Debootstrap {
            prepare(target).map_err(failed)?;
        }
        let argv = self.argv(suite, target);
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env_clear().env("PATH", &machine.path).env("LC_ALL", "C");
        for name in
            ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"]
        {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut said, mut complained) = (VecDeque::new(), VecDeque::new());
        let (_, _, status) = tokio::join!(
            follow(stdout, suite, progress, &mut said),
            follow(stderr, suite, progress, &mut complained),
            child.wait(),
        );
        let status = status.map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        let tail = if complained.is_empty() { said } else { complained };
        let program = self.program.file_name().unwrap_or(OsStr::new("debootstrap"));
        let what = format!("{} {suite} ({status})", program.to_string_lossy());
        let text: Vec<String> = tail.into_iter().collect();
        let hint = match &self.mirror {
            Some(mirror) => {
                format!("is the mirror {} reachable, and does it have {suite}?", mirror.uri)
            }
            None => "no source of this machine's apt has this suite".into(),
        };
        Err(Error::backend(what, text.join("; ")).with_hint(hint))
    }
}

/// dpkg need not wait for the disk in a directory that is thrown away if anything happens.
fn prepare(target: &Path) -> io::Result<()> {
    let dir = target.join("etc/dpkg/dpkg.cfg.d");
    fs::create_dir_all(&dir)?;
    fs::set_permissions(target, fs::Permissions::from_mode(0o755))?;
    fs::write(dir.join("pixels"), "force-unsafe-io\n")
}

/// Tells what a program says, and keeps the last lines.
async fn follow(
    from: Option<impl AsyncRead + Unpin>,
    suite: &str,
    progress: &Progress,
    tail: &mut VecDeque<String>,
) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = text::clean_short(&String::from_utf8_lossy(&line), 200);
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if let Some(step) = line.strip_prefix("I: ") {
            progress.phase(format!("making {suite}: {}", step.to_lowercase()));
        }
        if tail.len() == 4 {
            tail.pop_front();
        }
        tail.push_back(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(tool: Tool, mirror: Option<Mirror>) -> Plan {
        Plan { tool, program: "/bin/tool".into(), unshare: Some("/bin/unshare".into()), mirror }
    }

    fn words(plan: &Plan) -> String {
        let argv = plan.argv("bookworm", Path::new("/t t"));
        argv.iter().map(|w| format!("<{}>", w.to_string_lossy())).collect()
    }

    #[test]
    fn the_machines_mirror_and_keyring_are_used() {
        let mirror =
            Mirror { uri: "http://m.example/debian".into(), keyring: Some("/k.gpg".into()) };
        let argv = words(&plan(Tool::Debootstrap, Some(mirror.clone())));
        assert!(argv.starts_with("</bin/unshare><--mount><--pid>"), "{argv}");
        assert!(
            argv.contains("<--keyring=/k.gpg><bookworm></t t><http://m.example/debian>"),
            "{argv}"
        );
        let argv = words(&plan(Tool::Mmdebstrap, Some(mirror)));
        let source = "<deb [signed-by=/k.gpg] http://m.example/debian bookworm main>";
        assert!(argv.ends_with(&format!("<bookworm></t t>{source}")), "{argv}");
        assert!(words(&plan(Tool::Debootstrap, None)).ends_with("<bookworm></t t>"));
    }

    #[test]
    fn without_a_program_the_hint_names_one() {
        let machine = Machine {
            apt: "/nowhere".into(),
            os_release: "/nowhere".into(),
            path: "/nowhere".into(),
        };
        assert_eq!(machine.suite(), None);
        let e = machine.plan("bookworm", true).unwrap_err();
        assert_eq!(e.hint().as_deref(), Some("apt install mmdebstrap"));
    }
}
