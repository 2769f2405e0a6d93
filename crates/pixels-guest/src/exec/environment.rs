//! Environments as maps of byte strings: the base the guest gives, and the
//! overlay of what the request gives.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use super::user::Account;

/// Name to value.
pub(crate) type Env = BTreeMap<Vec<u8>, Vec<u8>>;

/// Name and value, in the order given.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Where programs are looked for when nothing says otherwise.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What describes the process that ran before, not the command.
const STALE: [&str; 10] =
    ["HOME", "USER", "LOGNAME", "SHELL", "MAIL", "PWD", "OLDPWD", "SHLVL", "_", "TERM"];

/// This process's own environment.
pub(crate) fn own() -> Env {
    std::env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec())).collect()
}

/// What the backend set for the instance, and what the user's entry says. `term`
/// is given on a terminal only; without one there is no TERM.
pub(crate) fn base(account: &Account, term: Option<Option<&[u8]>>) -> Env {
    let mut env = own();
    let inherited_term = env.get(&b"TERM"[..]).cloned();
    for name in STALE {
        env.remove(name.as_bytes());
    }
    let mut set = |name: &str, value: &[u8]| env.insert(name.into(), value.to_vec());
    set("HOME", &account.home);
    set("SHELL", &account.session_shell());
    if let Some(name) = &account.name {
        set("USER", name);
        set("LOGNAME", name);
    }
    match (term, inherited_term) {
        (Some(Some(term)), _) => drop(set("TERM", term)),
        (Some(None), Some(term)) => drop(set("TERM", &term)),
        _ => {}
    }
    env.entry(b"PATH".to_vec()).or_insert_with(|| DEFAULT_PATH.to_vec());
    env
}

/// The command's environment: `env` as a profile left it, PWD, and over all that
/// what was given, where of two with one name the last wins.
pub(crate) fn overlay(mut env: Env, cwd: &[u8], given: &Pairs) -> Env {
    // A shell's `_` names the helper it executed.
    env.remove(&b"_"[..]);
    env.remove(&b"OLDPWD"[..]);
    env.insert(b"PWD".to_vec(), cwd.to_vec());
    env.extend(given.iter().cloned());
    env
}

/// `name=value` strings for execve. Nothing here holds a NUL: requests are
/// checked, and the rest came through execve.
pub(crate) fn strings(env: &Env) -> Vec<CString> {
    env.iter()
        .filter_map(|(name, value)| CString::new([name, &b"="[..], value].concat()).ok())
        .collect()
}
