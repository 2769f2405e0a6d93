//! Images of an image server on loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pixels_core::Event;

use super::archives::*;
use super::layers::*;
use super::server::{Asked, Reply, Server};

struct Served {
    file: Vec<u8>,
    announced: String,
    size: usize,
}

fn served() -> Served {
    // Something that stays some kilobytes.
    let mut dice = super::mutate::Dice::new(1);
    let noise: String = (0..1250).map(|_| format!("{:016x}", dice.roll())).collect();
    let file = xz(&Tar::default().dir("etc").file("etc/x", &noise).end());
    Served { announced: sha256(&file), size: file.len(), file }
}

fn lists(served: &Served, asked: &Asked) -> Reply {
    let arch = super::super::fetch::packages_arch();
    match asked.path.as_str() {
        "/streams/v1/index.json" => Reply::ok(
            r#"{"index": {"images": {"datatype": "image-downloads", "path": "streams/v1/images.json"}}}"#,
        ),
        "/streams/v1/images.json" => Reply::ok(format!(
            r#"{{"products": {{"p": {{"aliases": "ubuntu/24.04/default,ubuntu/24.04", "arch": "{arch}", "os": "Ubuntu",
            "release": "noble", "versions": {{"20250101": {{"items": {{"r": {{"ftype": "root.tar.xz",
            "path": "images/root.tar.xz", "sha256": "{}", "size": {}}}}}}}}}}}}}}}"#,
            served.announced, served.size
        )),
        "/images/root.tar.xz" => Reply::ok(served.file.clone()),
        _ => Reply::status(404),
    }
}

fn server(served: Served) -> Server {
    Server::new(move |asked| lists(&served, asked))
}

#[tokio::test]
async fn an_image_is_fetched_once_and_told() {
    let server = server(served());
    let world = World::new(&server.url());
    let image = world.images().resolve("ubuntu/24.04", &world.progress()).await.unwrap();
    assert_eq!(
        image.description,
        format!("Ubuntu noble {} (20250101)", super::super::fetch::packages_arch())
    );
    assert_eq!((image.aliases.len(), image.size), (1, 20_000));
    let again = world.images();
    assert_eq!(again.resolve("images:ubuntu/24.04", &world.progress()).await.unwrap(), image);
    assert_eq!(server.count("index.json"), 1);
    // Another name of the same image adds that name, and importing looks again.
    let other = again.resolve("ubuntu/24.04/default", &world.progress()).await.unwrap();
    assert_eq!((other.fingerprint, other.aliases.len()), (image.fingerprint, 2));
    again.import("ubuntu/24.04", None, &world.progress()).await.unwrap();
    assert_eq!((server.count("index.json"), server.count("root.tar.xz")), (3, 1));
    let events = world.events.lock().unwrap().clone();
    let whole = events
        .iter()
        .any(|e| matches!(e, Event::Bytes { done, total: Some(t) } if done == t && *t > 0));
    let phase =
        |text: &str| events.iter().any(|e| matches!(e, Event::Phase(p) if p.contains(text)));
    assert!(whole && phase("downloading ubuntu/24.04") && phase("unpacking"), "{events:?}");
    assert_eq!(world.leftovers(), 0);
}

#[tokio::test]
async fn an_unknown_image_is_not_found_with_what_there_is() {
    let server = server(served());
    let world = World::new(&server.url());
    let e = world.images().resolve("ubuntu/99", &world.progress()).await.unwrap_err();
    assert!(e.is_not_found() && e.hint().unwrap().contains("ubuntu/24.04"), "{e} {:?}", e.hint());
}

#[tokio::test]
async fn another_digest_or_length_is_refused() {
    let wrong = |change: fn(&mut Served)| {
        let mut it = served();
        change(&mut it);
        it
    };
    for (it, says) in [
        (wrong(|s| s.announced = "0".repeat(64)), "SHA-256"),
        (wrong(|s| s.file[40] ^= 1), "SHA-256"),
        (wrong(|s| s.size -= 1), "longer"),
        (wrong(|s| s.size = 1 << 40), "larger"),
    ] {
        let server = server(it);
        let world = World::new(&server.url());
        let e = world.images().resolve("ubuntu/24.04", &world.progress()).await.unwrap_err();
        assert!(e.to_string().contains(says), "{e}");
        assert!(world.store.names().is_empty() && world.images().list().unwrap().is_empty());
        assert_eq!((world.store.begun(), world.leftovers()), (0, 0), "nothing was unpacked");
    }
}

