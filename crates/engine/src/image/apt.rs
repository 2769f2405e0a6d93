//! This machine's own package sources: where its mirror is, and whose signature
//! counts there. Both of apt's formats; nothing of it is run.

use std::path::{Path, PathBuf};

/// One source of packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AptSource {
    pub(crate) uris: Vec<String>,
    pub(crate) suites: Vec<String>,
    pub(crate) components: Vec<String>,
    pub(crate) signed_by: Option<PathBuf>,
}

/// A mirror to make a system from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) uri: String,
    pub(crate) keyring: Option<PathBuf>,
}

/// What `dir` (`/etc/apt`) names. What cannot be read is left out: apt itself
/// would say more about it than we could.
pub(crate) fn sources(dir: &Path) -> Vec<AptSource> {
    let mut files = vec![dir.join("sources.list")];
    let parts = std::fs::read_dir(dir.join("sources.list.d"));
    let mut parts: Vec<_> = parts.into_iter().flatten().flatten().map(|e| e.path()).collect();
    parts.sort();
    files.extend(parts);
    let mut out = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|e| e.to_str()) {
            Some("list") => out.extend(text.lines().filter_map(one_line)),
            Some("sources") => out.extend(deb822(&text)),
            _ => {}
        }
    }
    out
}

/// `deb [option=value …] uri suite component…`
fn one_line(line: &str) -> Option<AptSource> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(Into::into);
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by="));
    Some(AptSource {
        uris: vec![uri],
        suites: vec![suite],
        components: words.collect(),
        signed_by: signed_by.and_then(keyring),
    })
}

/// Paragraphs of `Key: value`, continued on lines that begin with a blank.
fn deb822(text: &str) -> Vec<AptSource> {
    let mut out = Vec::new();
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for paragraph in text.split(|line| line.trim().is_empty()) {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in paragraph {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((key, value)) = line.split_once(':') {
                fields.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let get = |key: &str| fields.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str());
        let words =
            |key: &str| get(key).split_whitespace().map(Into::into).collect::<Vec<String>>();
        let off =
            ["no", "false", "0", "off"].contains(&get("enabled").to_ascii_lowercase().as_str());
        if off || !words("types").iter().any(|t| t == "deb") {
            continue;
        }
        out.push(AptSource {
            uris: words("uris"),
            suites: words("suites"),
            components: words("components"),
            signed_by: keyring(get("signed-by")),
        });
    }
    out
}

/// The file of a keyring; a key written out in place is none.
fn keyring(value: &str) -> Option<PathBuf> {
    let first = value.split([' ', ',']).next().unwrap_or_default();
    first.starts_with('/').then(|| first.into())
}

/// The mirror that has `suite`'s main component.
pub(crate) fn mirror(sources: &[AptSource], suite: &str) -> Option<Mirror> {
    let fetched = |uri: &&String| uri.starts_with("http://") || uri.starts_with("https://");
    sources
        .iter()
        .filter(|s| s.suites.iter().any(|have| have == suite))
        .filter(|s| s.components.iter().any(|c| c == "main"))
        .find_map(|s| {
            let uri = s.uris.iter().find(fetched)?;
            Some(Mirror { uri: uri.clone(), keyring: s.signed_by.clone() })
        })
}

/// What `/etc/os-release` says: the system's id, those it is like, the suite's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OsRelease {
    pub(crate) id: String,
    pub(crate) codename: String,
}

/// Reads `key=value` lines, quoted or not.
pub(crate) fn os_release(file: &Path) -> OsRelease {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let get = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
    };
    OsRelease { id: get("ID"), codename: get("VERSION_CODENAME") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_name_the_mirror_and_its_keyring() {
        let line = "deb [arch=amd64 signed-by=/k.gpg] https://m.example/debian bookworm main # x";
        let found = vec![one_line(line).unwrap()];
        let expected = |uri: &str, key: Option<&str>| {
            Some(Mirror { uri: uri.into(), keyring: key.map(Into::into) })
        };
        assert_eq!(
            mirror(&found, "bookworm"),
            expected("https://m.example/debian", Some("/k.gpg"))
        );
        assert_eq!(mirror(&found, "trixie"), None);
        for none in [
            "",
            "# deb http://x y main",
            "deb-src http://x y main",
            "deb [x http://x y",
            "deb http://x",
        ] {
            assert_eq!(one_line(none), None, "{none:?}");
        }
        let text = "Types: deb deb-src\n# a comment\nURIs: cdrom:/ http://m.example/debian\n\
                    Suites: bookworm\n bookworm-updates\nComponents: main contrib\nSigned-By:\n -----BEGIN\n .\n\n\
                    Types: deb\nURIs: http://off.example\nSuites: bookworm\nComponents: main\nEnabled: no\n";
        let found = deb822(text);
        assert_eq!(found.len(), 1);
        assert_eq!(mirror(&found, "bookworm-updates"), expected("http://m.example/debian", None));
    }

    #[test]
    fn files_are_found_where_apt_has_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sources.list.d")).unwrap();
        let at = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        at("sources.list", "deb http://a.example a main\n");
        at("sources.list.d/b.list", "deb http://b.example b main\n");
        at(
            "sources.list.d/c.sources",
            "Types: deb\nURIs: http://c.example\nSuites: c\nComponents: main\n",
        );
        at("sources.list.d/d.list.bak", "deb http://d.example d main\n");
        let found = sources(dir.path());
        for (suite, there) in [("a", true), ("b", true), ("c", true), ("d", false)] {
            assert_eq!(mirror(&found, suite).is_some(), there, "{suite}");
        }
        assert!(sources(Path::new("/nowhere")).is_empty());
        at("os-release", "NAME=\"Debian\"\nID=debian\nVERSION_CODENAME='bookworm'\n");
        let os = os_release(&dir.path().join("os-release"));
        assert_eq!((os.id.as_str(), os.codename.as_str()), ("debian", "bookworm"));
    }
}
