//! Whose things are after a push, and which permission bits go along.

use std::os::unix::fs::{PermissionsExt, symlink};

use pixels_sandbox::*;

use super::push::to;
use super::{name, with_box};

const GIVEN: Owner = Owner { uid: 1234, gid: 4321 };

#[tokio::test]
async fn everything_pushed_belongs_to_the_owner_and_sets_no_ids() {
    let (pixels, memory) = with_box().await;
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("t");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("sub/tool"), "#!").unwrap();
    symlink("tool", source.join("sub/link")).unwrap();
    let mode = |path: &str, mode| {
        let mode = PermissionsExt::from_mode(mode);
        std::fs::set_permissions(source.join(path), mode).unwrap();
    };
    mode("sub/tool", 0o6751);
    mode("sub", 0o3575);
    let session = memory.files(&name("box")).await.unwrap();
    // A new tree, and the same over itself by another owner: files and links are
    // replaced, a directory that is there stays as it is.
    let owner = |owner| PushOpts { owner: Some(owner), ..PushOpts::default() };
    let sources = [source.clone()];
    pixels.push(&sources, &to("/tmp"), owner(Owner { uid: 1, gid: 2 })).await.unwrap();
    session.remove_file(b"/tmp/t/sub/link").await.unwrap();
    session.symlink(b"elsewhere", b"/tmp/t/sub/link", None).await.unwrap();
    pixels.push(&sources, &to("/tmp"), owner(GIVEN)).await.unwrap();
    for (path, mode, owner) in [
        (&b"/tmp/t/sub/tool"[..], 0o751, GIVEN),
        (b"/tmp/t/sub/link", 0o777, GIVEN),
        (b"/tmp/t/sub", 0o1575, Owner { uid: 1, gid: 2 }),
    ] {
        let stat = session.stat(path, false).await.unwrap();
        let shown = String::from_utf8_lossy(path);
        assert_eq!((stat.mode, stat.owner), (mode, owner), "{shown}: {:o}", stat.mode);
    }
    assert_eq!(session.read_link(b"/tmp/t/sub/link").await.unwrap(), b"tool");
}

#[tokio::test]
async fn what_is_pulled_sets_no_ids_on_this_host() {
    let (pixels, memory) = with_box().await;
    let session = memory.files(&name("box")).await.unwrap();
    session.mkdir(b"/tmp/t", 0o7755, Some(GIVEN)).await.unwrap();
    let opts = WriteOpts { mode: Some(0o7755), owner: Some(GIVEN), mtime: None };
    session.write(b"/tmp/t/tool", Box::pin(&b"#!"[..]), opts).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    pixels.pull(&to("/tmp/t"), dir.path(), PullOpts::default()).await.unwrap();
    for (path, expected) in [("t", 0o1755), ("t/tool", 0o1755)] {
        let meta = std::fs::metadata(dir.path().join(path)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, expected, "{path}");
    }
}
