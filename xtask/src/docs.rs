//! docs/config.md, from the one table of configuration keys.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, root, run_lines};

const HEAD: &str = "\
<!-- Made by `cargo xtask docs`; change the table of keys in crates/sandbox/src/config/keys.rs. -->

# Configuration

A TOML file at `$XDG_CONFIG_HOME/pixels/config.toml` (`~/.config/pixels/config.toml`),
or the one that `--config` names; then the variables below; then flags. Later
ones win. `pixels config show` prints every value with where it came from, and
no secret.

An unknown key, a wrong type or a bad value is an error that names file, line
and key. A relative path in the file is relative to the file's directory; in a
variable, to the working directory; `~/` is the home directory. Lists are
arrays in the file and separated by commas in variables. A variable that is set
to nothing counts as unset.

Keys of parts that do not exist yet (`truenas.*`, `mcp.*`, `checkpoint.*`, `ssh.key`,
`ssh.strict_host_keys`, `network.resolvers`, and `provision.*` but `enabled`, which
still decides about `[env]`) are read and checked, and otherwise without effect.

";

const TAIL: &str = "
## Variables for pixels

```toml
[env]
PLAIN = \"value\"                                # written to /etc/environment when a pixel is made
TOKEN = { forward = true }                     # the host's value, for exec and console only
EDITOR = { value = \"vi\", session_only = true } # this value, for exec and console only
```

`$NAME` in a value is expanded from the host's environment.

`PIXELS_ENGINE_DISABLE` names what the local backend is not to use although it could
(`fd-layers`, `idmap`, `reflink`, `subvolumes`, `cgroups`): for tests, see docs/engine.md.

## An example

```toml
backend = \"incus\"

[defaults]
image = \"debian/12\"
cpu = 2
memory = 4096          # MiB

[incus]
remote = \"https://incus.lan:8443\"
client_cert = \"client.crt\"
client_key = \"client.key\"
server_cert = \"server.crt\"
project = \"agents\"
```

Pixels of this machine, without a network:

```toml
backend = \"local\"

[local]
root = \"/srv/pixels\"   # on btrfs, so that --disk is kept

[defaults]
network = \"none\"
```
";

/// Writes the page, or fails if what is there is another.
///
/// # Errors
/// It does not build, cannot be written, or is not current.
pub fn run(check: bool) -> Result<()> {
    let mut table = String::new();
    let status = run_lines(
        cargo()
            .args(["run", "--quiet", "--locked", "--package", "pixels-sandbox"])
            .args(["--example", "config-reference"]),
        |line| {
            table.push_str(line);
            table.push('\n');
        },
    )?;
    if !status.success() {
        bail!("the table of keys cannot be printed ({status})");
    }
    let text = format!("{HEAD}{}\n{TAIL}", table.trim_end());
    let path = root().join("docs/config.md");
    if !check {
        return fs::write(&path, text).context("writing docs/config.md");
    }
    if fs::read_to_string(&path).unwrap_or_default() != text {
        bail!("docs/config.md is not current\nhint: cargo xtask docs");
    }
    Ok(())
}
