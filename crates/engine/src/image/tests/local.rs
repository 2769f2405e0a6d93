//! Images of files and directories of this machine, their names, their end.

use super::archives::*;
use super::layers::*;

#[tokio::test]
async fn a_tarball_is_known_by_its_content() {
    let world = World::new("http://127.0.0.1:1");
    let archive = gzip(&Tar::default().dir("etc").file("etc/x", "1").end());
    let path = world.file("a.tar.gz", &archive);
    let images = world.images();
    let name = path.to_str().unwrap();
    let image = images.import(name, Some("mine"), &world.progress()).await.unwrap();
    assert_eq!(image.fingerprint, sha256(&archive));
    assert_eq!((image.aliases.as_slice(), image.size), (&["mine".to_owned()][..], 1));
    assert_eq!(item(&world.store.items(&image.layers[0]), "etc/x").1, b"1");
    // The same again, by another process, by path, by name and by its first digits.
    let again = world.images();
    for same in [name, "~/a.tar.gz", "mine", &image.fingerprint[..8]] {
        assert_eq!(again.resolve(same, &world.progress()).await.unwrap(), image, "{same}");
    }
    assert_eq!(world.store.begun(), 1, "it was unpacked once");
    assert_eq!(again.list().unwrap().len(), 1);
    // A name goes to whoever gets it last.
    let other = world.file("b.tar", &Tar::default().file("y", "22").end());
    let other =
        images.import(other.to_str().unwrap(), Some("mine"), &world.progress()).await.unwrap();
    assert_eq!(images.resolve("mine", &world.progress()).await.unwrap(), other);
    let old = images.resolve(&image.fingerprint, &world.progress()).await.unwrap();
    assert!(old.aliases.is_empty());
    let removed = images.remove("mine").await.unwrap();
    assert_eq!(removed.fingerprint, other.fingerprint);
    assert!(images.remove("mine").await.unwrap_err().is_not_found());
    assert_eq!(world.store.names(), image.layers);
    assert_eq!(world.leftovers(), 0);
}

#[tokio::test]
async fn a_directory_is_known_by_its_content_too() {
    let world = World::new("http://127.0.0.1:1");
    world.file("root/etc/x", b"1");
    let images = world.images();
    let name = world.dir.path().join("root").to_str().unwrap().to_owned();
    let first = images.resolve(&name, &world.progress()).await.unwrap();
    assert_eq!(images.resolve(&name, &world.progress()).await.unwrap(), first);
    assert_eq!(world.store.begun(), 1);
    world.file("root/etc/x", b"2");
    let second = images.resolve(&name, &world.progress()).await.unwrap();
    assert_ne!(first.fingerprint, second.fingerprint);
}

#[tokio::test]
async fn what_is_no_image_is_refused_and_leaves_nothing() {
    let world = World::new("http://127.0.0.1:1");
    let images = world.images();
    let hostile = Tar::default().file("ok", "1").file("../out", "2").end();
    let mut truncated = gzip(&Tar::default().file("ok", "1").end());
    truncated.truncate(truncated.len() - 9);
    for (bytes, says) in [
        (&hostile[..], "../out"),
        (&truncated, "invalid image"),
        (b"#!/bin/sh\n", "no tar archive"),
        (b"", "no tar archive"),
    ] {
        let path = world.file("bad", bytes);
        let e = images.resolve(path.to_str().unwrap(), &world.progress()).await.unwrap_err();
        assert_eq!(e.code(), "invalid", "{e}");
        assert!(e.to_string().contains(says), "{e}");
    }
    let e = images.resolve("/nowhere/at/all.tar", &world.progress()).await.unwrap_err();
    assert!(e.is_not_found(), "{e}");
    assert!(images.import("a b", None, &world.progress()).await.is_err());
    let e = images.import("/tmp", Some("./x"), &world.progress()).await.unwrap_err();
    assert_eq!(e.code(), "invalid");
    assert!(world.store.names().is_empty() && images.list().unwrap().is_empty());
    assert_eq!(world.leftovers(), 0);
}

