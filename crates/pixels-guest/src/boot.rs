//! The face `boot`: what a pixel does for itself before its network and
//! services come up, told by variables in PID 1's environment.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use pixels_guest_api::NETWORK_VARIABLE;

use crate::identity;
use crate::sys::{fd, process};

const MAX_ENVIRON: usize = 4 * 1024 * 1024;
/// Sorts before what images and netplan bring, so that it wins.
const NETWORK: &str = "/run/systemd/network/00-pixels.network";
/// Where systemd says what becomes of /tmp, and where that is overridden until
/// the next boot (tmpfiles.d(5)).
const TMPFILES: &str = "/usr/lib/tmpfiles.d/tmp.conf";
const OUR_TMPFILES: &str = "/run/tmpfiles.d/tmp.conf";
const MAX_TMPFILES: usize = 64 * 1024;

/// Answers 0 when all that was asked for is in force, 1 for a failure.
pub(crate) fn run() -> i32 {
    let network = configure_network();
    let identity = identity::at_boot();
    let tmp = keep_tmp();
    let mut code = 0;
    for (what, result) in [("network", network), ("identity", identity), ("/tmp", tmp)] {
        if let Err(e) = result {
            fd::complain(&format!("error: cannot set this machine's {what}: {e}"));
            code = 1;
        }
    }
    code
}

/// The value of a variable of PID 1's; `None` where it is absent or empty.
pub(crate) fn variable(name: &str) -> std::io::Result<Option<Vec<u8>>> {
    if process::own_pid() == 1 {
        // The file may be closed to the process itself.
        let value = std::env::var_os(name).filter(|v| !v.is_empty());
        return Ok(value.map(std::os::unix::ffi::OsStringExt::into_vec));
    }
    let environ = fd::read_file("/proc/1/environ", MAX_ENVIRON)?;
    let prefix = [name.as_bytes(), b"="].concat();
    let value = environ.split(|b| *b == 0).find_map(|v| v.strip_prefix(&prefix[..]));
    Ok(value.filter(|v| !v.is_empty()).map(<[u8]>::to_vec))
}

/// The address is on the interface already. This keeps systemd-networkd from
/// taking it away and asking DHCP for the same one again, for about two seconds.
fn configure_network() -> std::io::Result<()> {
    let networkd = Path::new("/lib/systemd/systemd-networkd").exists();
    let Some(value) = variable(NETWORK_VARIABLE)?.filter(|_| networkd) else {
        return Ok(());
    };
    let text = String::from_utf8(value).map_err(std::io::Error::other)?;
    let unit = unit(&text).ok_or_else(|| std::io::Error::other("malformed network variable"))?;
    fs::create_dir_all("/run/systemd/network")?;
    fs::write(NETWORK, unit)
}

/// Commands and files reach a pixel before it has booted, and emptying /tmp at
/// boot would take away what they put there.
fn keep_tmp() -> std::io::Result<()> {
    let Ok(text) = fd::read_file(TMPFILES, MAX_TMPFILES) else { return Ok(()) };
    let Some(kept) = kept(&String::from_utf8_lossy(&text)) else { return Ok(()) };
    fs::create_dir_all("/run/tmpfiles.d")?;
    fs::write(OUR_TMPFILES, kept)
}

/// The same rules with /tmp made and not emptied; `None` if nothing empties it.
fn kept(rules: &str) -> Option<String> {
    let mut changed = false;
    let mut out = String::new();
    for line in rules.lines() {
        let mut words = line.split_whitespace();
        let empties = words.next().is_some_and(|kind| kind.starts_with('D'));
        if empties && words.next() == Some("/tmp") {
            out.push_str(&line.replacen('D', "d", 1));
            changed = true;
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    changed.then_some(out)
}

/// From `address/prefix gateway dns…`; the gateway may be `-`.
fn unit(text: &str) -> Option<String> {
    let mut words = text.split(' ');
    let (address, prefix) = words.next()?.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok().filter(|p| *p <= 128)?;
    let mut out = format!(
        "[Match]\nName=eth0\n\n[Network]\nAddress={address}/{prefix}\nDHCP=no\nKeepConfiguration=yes\n"
    );
    match words.next()? {
        "-" => {}
        gateway => out.push_str(&format!("Gateway={}\n", gateway.parse::<IpAddr>().ok()?)),
    }
    for dns in words {
        out.push_str(&format!("DNS={}\n", dns.parse::<IpAddr>().ok()?));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{kept, unit};

    #[test]
    fn tmp_is_made_and_not_emptied() {
        let rules = "# D /tmp\nD /tmp 1777 root root -\nq /var/tmp 1777 root root 30d\n";
        let want = "# D /tmp\nd /tmp 1777 root root -\nq /var/tmp 1777 root root 30d\n";
        assert_eq!(kept(rules).as_deref(), Some(want));
        assert_eq!(kept("D! /tmp 1777"), Some("d! /tmp 1777\n".into()));
        assert_eq!(kept("q /tmp 1777 root root 10d\nD /tmpfs 0755\n"), None);
    }

    #[test]
    fn only_addresses_get_into_the_unit() {
        let good = unit("10.0.0.5/24 10.0.0.1 10.0.0.1 1.1.1.1").unwrap();
        assert!(good.contains("Address=10.0.0.5/24\n") && good.contains("Gateway=10.0.0.1\n"));
        assert_eq!(good.matches("DNS=").count(), 2);
        assert!(unit("10.0.0.5/24 -").is_some());
        for bad in ["", "10.0.0.5", "10.0.0.5/24", "x/24 -", "10.0.0.5/24 a\nb", "10.0.0.5/999 -"] {
            assert!(unit(bad).is_none(), "{bad:?}");
        }
    }
}
