//! Whose store it is, and which user ids its pixels get.

use std::path::Path;

use pixels_core::{Error, Result};
use pixels_guest_api::host::{Range, StoreIds};

use crate::store::SLOTS;

/// How many ids a pixel has.
pub(crate) const PIXEL_IDS: u32 = 65536;
/// The first id of root's pixels: above what Incus (1000000 to 1001000000) and
/// the login tools hand out.
const FIRST: u32 = 2_000_000_000;

/// Who runs the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Root: a range of ids for each pixel.
    Root,
    /// An ordinary user, with subordinate ids.
    User(StoreIds),
}

impl Owner {
    /// Whoever runs this program.
    ///
    /// # Errors
    /// An ordinary user without enough subordinate ids.
    pub(crate) fn current() -> Result<Self> {
        if rustix::process::geteuid().is_root() {
            return Ok(Self::Root);
        }
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let name = login_name(uid);
        let find = |file: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            range(&text, name.as_deref(), uid).ok_or_else(|| missing(file, name.as_deref(), uid))
        };
        Ok(Self::User(StoreIds {
            uid,
            gid,
            subuid: find("/etc/subuid")?,
            subgid: find("/etc/subgid")?,
        }))
    }

    /// The store's user namespace, where it has one.
    pub(crate) fn store(&self) -> Option<StoreIds> {
        match self {
            Self::Root => None,
            Self::User(ids) => Some(*ids),
        }
    }

    /// The ids of the pixel in this slot, as the launcher sees them.
    pub(crate) fn range(&self, slot: u32) -> Range {
        match self {
            Self::Root => Range { base: FIRST + slot * PIXEL_IDS, count: PIXEL_IDS },
            // The one range there is; what is below 1 is the user.
            Self::User(_) => Range { base: 1, count: PIXEL_IDS },
        }
    }

    /// What is added to guest ids on disk in layers that all pixels share, as
    /// the launcher sees it.
    pub(crate) fn shift(&self) -> u32 {
        match self {
            Self::Root => 0,
            Self::User(_) => 1,
        }
    }
}

/// The first and the last id of root's pixels.
pub(crate) fn of_root() -> (u32, u32) {
    (FIRST, FIRST + SLOTS * PIXEL_IDS - 1)
}

/// Who else has ids of root's pixels, by `/etc/subuid` and `/etc/passwd`.
pub(crate) fn overlaps(subuid: &str, passwd: &str) -> Option<String> {
    let (first, last) = of_root();
    let (first, last) = (u64::from(first), u64::from(last));
    let field = |line: &str, n: usize| line.split(':').nth(n)?.trim().parse::<u64>().ok();
    let name = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let ranged = subuid.lines().find(|line| {
        matches!((field(line, 1), field(line, 2)), (Some(base), Some(count))
            if count > 0 && base <= last && first < base.saturating_add(count))
    });
    let user = passwd.lines().find(|l| field(l, 2).is_some_and(|id| (first..=last).contains(&id)));
    ranged.or(user).map(name)
}

fn missing(file: &str, name: Option<&str>, uid: u32) -> Error {
    let who = name.map_or_else(|| uid.to_string(), str::to_owned);
    let what = if file.ends_with("gid") { "group ids" } else { "user ids" };
    Error::backend(
        "use the local backend without root",
        format!("{who} has no range of {PIXEL_IDS} subordinate {what} in {file}"),
    )
    .with_hint(format!(
        "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {who}"
    ))
}

/// The first range of the user that is long enough (subuid(5)).
fn range(text: &str, name: Option<&str>, uid: u32) -> Option<Range> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        let base = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        let theirs = Some(who) == name || who == uid.to_string();
        (theirs && count >= PIXEL_IDS).then_some(Range { base, count })
    })
}

/// The user's name by `/etc/passwd`: the file is what newuidmap goes by on
/// machines where ranges are in files.
fn login_name(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_by_name_or_number() {
        let text = "root:1:65536\n# me\nme:100000:65535\nme:200000:65536\n1000:300000:131072\n";
        assert_eq!(range(text, Some("me"), 7), Some(Range { base: 200_000, count: 65536 }));
        assert_eq!(range(text, None, 1000), Some(Range { base: 300_000, count: 131_072 }));
        assert_eq!(range(text, Some("you"), 7), None);
        assert_eq!(range("me:x:y\nme\n", Some("me"), 7), None);
    }

    #[test]
    fn ids_of_others_are_noticed() {
        let (first, last) = of_root();
        assert!(last > first);
        let passwd = "root:x:0:0::/:/bin/sh\n";
        assert_eq!(overlaps("me:100000:65536\nroot:1000000:1000000000\n", passwd), None);
        let taken = format!("me:{}:2\n", first - 1);
        assert_eq!(overlaps(&taken, passwd).as_deref(), Some("me"));
        assert_eq!(overlaps(&format!("me:{}:1\n", first - 1), passwd), None);
        assert_eq!(
            overlaps("", &format!("{passwd}far:x:{last}:1::/:/bin/sh\n")).as_deref(),
            Some("far")
        );
    }
}
