use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pixels_sandbox::memory::Memory;
use pixels_sandbox::*;

use super::hostile::{Act, Hostile};
use super::verbs::poll_once;
use super::{name, with_box};

pub fn to(path: &str) -> Remote {
    Remote::parse(format!("box:{path}").as_bytes()).unwrap()
}

/// A tree with everything that is copied and is awkward.
pub fn awkward(root: &Path) {
    let odd = root.join(OsStr::from_bytes(b"odd \xff\n\x1bname"));
    std::fs::create_dir_all(odd.join("deep/er")).unwrap();
    std::fs::write(root.join("empty"), "").unwrap();
    std::fs::write(root.join("-rf"), vec![7u8; 700_000]).unwrap();
    std::fs::write(odd.join("deep/er/script"), "#!").unwrap();
    std::fs::write(odd.join("secret"), "s").unwrap();
    let mode = |path: PathBuf, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(odd.join("deep/er/script"), 0o4755);
    mode(odd.join("secret"), 0o400);
    symlink("/nowhere/at all", root.join("dangling")).unwrap();
    symlink("odd", odd.join("relative")).unwrap();
    symlink("..", odd.join("deep/loop")).unwrap();
    mode(odd.join("deep"), 0o550);
}

/// Every path below `root` with kind, permissions and content.
pub fn picture(root: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut all = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_symlink() {
                std::fs::read_link(&path).unwrap().into_os_string().as_bytes().to_vec()
            } else if meta.is_dir() {
                todo.push(path.clone());
                b"dir".to_vec()
            } else {
                std::fs::read(&path).unwrap()
            };
            let mode = if meta.is_symlink() { 0 } else { meta.permissions().mode() & 0o1777 };
            all.push((path.strip_prefix(root).unwrap().to_owned(), mode, content));
        }
    }
    all.sort();
    all
}

