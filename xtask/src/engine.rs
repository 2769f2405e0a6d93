//! The tests of the embedded engine: as root, as an ordinary user, and with each
//! of its fallbacks forced. They need the image that the rig builds, nothing else of it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, root};

/// One run of a test binary.
pub struct Stage {
    /// What it is called.
    pub name: &'static str,
    /// The binary's package and target.
    package: &'static str,
    target: &'static str,
    filters: &'static [&'static str],
    /// `PIXELS_ENGINE_DISABLE` for it.
    disable: &'static str,
    who: Who,
}

/// Who runs it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    /// A user with subordinate ids, who is made if need be.
    User,
}

const fn as_root(name: &'static str, package: &'static str, target: &'static str) -> Stage {
    Stage { name, package, target, filters: &["--skip", "full_"], disable: "", who: Who::Root }
}

const fn conformance(name: &'static str, who: Who, disable: &'static str) -> Stage {
    let (package, target) = ("pixels-engine", "conformance");
    Stage { name, package, target, filters: &["local::"], disable, who }
}

/// All of them, what takes longest last.
pub const STAGES: [Stage; 10] = [
    conformance("engine: conformance as root", Who::Root, ""),
    conformance("engine: conformance as an ordinary user", Who::User, ""),
    conformance("engine: conformance, layers by path", Who::Root, "fd-layers"),
    conformance("engine: conformance, layers copied", Who::Root, "fd-layers,idmap"),
    conformance("engine: conformance, without reflinks", Who::Root, "reflink,subvolumes"),
    conformance("engine: conformance, without control groups", Who::Root, "cgroups"),
    as_root("engine: the rules of pixels", "pixels-engine", "rules"),
    Stage {
        who: Who::User,
        ..as_root("engine: the rules, of an ordinary user's pixels", "pixels-engine", "rules")
    },
    as_root("engine: the program on it", "pixels", "local"),
    as_root("engine: crashes", "pixels-engine", "crash"),
];

/// Whether a test target is one of these.
pub fn has(target: &str) -> bool {
    STAGES.iter().any(|stage| stage.target == target)
}

impl Stage {
    /// The command that runs it. The binary is built first, because an ordinary
    /// user cannot.
    ///
    /// # Errors
    /// It does not build.
    pub fn command(&self) -> Result<Command> {
        let binary = self.build()?;
        let mut command = match self.who {
            Who::Root => Command::new(&binary),
            Who::User => {
                let mut command = Command::new(root().join("rig/ordinary"));
                command.arg(&binary);
                command
            }
        };
        command.current_dir(root()).args(self.filters);
        command.env("PIXELS_ENGINE_DISABLE", self.disable);
        Ok(command)
    }

    fn build(&self) -> Result<PathBuf> {
        let mut build = cargo();
        // The whole workspace, for the same features as everything else.
        build.args(["test", "--locked", "--workspace", "--no-run", "--test", self.target]);
        build.arg("--message-format=json-render-diagnostics");
        let out = build.stderr(std::process::Stdio::inherit()).output()?;
        if !out.status.success() {
            bail!("the tests do not build");
        }
        let text = String::from_utf8_lossy(&out.stdout);
        executable(&text, self.package, self.target)
            .with_context(|| format!("cargo names no test binary {}", self.target))
    }
}

/// The binary of a test target in cargo's messages. Several packages have one of that name.
fn executable(messages: &str, package: &str, target: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str(line).ok()).find_map(
        |message: serde_json::Value| {
            let id = message["package_id"].as_str()?;
            // path+file:///…/crates/engine#pixels-engine@0.1.0, or …/pixels#0.1.0
            let (place, version) = id.rsplit_once('#')?;
            let name = match version.split_once('@') {
                Some((name, _)) => name,
                None => place.rsplit('/').next()?,
            };
            let fits = name == package && message["target"]["name"] == target;
            fits.then(|| message["executable"].as_str().map(PathBuf::from))?
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_binaries_of_one_name_the_packages_own_is_found() {
        let messages = "nonsense\n\
            {\"package_id\":\"path+file:///p/crates/incus#pixels-incus@0.1.0\",\"target\":{\"name\":\"conformance\"},\"executable\":\"/t/a\"}\n\
            {\"package_id\":\"path+file:///p/crates/engine#pixels-engine@0.1.0\",\"target\":{\"name\":\"conformance\"},\"executable\":\"/t/b\"}\n\
            {\"package_id\":\"path+file:///p/crates/pixels#0.1.0\",\"target\":{\"name\":\"local\"},\"executable\":\"/t/c\"}\n";
        let find = |package, target| executable(messages, package, target);
        assert_eq!(find("pixels-engine", "conformance"), Some("/t/b".into()));
        assert_eq!(find("pixels", "local"), Some("/t/c".into()));
        assert_eq!(find("pixels", "conformance"), None);
    }
}
