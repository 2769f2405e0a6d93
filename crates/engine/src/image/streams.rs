//! Image servers that speak simplestreams, as images.linuxcontainers.org does:
//! an index, a list of products, and for every version its files with their digests.

use std::collections::BTreeMap;

use pixels_core::{Error, Result, What};
use pixels_wire::HeaderMap;
use serde::Deserialize;
use url::Url;

use super::http::{Http, shown};
use super::oci::reference::check_digest;

/// The list of a server with thousands of images is a few MiB.
const LONGEST_LIST: u64 = 64 << 20;

/// An image that a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The file with the root file system.
    pub(crate) url: Url,
    /// Its SHA-256.
    pub(crate) sha256: String,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// What the image says of itself.
    pub(crate) description: String,
}

#[derive(Deserialize)]
struct Index {
    index: BTreeMap<String, Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    datatype: String,
    path: String,
}

#[derive(Deserialize)]
struct Products {
    products: BTreeMap<String, Product>,
}

#[derive(Deserialize)]
struct Product {
    #[serde(default)]
    aliases: String,
    arch: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    release: String,
    #[serde(default)]
    versions: BTreeMap<String, Version>,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    items: BTreeMap<String, Item>,
}

#[derive(Deserialize)]
struct Item {
    ftype: String,
    path: String,
    #[serde(default)]
    sha256: String,
    #[serde(default)]
    size: u64,
}

/// Looks for the newest version of the image `alias` for an architecture.
///
/// # Errors
/// `Unreachable` where the server gives no index; `NotFound` for an image that
/// it does not have.
pub(crate) async fn find(http: &Http, server: &Url, alias: &str, arch: &str) -> Result<Offer> {
    let index = address(server, "streams/v1/index.json")?;
    let answer = http.get(&index, &HeaderMap::new(), LONGEST_LIST).await?;
    // A proxy's page is as good as no answer: nothing has been said about the image.
    let unusable = |reason: String| Error::Unreachable { target: shown(&index), reason };
    if answer.status != 200 {
        return Err(unusable(format!("the server answered {}", answer.status)));
    }
    let index: Index = serde_json::from_slice(&answer.body)
        .map_err(|e| unusable(format!("it is no simplestreams index: {e}")))?;
    let mut near = Vec::new();
    for part in index.index.values().filter(|p| p.datatype == "image-downloads") {
        let url = address(server, &part.path)?;
        let answer = http.get(&url, &HeaderMap::new(), LONGEST_LIST).await?;
        if answer.status != 200 {
            return Err(super::http::status_error(&url, answer.status));
        }
        let list: Products = serde_json::from_slice(&answer.body)
            .map_err(|e| Error::backend(shown(&url), format!("it is no list of products: {e}")))?;
        if let Some(product) = choose(&list, alias, arch) {
            return newest(server, product, alias);
        }
        near.extend(similar(&list, alias, arch));
    }
    let missing = Error::not_found(What::Image, alias);
    near.truncate(8);
    Err(if near.is_empty() {
        missing.with_hint(format!("{server} lists what there is for {arch}"))
    } else {
        missing.with_hint(format!("for {arch} there is {}", near.join(", ")))
    })
}

fn choose<'a>(list: &'a Products, alias: &str, arch: &str) -> Option<&'a Product> {
    let named = |p: &&Product| p.aliases.split(',').any(|a| a.trim() == alias);
    list.products.values().filter(|p| p.arch == arch && !p.versions.is_empty()).find(named)
}

/// Names of the same system, for a hint.
fn similar(list: &Products, alias: &str, arch: &str) -> Vec<String> {
    let system = alias.split('/').next().unwrap_or_default();
    let products = list.products.values().filter(|p| p.arch == arch);
    let first = products.filter_map(|p| p.aliases.split(',').find(|a| !a.ends_with("/default")));
    let same = first.map(str::trim).filter(|a| a.split('/').next() == Some(system));
    same.map(Into::into).collect()
}

fn newest(server: &Url, product: &Product, alias: &str) -> Result<Offer> {
    // Versions are dates: the greatest name is the newest. One may be without files yet.
    let usable = |v: &'_ Version| {
        let kind = |wanted: &str| v.items.values().find(|i| i.ftype == wanted);
        kind("squashfs")
            .or_else(|| kind("root.tar.xz"))
            .map(|i| (i.path.clone(), i.sha256.clone(), i.size))
    };
    let mut versions = product.versions.iter().rev();
    let found = versions.find_map(|(name, v)| usable(v).map(|file| (name, file)));
    let Some((version, (path, sha256, size))) = found else {
        return Err(Error::not_found(What::Image, alias)
            .with_hint("the server has this image for virtual machines only"));
    };
    let sha256 = sha256.to_ascii_lowercase();
    let url = address(server, &path)?;
    check_digest(&format!("sha256:{sha256}")).map_err(|rule| Error::backend(shown(&url), rule))?;
    let Product { os, release, arch, .. } = product;
    let description = format!("{os} {release} {arch} ({version})").trim().to_owned();
    Ok(Offer { url, sha256, size, description })
}

/// An address on the server; a list does not send us elsewhere.
fn address(server: &Url, path: &str) -> Result<Url> {
    let refused = || Error::backend(shown(server), format!("it names the odd path {path:?}"));
    let mut base = server.clone();
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    let url = base.join(path).map_err(|_| refused())?;
    if url.origin() != server.origin() {
        return Err(refused());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_does_not_lead_elsewhere() {
        let server: Url = "https://images.example/base".parse().unwrap();
        let at = |path: &str| address(&server, path).map(|u| u.to_string());
        assert_eq!(at("a/b").unwrap(), "https://images.example/base/a/b");
        for odd in ["https://evil.example/a", "//evil.example/a", "http://images.example/a"] {
            at(odd).unwrap_err();
        }
    }

    #[test]
    fn the_newest_version_with_a_root_is_taken() {
        let sum = "a".repeat(64);
        let list = format!(
            r#"{{"products": {{"p": {{"aliases": "x/1/default,x/1", "arch": "amd64", "os": "X", "release": "1",
            "versions": {{
              "20250101": {{"items": {{"a": {{"ftype": "squashfs", "path": "old", "sha256": "{sum}", "size": 1}}}}}},
              "20250201": {{"items": {{
                "a": {{"ftype": "root.tar.xz", "path": "new.tar.xz", "sha256": "{sum}", "size": 2}},
                "b": {{"ftype": "incus.tar.xz", "path": "meta"}},
                "c": {{"ftype": "squashfs", "path": "new.squashfs", "sha256": "{sum}", "size": 3}}}}}},
              "20250301": {{"items": {{"a": {{"ftype": "disk-kvm.img", "path": "vm"}}}}}}
            }}}}}}}}"#
        );
        let list: Products = serde_json::from_str(&list).unwrap();
        let server: Url = "https://images.example/".parse().unwrap();
        let offer = newest(&server, choose(&list, "x/1", "amd64").unwrap(), "x/1").unwrap();
        assert_eq!((offer.url.path(), offer.size), ("/new.squashfs", 3));
        assert_eq!(offer.description, "X 1 amd64 (20250201)");
        assert!(choose(&list, "x/1", "arm64").is_none());
        assert_eq!(similar(&list, "x/2", "amd64"), ["x/1"]);
    }
}