async fn listed(backend: &Memory, path: &[u8]) -> Vec<Vec<u8>> {
    let session = backend.files(&name("box")).await.unwrap();
    let mut names: Vec<_> =
        session.read_dir(path).await.unwrap().into_iter().map(|e| e.name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_awkward_tree_goes_there_and_back() {
    let (pixels, _) = with_box().await;
    // Works on a stopped pixel.
    pixels.stop(&name("box").into(), StopOpts::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (source, back) = (dir.path().join("tree"), dir.path().join("back"));
    std::fs::create_dir(&source).unwrap();
    awkward(&source);
    let seen: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let progress = Progress::new(move |e| sink.lock().unwrap().push(e));
    let opts = PushOpts { progress, owner: None };
    let pushed = pixels.push(std::slice::from_ref(&source), &to("/tmp/t"), opts).await.unwrap();
    assert_eq!((pushed.files, pushed.dirs, pushed.links), (4, 4, 3));
    assert_eq!(pushed.bytes, 700_003);
    let last = seen.lock().unwrap().last().cloned();
    assert_eq!(last, Some(Event::Bytes { done: 700_003, total: Some(700_003) }));

    let pulled = pixels.pull(&to("/tmp/t"), &back, PullOpts::default()).await.unwrap();
    assert_eq!(pulled, pushed);
    assert_eq!(picture(&back), picture(&source));
    let mtime = |p: &Path| std::fs::metadata(p.join("-rf")).unwrap().modified().unwrap();
    let whole =
        |t: std::time::SystemTime| t.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(whole(mtime(&back)), whole(mtime(&source)));
    // Over themselves, both ways, nothing changes. Only root writes to a
    // directory that forbids it.
    for root in [&source, &back] {
        let deep = root.join(OsStr::from_bytes(b"odd \xff\n\x1bname")).join("deep");
        std::fs::set_permissions(deep, PermissionsExt::from_mode(0o750)).unwrap();
    }
    let content = source.join(".");
    pixels.push(&[content], &to("/tmp/t"), PushOpts::default()).await.unwrap();
    pixels.pull(&to("/tmp/t/."), &back, PullOpts::default()).await.unwrap();
    assert_eq!(picture(&back), picture(&source));
}

#[tokio::test]
async fn sources_go_where_docker_cp_puts_them() {
    let (pixels, memory) = with_box().await;
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    std::fs::create_dir_all(at("d/sub")).unwrap();
    std::fs::write(at("d/f"), "f").unwrap();
    std::fs::write(at("g"), "g").unwrap();
    symlink("g", at("l")).unwrap();
    symlink("d", at("ld")).unwrap();
    let push = async |sources: &[&str], dest: &str| {
        let sources: Vec<_> = sources
            .iter()
            .map(|s| PathBuf::from(format!("{}/{s}", dir.path().display())))
            .collect();
        pixels.push(&sources, &to(dest), PushOpts::default()).await
    };
    let text =
        async |path: &str| pixels.backend().read_file(&name("box"), path, 0).await.map(|(b, _)| b);
    // A file: to a new name, into a directory, over a file.
    push(&["g"], "/tmp/new").await.unwrap();
    push(&["g"], "/tmp").await.unwrap();
    push(&["g"], "/tmp/").await.unwrap();
    push(&["d/f"], "/tmp/new").await.unwrap();
    assert_eq!(
        (text("/tmp/new").await.unwrap(), text("/tmp/g").await.unwrap()),
        (b"f".to_vec(), b"g".to_vec())
    );
    // A relative path starts at home, nothing means home.
    push(&["g"], "rel").await.unwrap();
    push(&["g"], "").await.unwrap();
    assert_eq!(text("/root/rel").await.unwrap(), text("/root/g").await.unwrap());
    // A directory: to a new name, with a slash too; inside one that exists; its content.
    push(&["d"], "/tmp/a").await.unwrap();
    push(&["d"], "/tmp/b/").await.unwrap();
    push(&["d"], "/tmp/a").await.unwrap();
    push(&["d/."], "/var").await.unwrap();
    push(&["d/."], "/tmp/c").await.unwrap();
    for path in ["/tmp/a/f", "/tmp/b/f", "/tmp/a/d/f", "/var/f", "/tmp/c/f"] {
        assert_eq!(text(path).await.unwrap(), b"f", "{path}");
    }
    // Links are links, unless a slash follows.
    push(&["l", "ld"], "/tmp").await.unwrap();
    push(&["ld/"], "/tmp/e").await.unwrap();
    let session = memory.files(&name("box")).await.unwrap();
    assert_eq!(session.read_link(b"/tmp/l").await.unwrap(), b"g");
    assert_eq!(session.read_link(b"/tmp/ld").await.unwrap(), b"d");
    assert_eq!(text("/tmp/e/f").await.unwrap(), b"f");
    // A link over a link or a file.
    push(&["l"], "/tmp").await.unwrap();

    for (sources, dest, why) in [
        (&["g"][..], "/tmp/no/", "path \"/tmp/no/\" not found"),
        (&["g"], "/tmp/no/where", "path \"/tmp/no/where\" not found"),
        (&["g", "d"], "/tmp/no", "path \"/tmp/no\" not found"),
        (&["g", "d"], "/tmp/g", "invalid path \"/tmp/g\": several sources need a directory"),
        (&["d"], "/tmp/g", "invalid path \"/tmp/g\": it is not a directory, what is pushed is one"),
        (&["g", "d/../g"], "/tmp", "invalid path \"/tmp/g\": two sources would have that name"),
    ] {
        let err = push(sources, dest).await.unwrap_err();
        assert_eq!(err.to_string(), why, "{sources:?} to {dest}");
    }
    let err = push(&["none"], "/tmp").await.unwrap_err();
    assert!(err.is_not_found() && err.to_string().contains("none"), "{err}");
    push(&["d"], "/tmp/g2").await.unwrap();
    std::fs::write(at("g2"), "").unwrap();
    let err = push(&["g2"], "/tmp").await.unwrap_err();
    assert!(err.to_string().contains("it is a directory"), "{err}");
}

#[tokio::test]
async fn special_files_are_named_before_anything_changes() {
    let (pixels, memory) = with_box().await;
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("t/z");
    std::fs::create_dir(dir.path().join("t")).unwrap();
    std::fs::write(dir.path().join("t/a"), "a").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let before = listed(&memory, b"/tmp").await;
    for source in [dir.path().join("t"), fifo.clone()] {
        let err = pixels.push(&[source], &to("/tmp"), PushOpts::default()).await.unwrap_err();
        let want = format!(
            "invalid path \"{}\": a FIFO, socket or device cannot be copied",
            fifo.display()
        );
        assert_eq!(err.to_string(), want);
    }
    assert_eq!(listed(&memory, b"/tmp").await, before);
    // One in the way in the pixel stays.
    memory.mkfifo(&name("box"), b"/tmp/a").unwrap();
    let file = dir.path().join("t/a");
    let err = pixels.push(&[file], &to("/tmp"), PushOpts::default()).await.unwrap_err();
    assert!(err.to_string().starts_with("invalid path \"/tmp/a\": a FIFO"), "{err}");
}

#[tokio::test]
async fn a_tree_appears_whole_or_not_at_all() {
    let (pixels, memory) = with_box().await;
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("t");
    std::fs::create_dir(&source).unwrap();
    awkward(&source);
    let before = listed(&memory, b"/tmp").await;
    for act in [Act::Fail, Act::Hang] {
        for (op, end) in [("write", &b"script"[..]), ("symlink", b"dangling"), ("rename", b"t")] {
            let backend = Hostile::new(memory.clone())
                .hook(move |o, path| if o == op && path.ends_with(end) { act } else { Act::Go });
            let pixels = backend.pixels();
            let sources = [source.clone()];
            let dest = to("/tmp");
            let push = pixels.push(&sources, &dest, PushOpts::default());
            if act == Act::Fail {
                assert_eq!(push.await.unwrap_err().to_string(), format!("{op}: the test says no"));
            } else {
                poll_once(push).await;
                assert_ne!(listed(&memory, b"/tmp").await, before);
                pixels.close().await.unwrap();
            }
            assert_eq!(listed(&memory, b"/tmp").await, before, "{op}");
        }
    }
    pixels.push(&[source], &to("/tmp"), PushOpts::default()).await.unwrap();
}

#[tokio::test]
async fn what_is_swapped_underneath_is_not_followed() {
    let (_, memory) = with_box().await;
    for what in ["link", "dirlink", "fifo"] {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("t");
        std::fs::create_dir_all(source.join("sub")).unwrap();
        std::fs::write(source.join("sub/a"), "harmless").unwrap();
        std::fs::create_dir(dir.path().join("other")).unwrap();
        std::fs::write(dir.path().join("other/a"), "hunter2").unwrap();
        let swapped = Arc::new(AtomicBool::new(false));
        let (done, root) = (Arc::clone(&swapped), dir.path().to_owned());
        // After the tree was looked at, before it is read.
        let backend = Hostile::new(memory.clone()).hook(move |op, _| {
            if op == "mkdir" && !done.swap(true, Ordering::SeqCst) {
                let victim = root.join("t/sub");
                if what == "dirlink" {
                    std::fs::rename(&victim, root.join("moved")).unwrap();
                    symlink(root.join("other"), &victim).unwrap();
                } else {
                    let file = victim.join("a");
                    std::fs::remove_file(&file).unwrap();
                    if what == "link" {
                        symlink(root.join("other/a"), &file).unwrap();
                    } else {
                        let fifo = rustix::fs::FileType::Fifo;
                        rustix::fs::mknodat(
                            rustix::fs::CWD,
                            &file,
                            fifo,
                            rustix::fs::Mode::RWXU,
                            0,
                        )
                        .unwrap();
                    }
                }
            }
            Act::Go
        });
        let before = listed(&memory, b"/tmp").await;
        let pixels = backend.pixels();
        let err = pixels.push(&[source], &to("/tmp"), PushOpts::default()).await.unwrap_err();
        assert_eq!(err.code(), "invalid", "{err}");
        assert!(swapped.load(Ordering::SeqCst));
        assert_eq!(listed(&memory, b"/tmp").await, before);
    }
}
