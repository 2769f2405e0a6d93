use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use pixels_sandbox::memory::Memory;
use pixels_sandbox::*;

use super::hostile::{Act, Hostile};
use super::push::to;
use super::verbs::poll_once;
use super::{name, with_box};

/// A pixel with a tree at `/tmp/t`.
async fn with_tree() -> (Pixels, Memory) {
    let (pixels, memory) = with_box().await;
    let session = memory.files(&name("box")).await.unwrap();
    session.mkdir(b"/tmp/t", 0o755, None).await.unwrap();
    session.mkdir(b"/tmp/t/sub", 0o755, None).await.unwrap();
    for (path, mode) in [("/tmp/t/a", 0o6755), ("/tmp/t/sub/b", 0o600)] {
        pixels.backend().write_file(&name("box"), path, b"text", mode, None).await.unwrap();
    }
    session.symlink(b"/etc/passwd", b"/tmp/t/l", None).await.unwrap();
    (pixels, memory)
}

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn things_go_where_docker_cp_puts_them() {
    let (pixels, _) = with_tree().await;
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    let pull =
        async |from: &str, dest: &Path| pixels.pull(&to(from), dest, PullOpts::default()).await;
    pull("/tmp/t/a", &at("new")).await.unwrap();
    pull("/tmp/t/a", dir.path()).await.unwrap();
    pull("/tmp/t/sub/b", &at("new")).await.unwrap();
    assert_eq!(std::fs::metadata(at("new")).unwrap().permissions().mode() & 0o7777, 0o600);
    // Neither setuid nor setgid reaches the host.
    assert_eq!(std::fs::metadata(at("a")).unwrap().permissions().mode() & 0o7777, 0o755);
    pull("/tmp/t", &at("d")).await.unwrap();
    pull("/tmp/t", &at("d")).await.unwrap();
    pull("/tmp/t/.", &at("d")).await.unwrap();
    assert_eq!(names(&at("d")), ["a", "l", "sub", "t"]);
    assert_eq!(names(&at("d/t")), ["a", "l", "sub"]);
    assert_eq!(std::fs::read_link(at("d/l")).unwrap(), Path::new("/etc/passwd"));
    pull("/tmp/t/l", &at("link")).await.unwrap();
    assert!(at("link").is_symlink());

    for (from, dest, why) in [
        ("/tmp/none", at("x"), "path \"/tmp/none\" not found".to_owned()),
        ("/tmp/t/a", at("no/x"), format!("path \"{}\" not found", at("no").display())),
        ("/tmp/t/a", at("x/"), format!("path \"{}\" not found", at("x/").display())),
        ("/tmp/t/a/", at("x"), "invalid path \"/tmp/t/a/\": it is not a directory".into()),
        (
            "/tmp/t",
            at("new"),
            format!(
                "invalid path \"{}\": it is not a directory, what is pulled is one",
                at("new").display()
            ),
        ),
        (
            "/tmp/t/..",
            at("d"),
            "invalid path \"/tmp/t/..\": it has no name of its own; say what to call the copy"
                .into(),
        ),
    ] {
        assert_eq!(pull(from, &dest).await.unwrap_err().to_string(), why);
    }
    std::fs::create_dir_all(at("way/a")).unwrap();
    let err = pull("/tmp/t/a", &at("way")).await.unwrap_err();
    assert!(err.to_string().ends_with("a directory is in the way"), "{err}");
    assert_eq!(names(&at("way")), ["a"]);
}