#[tokio::test]
async fn two_at_once_fetch_once() {
    let server = server(served());
    let world = Arc::new(World::new(&server.url()));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                world.images().resolve("ubuntu/24.04", &world.progress()).await.unwrap()
            })
        })
        .collect();
    let mut prints = Vec::new();
    for task in tasks {
        prints.push(task.await.unwrap().fingerprint);
    }
    prints.dedup();
    assert_eq!((prints.len(), server.count("root.tar.xz"), world.store.names().len()), (1, 1, 1));
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let it = served();
    let tries = AtomicUsize::new(0);
    let server = Server::new(move |asked| {
        let reply = lists(&it, asked);
        if asked.path != "/images/root.tar.xz" {
            return reply;
        }
        let begin = asked.headers.get("range").map_or(0, |range| {
            range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap()
        });
        let status = if begin > 0 { 206 } else { 200 };
        let cut = (tries.fetch_add(1, Ordering::Relaxed) < 3).then_some(100);
        Reply { status, body: reply.body[begin..].to_vec(), cut, headers: vec![] }
    });
    let world = World::new(&server.url());
    world.images().resolve("ubuntu/24.04", &world.progress()).await.unwrap();
    assert_eq!(server.count("root.tar.xz"), 4);
}

#[tokio::test]
async fn an_interrupted_fetch_leaves_nothing_that_is_in_the_way() {
    let server = server(served());
    let world = World::new(&server.url());
    let images = world.images();
    for wait in [0, 1, 2, 4, 8, 16, 32] {
        let progress = world.progress();
        let fetch = images.resolve("ubuntu/24.04", &progress);
        let _ = tokio::time::timeout(std::time::Duration::from_millis(wait), fetch).await;
    }
    let image = images.resolve("ubuntu/24.04", &world.progress()).await.unwrap();
    images.sweep().unwrap();
    assert_eq!(world.leftovers(), 0);
    // What an interrupted one had finished is nobody's but this image's.
    let of_image = crate::image::layer::referrer(&image.fingerprint);
    for layer in world.store.names() {
        assert!(world.store.referrers(&layer).iter().all(|r| *r == of_image));
    }
}

/// A program that makes a tarball, as mmdebstrap does: the last argument but the source.
fn install_tool(world: &World) {
    use std::os::unix::fs::PermissionsExt;
    world.file("os-release", b"ID=debian\nVERSION_CODENAME=bookworm\n");
    let tar = world.file("made.tar", &Tar::default().file("made", "here").end());
    let script =
        format!("#!/bin/sh\necho 'I: unpacking things'\n/bin/cat {} > \"$6\"\n", tar.display());
    let script = script.replace("$6", "$7");
    let tool = world.file("bin/mmdebstrap", script.as_bytes());
    std::fs::set_permissions(tool, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn without_its_server_the_default_image_is_made_here_and_said_so() {
    // A port that nobody listens on; then a server that is something else.
    let proxy = Server::new(|_| Reply::status(403));
    for url in ["http://127.0.0.1:1/".to_owned(), proxy.url()] {
        let world = World::new(&url);
        let e = world.images().resolve("ubuntu/24.04", &world.progress()).await.unwrap_err();
        assert_eq!(e.code(), "unreachable", "{e}");
        install_tool(&world);
        // Another image has nothing to stand in for it.
        let e = world.images().resolve("alpine/3.20", &world.progress()).await.unwrap_err();
        assert_eq!(e.code(), "unreachable", "{e}");
        let image = world.images().resolve("ubuntu/24.04", &world.progress()).await.unwrap();
        assert_eq!(image.aliases, ["debootstrap:bookworm"]);
        let told = world.warnings();
        assert!(
            told.len() == 1 && told[0].contains("ubuntu/24.04") && told[0].contains("bookworm"),
            "{told:?}"
        );
        let asked = proxy.count("");
        // Soon after, nobody is asked, and it is said again.
        let again = world.images().resolve("ubuntu/24.04", &world.progress()).await.unwrap();
        assert_eq!((again, world.warnings().len(), proxy.count("")), (image, 2, asked));
        assert_eq!(world.leftovers(), 0);
    }
}