#[tokio::test]
async fn a_writer_that_fails_says_why() {
    let world = World::new("http://127.0.0.1:1");
    *world.store.fail.lock().unwrap() = Some("the disk is full".into());
    // More than a pipe holds, so that the decoder notices.
    let big = Tar::default().file("big", &"x".repeat(1 << 20)).end();
    let path = world.file("big.tar", &big);
    let e = world.images().resolve(path.to_str().unwrap(), &world.progress()).await.unwrap_err();
    assert!(e.to_string().contains("the disk is full"), "{e}");
}

#[tokio::test]
async fn a_broken_record_hides_no_other() {
    let world = World::new("http://127.0.0.1:1");
    let path = world.file("a.tar", &Tar::default().file("x", "1").end());
    let images = world.images();
    images.import(path.to_str().unwrap(), Some("good"), &world.progress()).await.unwrap();
    world.file(&format!("store/images/{}.json", "a".repeat(64)), b"{\"broken");
    assert_eq!(images.list().unwrap().len(), 1);
    images.resolve("good", &world.progress()).await.unwrap();
}

#[test]
fn what_killed_processes_left_is_swept_and_nothing_else() {
    use crate::image::records::Temporary;
    let world = World::new("http://127.0.0.1:1");
    let tmp = world.dir.path().join("store/tmp");
    let alive = Temporary::new(&tmp).unwrap();
    world.file("store/tmp/dead/rootfs/etc/x", b"1");
    world.file("store/tmp/dead.lock", b"");
    world.file("store/tmp/orphan/x", b"");
    world.file("store/images/.half", b"{");
    world.file("store/locks/old", b"");
    let images = world.images();
    assert_eq!(images.sweep().unwrap().len(), 2);
    assert!(alive.path().is_dir());
    assert_eq!(world.leftovers(), 2, "what is alive, and its lock");
    assert!(!world.dir.path().join("store/images/.half").exists());
    assert!(images.sweep().unwrap().is_empty());
    drop(alive);
    assert_eq!(world.leftovers(), 0);
}

#[tokio::test]
async fn an_image_that_is_being_made_is_alive() {
    use crate::image::layer::referrer;
    let world = World::new("http://127.0.0.1:1");
    let images = world.images();
    let print = "b".repeat(64);
    assert!(!images.is_live(&referrer(&print)));
    assert!(!images.is_live("pixel-x"));
    let (lock, waited) = images.records.lock(&print, || ()).await.unwrap();
    assert!(!waited && images.is_live(&referrer(&print)));
    assert!(images.sweep().unwrap().is_empty());
    assert!(images.is_live(&referrer(&print)), "sweeping leaves a lock that is held");
    drop(lock);
    assert!(!images.is_live(&referrer(&print)));
}

/// A whole system of this machine's mirror, which has to be Debian's or Ubuntu's.
#[tokio::test]
async fn full_a_system_of_packages() {
    use crate::image::debootstrap::{Machine, PACKAGES};
    if !super::mutate::full() {
        return;
    }
    let mut world = World::new("http://127.0.0.1:1");
    world.settings.machine = Machine::of_process();
    world.settings.limits = Default::default();
    let name = format!("debootstrap:{}", world.settings.machine.suite().unwrap());
    let image = world.images().resolve(&name, &world.progress()).await.unwrap();
    let items = world.store.items(&image.layers[0]);
    for path in ["usr/bin/sudo", "usr/bin/git", "usr/bin/curl", "etc/ssl/certs/ca-certificates.crt"]
    {
        item(&items, path);
    }
    assert!(PACKAGES.contains(&"sudo"));
    let inside =
        |dir: &str| items.iter().filter(|(e, _)| e.path.starts_with(dir.as_bytes())).count();
    assert_eq!((inside("var/cache/apt/archives/"), inside("proc/")), (0, 0));
    assert_eq!(item(&items, "usr/bin/sudo").0.mode & 0o4000, 0o4000);
    assert_eq!(world.leftovers(), 0);
}
