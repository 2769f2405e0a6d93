//! Whom the command runs as, from the guest's own files. They are read as bytes
//! and belong to the guest: lines that make no sense are skipped.

use std::path::Path;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use pixels_guest_api::UserSpec;

use crate::sys::fd::read_file;

/// The largest passwd or group file that is read, in bytes.
const MAX_FILE: usize = 4 * 1024 * 1024;

/// The most groups a process may have.
const MAX_GROUPS: usize = 65536;

/// A user as the command becomes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Not known for numbers without a passwd entry.
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) home: Vec<u8>,
    /// An absolute path.
    pub(crate) shell: Option<Vec<u8>>,
}

/// Looks `spec` up; `None` is a user that must exist and does not.
pub(crate) fn resolve(spec: &UserSpec) -> Option<Account> {
    let passwd = read_file("/etc/passwd", MAX_FILE).unwrap_or_default();
    let group = read_file("/etc/group", MAX_FILE).unwrap_or_default();
    resolve_in(spec, &passwd, &group)
}

fn resolve_in(spec: &UserSpec, passwd: &[u8], group: &[u8]) -> Option<Account> {
    let mut account = match spec {
        UserSpec::Name(name) => by(passwd, |a| a.name.as_ref() == Some(name))?,
        UserSpec::NameOrRoot(name) => {
            by(passwd, |a| a.name.as_ref() == Some(name)).unwrap_or_else(|| root(passwd))
        }
        UserSpec::Root => root(passwd),
        UserSpec::Ids { uid, gid } => {
            Account { gid: *gid, ..by(passwd, |a| a.uid == *uid).unwrap_or_else(|| nameless(*uid)) }
        }
    };
    account.groups = groups_of(&account, group);
    Some(account)
}

fn by(passwd: &[u8], wanted: impl Fn(&Account) -> bool) -> Option<Account> {
    passwd.split(|b| *b == b'\n').filter_map(passwd_line).find(wanted)
}

/// `name:password:uid:gid:comment:home:shell`.
fn passwd_line(line: &[u8]) -> Option<Account> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
    let [name, _, uid, gid, _, home, shell] = fields[..] else {
        return None;
    };
    if name.is_empty() {
        return None;
    }
    let absolute = |path: &[u8]| path.first() == Some(&b'/');
    Some(Account {
        uid: number(uid)?,
        gid: number(gid)?,
        groups: Vec::new(),
        name: Some(name.to_vec()),
        home: if absolute(home) { home } else { b"/" }.to_vec(),
        shell: absolute(shell).then(|| shell.to_vec()),
    })
}

fn number(text: &[u8]) -> Option<u32> {
    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
    // The kernel's "leave it as it is".
    (number != u32::MAX).then_some(number)
}

/// Root needs no passwd entry.
fn root(passwd: &[u8]) -> Account {
    by(passwd, |a| a.uid == 0).unwrap_or_else(|| Account {
        name: Some(b"root".to_vec()),
        home: if Path::new("/root").is_dir() { b"/root".to_vec() } else { b"/".to_vec() },
        ..nameless(0)
    })
}

fn nameless(uid: u32) -> Account {
    Account { uid, gid: uid, groups: Vec::new(), name: None, home: b"/".to_vec(), shell: None }
}

/// The user's own group and those that list the user by name.
fn groups_of(account: &Account, group: &[u8]) -> Vec<u32> {
    let mut groups = vec![account.gid];
    let Some(name) = &account.name else {
        return groups;
    };
    for line in group.split(|b| *b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        if let [_, _, gid, members] = fields[..]
            && members.split(|b| *b == b',').any(|m| m == name)
            && let Some(gid) = number(gid)
            && !groups.contains(&gid)
            && groups.len() < MAX_GROUPS
        {
            groups.push(gid);
        }
    }
    groups
}

impl Account {
    /// The user's login shell for a session: as passwd says where that exists.
    pub(crate) fn session_shell(&self) -> Vec<u8> {
        match &self.shell {
            Some(shell) if exists(shell) => shell.clone(),
            _ => b"/bin/sh".to_vec(),
        }
    }

    /// The shell that prepares a command's environment: the user's own where it
    /// is known to take `-l -c` and to leave descriptors alone, else the
    /// system's, else none.
    pub(crate) fn preparing_shell(&self) -> Option<Vec<u8>> {
        const KNOWN: [&[u8]; 8] =
            [b"sh", b"bash", b"dash", b"ash", b"zsh", b"ksh", b"mksh", b"busybox"];
        let own =
            self.shell.as_ref().filter(|s| KNOWN.contains(&base_name(s)) && exists(s)).cloned();
        own.or_else(|| Some(b"/bin/sh".to_vec()).filter(|s| exists(s)))
    }
}

fn exists(path: &[u8]) -> bool {
    Path::new(OsStr::from_bytes(path)).is_file()
}

/// What is behind the last slash.
pub(crate) fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        broken line\nneg:x:-1:0::/:/bin/sh\nmax:x:4294967295:0::/:/bin/sh\n\
        pixel:x:1000:1001:\xff,,,:/home/pixel:/bin/sh\nrel:x:5:5::home:sh\n";
    const GROUP: &[u8] = b"root:x:0:\nsudo:x:27:pixel,other\nbad:x:y:pixel\n\
        docker:x:999:other,pixel\nalmost:x:998:pixel2\npixel:x:1001:pixel\n";

    fn named(name: &[u8]) -> UserSpec {
        UserSpec::NameOrRoot(name.to_vec())
    }

    #[test]
    fn names_with_their_groups() {
        let a = resolve_in(&named(b"pixel"), PASSWD, GROUP).unwrap();
        assert_eq!((a.uid, a.gid), (1000, 1001));
        assert_eq!(a.groups, [1001, 27, 999]);
        assert_eq!(a.home, b"/home/pixel");
    }

    #[test]
    fn a_missing_user_is_root_or_an_error_as_asked() {
        let a = resolve_in(&named(b"nobody-here"), PASSWD, GROUP).unwrap();
        assert_eq!((a.uid, a.home), (0, b"/root".to_vec()));
        assert_eq!(resolve_in(&UserSpec::Name(b"nobody-here".to_vec()), PASSWD, GROUP), None);
        let a = resolve_in(&UserSpec::Root, b"", b"").unwrap();
        assert_eq!((a.uid, a.groups), (0, vec![0]));
    }

    #[test]
    fn nonsense_is_skipped() {
        for name in [&b"neg"[..], b"max", b"broken line"] {
            assert_eq!(resolve_in(&named(name), PASSWD, GROUP).unwrap().uid, 0);
        }
        let a = resolve_in(&named(b"rel"), PASSWD, GROUP).unwrap();
        assert_eq!((a.home, a.shell), (b"/".to_vec(), None));
    }

    #[test]
    fn numbers_keep_their_group_and_borrow_the_rest() {
        let spec = UserSpec::Ids { uid: 1000, gid: 7 };
        let a = resolve_in(&spec, PASSWD, GROUP).unwrap();
        assert_eq!((a.uid, a.gid, a.home), (1000, 7, b"/home/pixel".to_vec()));
        let spec = UserSpec::Ids { uid: 4242, gid: 4243 };
        let a = resolve_in(&spec, PASSWD, GROUP).unwrap();
        assert_eq!((a.name, a.groups, a.home), (None, vec![4243], b"/".to_vec()));
    }
}