#[tokio::test]
async fn links_are_never_followed() {
    let (pixels, memory) = with_tree().await;
    let dir = tempfile::tempdir().unwrap();
    let (dest, outside) = (dir.path().join("dest"), dir.path().join("outside"));
    std::fs::create_dir_all(dest.join("t")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "mine").unwrap();
    // A link where a directory goes is refused, one where a file goes is replaced.
    symlink(&outside, dest.join("t/sub")).unwrap();
    symlink(outside.join("file"), dest.join("t/a")).unwrap();
    let err = pixels.pull(&to("/tmp/t"), &dest, PullOpts::default()).await.unwrap_err();
    assert!(err.to_string().ends_with("no link is followed"), "{err}");
    assert_eq!(names(&outside), ["file"]);
    assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"mine");
    assert_eq!(std::fs::symlink_metadata(dest.join("t/a")).unwrap().len(), 4);

    // A pixel that lists one name twice: first as a link, then as a directory behind it.
    let out = outside.clone();
    let session = memory.files(&name("box")).await.unwrap();
    let target = out.to_str().unwrap().as_bytes().to_vec();
    session.symlink(&target, b"/tmp/t/evil", None).await.unwrap();
    let backend = Hostile::new(memory.clone()).listing(|path, mut entries| {
        if path == b"/tmp/t"
            && let Some(sub) = entries.iter().find(|e| e.name == b"sub").cloned()
        {
            entries.push(DirEntry { name: b"evil".to_vec(), ..sub });
        }
        if path == b"/tmp/t/evil" {
            let stat = entries.first().map(|e| e.stat);
            return stat
                .map(|stat| DirEntry { name: b"file".to_vec(), stat })
                .into_iter()
                .collect();
        }
        entries
    });
    for place in ["fresh", "dest"] {
        let place = dir.path().join(place);
        let pull = backend.pixels();
        assert!(pull.pull(&to("/tmp/t"), &place, PullOpts::default()).await.is_err());
        assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"mine");
        assert_eq!(names(&outside), ["file"]);
    }
    assert!(!dir.path().join("fresh").exists());
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    let (_, memory) = with_tree().await;
    for bad in [&b".."[..], b".", b"", b"x/y", b"/etc/passwd", b"../../x", b"a\0b"] {
        let backend = Hostile::new(memory.clone()).listing(move |_, mut entries| {
            if let Some(first) = entries.first_mut() {
                first.name = bad.to_vec();
            }
            entries
        });
        let dir = tempfile::tempdir().unwrap();
        let pixels = backend.pixels();
        let err = pixels.pull(&to("/tmp/t"), &dir.path().join("x"), PullOpts::default()).await;
        assert_eq!(err.unwrap_err().code(), "invalid");
        assert!(names(dir.path()).is_empty());
    }
}

#[tokio::test]
async fn a_tree_without_end_is_refused() {
    let (_, memory) = with_tree().await;
    // Every directory claims to hold another one.
    let backend = Hostile::new(memory.clone());
    let session = memory.files(&name("box")).await.unwrap();
    let mut path = b"/tmp/t".to_vec();
    for _ in 0..300 {
        path.extend_from_slice(b"/d");
        session.mkdir(&path, 0o755, None).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let err = backend
        .pixels()
        .pull(&to("/tmp/t"), &dir.path().join("x"), PullOpts::default())
        .await
        .unwrap_err();
    assert!(err.to_string().ends_with("it is nested deeper than 256 directories"), "{err}");
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn a_fifo_in_the_tree_is_an_error_not_a_hang() {
    let (pixels, memory) = with_tree().await;
    memory.mkfifo(&name("box"), b"/tmp/t/sub/fifo").unwrap();
    let dir = tempfile::tempdir().unwrap();
    for dest in [dir.path().join("x"), dir.path().to_owned()] {
        let err = pixels.pull(&to("/tmp/t"), &dest, PullOpts::default()).await.unwrap_err();
        let want = "invalid path \"/tmp/t/sub/fifo\": a FIFO, socket or device cannot be copied";
        assert_eq!(err.to_string(), want);
    }
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn what_was_half_made_is_gone() {
    let (_, memory) = with_tree().await;
    for act in [Act::Fail, Act::Hang] {
        let backend = Hostile::new(memory.clone()).hook(move |op, path| {
            if op == "open_read" && path.ends_with(b"/sub/b") { act } else { Act::Go }
        });
        let dir = tempfile::tempdir().unwrap();
        let (dest, from, pixels) = (dir.path().join("x"), to("/tmp/t"), backend.pixels());
        let pull = pixels.pull(&from, &dest, PullOpts::default());
        if act == Act::Fail {
            assert_eq!(pull.await.unwrap_err().to_string(), "open_read: the test says no");
        } else {
            poll_once(pull).await;
        }
        assert!(names(dir.path()).is_empty());
        // Over a tree that is there, what was replaced stays and nothing odd is left.
        std::fs::create_dir_all(dest.join("sub")).unwrap();
        let inode = std::fs::metadata(&dest).unwrap().ino();
        let from = to("/tmp/t/.");
        let pull = pixels.pull(&from, &dest, PullOpts::default());
        if act == Act::Fail {
            assert!(pull.await.is_err());
        } else {
            poll_once(pull).await;
        }
        assert_eq!(std::fs::metadata(&dest).unwrap().ino(), inode);
        assert_eq!(names(&dest), ["a", "l", "sub"]);
        assert!(names(&dest.join("sub")).is_empty());
    }
}
