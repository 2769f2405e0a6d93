//! A registry on loopback, and OCI layouts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pixels_guest_api::tree::Kind;

use super::archives::*;
use super::layers::*;
use super::server::{Asked, Reply, Server};

/// An image's parts by digest, and its outermost document.
#[derive(Clone, Default)]
struct Parts {
    blobs: BTreeMap<String, Vec<u8>>,
    root: Vec<u8>,
}

impl Parts {
    fn add(&mut self, bytes: Vec<u8>) -> String {
        let digest = format!("sha256:{}", sha256(&bytes));
        self.blobs.insert(digest.clone(), bytes);
        digest
    }

    fn image(layers: &[Vec<u8>]) -> Self {
        let mut parts = Self::default();
        let arch = super::super::fetch::go_arch();
        let config = parts.add(format!(r#"{{"os": "linux", "architecture": "{arch}"}}"#).into());
        let layers: Vec<_> = layers
            .iter()
            .map(|bytes| {
                let size = bytes.len();
                format!(r#"{{"digest": "{}", "size": {size}}}"#, parts.add(bytes.clone()))
            })
            .collect();
        let manifest =
            format!(r#"{{"config": {{"digest": "{config}"}}, "layers": [{}]}}"#, layers.join(","));
        let manifest = parts.add(manifest.into());
        let odd = parts.add(b"{}".to_vec());
        parts.root = format!(
            r#"{{"manifests": [
              {{"digest": "{odd}", "platform": {{"os": "linux", "architecture": "other"}}}},
              {{"digest": "{odd}", "platform": {{"os": "unknown", "architecture": "unknown"}}}},
              {{"digest": "{manifest}", "platform": {{"os": "linux", "architecture": "{arch}"}},
                "annotations": {{"org.opencontainers.image.ref.name": "v1"}}}}]}}"#
        )
        .into();
        parts
    }

    fn layout(&self, world: &World, name: &str) -> String {
        world.file(&format!("{name}/index.json"), &self.root);
        for (digest, bytes) in &self.blobs {
            world.file(&format!("{name}/blobs/sha256/{}", &digest[7..]), bytes);
        }
        world.dir.path().join(name).to_str().unwrap().to_owned()
    }
}

fn two_layers() -> [Vec<u8>; 2] {
    let base = gzip(&Tar::default().dir("etc").file("etc/a", "1").file("etc/b", "2").end());
    let top = zst(&Tar::default().dir("etc").file("etc/.wh.a", "").file("etc/c", "3").end());
    [base, top]
}

/// A registry that wants a token which it gives to a user and password alone,
/// and has its blobs elsewhere.
fn registry(
    parts: Parts,
    storage: Arc<Mutex<Option<u16>>>,
    secret: Option<&'static str>,
) -> Server {
    let own = Arc::new(Mutex::new(0u16));
    let port = Arc::clone(&own);
    let server = Server::new(move |asked: &Asked| {
        let port = *port.lock().unwrap();
        if let Some(query) = asked.path.strip_prefix("/token?") {
            assert!(
                query.contains("scope=repository%3Ateam%2Fapp%3Apull")
                    && query.contains("service=r"),
                "{query}"
            );
            if secret.is_some_and(|s| asked.headers.get("authorization").is_none_or(|a| a != s)) {
                return Reply::status(401);
            }
            return Reply::ok(r#"{"token": "T"}"#);
        }
        if asked.headers.get("authorization").is_none_or(|a| a != "Bearer T") {
            let realm = format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"r\"");
            return Reply::status(401).header("WWW-Authenticate", realm);
        }
        let version = asked.path.rsplit('/').next().unwrap();
        if version == "v1" || version == "latest" {
            return Reply::ok(parts.root.clone());
        }
        let Some(blob) = parts.blobs.get(version) else { return Reply::status(404) };
        match (*storage.lock().unwrap()).filter(|_| asked.path.contains("/blobs/")) {
            Some(port) => {
                Reply::status(307).header("Location", format!("http://127.0.0.1:{port}/{version}"))
            }
            None => Reply::ok(blob.clone()),
        }
    });
    *own.lock().unwrap() = server.port;
    server
}

#[tokio::test]
async fn an_image_of_a_registry_has_its_layers() {
    let parts = Parts::image(&two_layers());
    let blobs = parts.blobs.clone();
    // What the registry believes us must not reach whoever stores its blobs.
    let elsewhere = Server::new(move |asked| {
        assert!(!asked.headers.contains_key("authorization"), "credentials went elsewhere");
        blobs.get(&asked.path[1..]).map_or(Reply::status(404), |b| Reply::ok(b.clone()))
    });
    let storage = Arc::new(Mutex::new(Some(elsewhere.port)));
    let server = registry(parts.clone(), storage, Some("Basic dTpw"));
    let world = World::new("http://127.0.0.1:1");
    let name = format!("docker:127.0.0.1:{}/team/app:v1", server.port);
    let e = world.images().resolve(&name, &world.progress()).await.unwrap_err();
    assert_eq!(e.code(), "denied", "{e}");
    world.file(
        "docker/config.json",
        format!(r#"{{"auths": {{"127.0.0.1:{}": {{"auth": "dTpw"}}}}}}"#, server.port).as_bytes(),
    );
    let image = world.images().resolve(&name, &world.progress()).await.unwrap();
    assert_eq!(image.layers.len(), 2);
    let top = world.store.items(&image.layers[1]);
    assert_eq!(item(&top, "etc/a").0.kind, Kind::Whiteout);
    assert_eq!(item(&top, "etc/c").1, b"3");
    assert!(elsewhere.count("") >= 2);
    // Known by its name from now on.
    let asked = server.count("");
    assert_eq!(world.images().resolve(&name, &world.progress()).await.unwrap(), image);
    assert_eq!(server.count(""), asked);
    assert_eq!(world.leftovers(), 0);
}

#[tokio::test]
async fn images_share_the_layers_they_have_in_common() {
    let world = World::new("http://127.0.0.1:1");
    let [base, top] = two_layers();
    let third = gzip(&Tar::default().file("third", "3").end());
    let one = Parts::image(&[base.clone(), top]).layout(&world, "one");
    let two = Parts::image(&[base, third]).layout(&world, "two");
    let images = world.images();
    let one = images.resolve(&format!("oci:{one}:v1"), &world.progress()).await.unwrap();
    let two = images.resolve(&format!("oci:{two}"), &world.progress()).await.unwrap();
    assert_eq!(one.layers[0], two.layers[0]);
    assert_eq!(world.store.referrers(&one.layers[0]).len(), 2);
    assert_eq!(world.store.names().len(), 3);
    images.remove(&one.fingerprint).await.unwrap();
    assert_eq!(world.store.names().len(), 2, "the common layer is the other's now");
    images.remove(&two.fingerprint).await.unwrap();
    assert!(world.store.names().is_empty());
}

#[tokio::test]
async fn what_has_another_digest_is_refused() {
    let good = Parts::image(&two_layers());
    for digest in good.blobs.keys().cloned().collect::<Vec<_>>() {
        let mut bad = good.clone();
        let blob = bad.blobs.get_mut(&digest).unwrap();
        if blob == b"{}" {
            continue;
        }
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
        let world = World::new("http://127.0.0.1:1");
        let server = registry(bad.clone(), Arc::default(), None);
        let layout = bad.layout(&world, "bad");
        for name in [format!("docker:localhost:{}/team/app", server.port), format!("oci:{layout}")]
        {
            let e = world.images().resolve(&name, &world.progress()).await.unwrap_err();
            assert!(e.to_string().contains("digest") || e.to_string().contains("SHA-256"), "{e}");
        }
        assert!(world.store.names().is_empty(), "nothing of it stays");
        assert_eq!(world.leftovers(), 0);
    }
}

#[tokio::test]
async fn odd_manifests_are_refused() {
    let world = World::new("http://127.0.0.1:1");
    let mut parts = Parts::image(&two_layers());
    let deep =
        |digest: &str| format!(r#"{{"manifests": [{{"digest": "{digest}"}}]}}"#).into_bytes();
    let mut inner = parts.add(parts.root.clone());
    for _ in 0..6 {
        inner = parts.add(deep(&inner));
    }
    let roots = [
        deep(&inner),
        deep("sha256:../../../etc/passwd"),
        deep(&format!("sha256:{}", "0".repeat(64))),
        b"{}".to_vec(),
        b"[]".to_vec(),
        b"{\"manifests\": []}".to_vec(),
        br#"{"manifests": [{"digest": "x", "platform": {"os": "linux", "architecture": "other"}}]}"#.to_vec(),
        br#"{"config": {"digest": "x"}, "layers": []}"#.to_vec(),
    ];
    for (n, root) in roots.into_iter().enumerate() {
        parts.root = root;
        let layout = parts.layout(&world, &format!("odd{n}"));
        let e = world.images().resolve(&format!("oci:{layout}"), &world.progress()).await;
        assert!(e.is_err(), "{n}");
    }
    let layout = Parts::image(&two_layers()).layout(&world, "good");
    let e =
        world.images().resolve(&format!("oci:{layout}:v2"), &world.progress()).await.unwrap_err();
    assert!(e.is_not_found(), "{e}");
    let e = world.images().resolve("oci:/nowhere", &world.progress()).await.unwrap_err();
    assert!(e.is_not_found(), "{e}");
}

#[tokio::test]
async fn plain_http_is_for_this_machine_alone() {
    let world = World::new("http://127.0.0.1:1");
    // A registry here that sends us to plain http elsewhere.
    let server = Server::new(|asked| match asked.path.contains("manifests") {
        true => Reply::status(307).header("Location", "http://192.0.2.1/x"),
        false => Reply::status(404),
    });
    let name = format!("docker:127.0.0.1:{}/a", server.port);
    let e = world.images().resolve(&name, &world.progress()).await.unwrap_err();
    assert!(e.to_string().contains("https"), "{e}");
}
