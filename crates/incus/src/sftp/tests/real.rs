//! Against OpenSSH's server.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::sftp::{Attrs, Client, Error, FileKind, OpenFlags};

const SERVERS: &[&str] = &[
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
];

/// A session with a real server, and a directory to work in.
pub struct Rig {
    pub client: Client,
    pub dir: TempDir,
    pub server: Child,
}

impl Rig {
    pub async fn new() -> Rig {
        let server = SERVERS
            .iter()
            .find(|p| Path::new(p).exists())
            .expect("these tests need OpenSSH's sftp-server (Debian: openssh-sftp-server)");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("socket pair");
        let stdin = OwnedFd::from(theirs.try_clone().expect("clone"));
        let server = Command::new(server)
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()
            .expect("sftp-server");
        ours.set_nonblocking(true).expect("nonblocking");
        let stream = tokio::net::UnixStream::from_std(ours).expect("stream");
        Rig {
            client: Client::connect(stream).await.expect("session"),
            dir: TempDir::new().expect("temporary directory"),
            server,
        }
    }

    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.dir.path().join(name.as_ref())
    }
}

pub fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[tokio::test]
async fn names_are_bytes() {
    let rig = Rig::new().await;
    let mut names: Vec<Vec<u8>> = vec![
        b"plain".to_vec(),
        b"with\nnewline and space".to_vec(),
        b"\xff\xfe not utf-8 \x80".to_vec(),
        b"-dash".to_vec(),
        b"\x01\x1b[31m".to_vec(),
        vec![b'x'; 255],
    ];
    for name in &names {
        let path = rig.path(OsString::from_vec(name.clone()));
        let file = rig
            .client
            .open(bytes(&path), OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE, 0o640)
            .await
            .expect("create");
        file.write_at(0, name.clone().into()).await.expect("write");
        file.close().await.expect("close");
        assert_eq!(&std::fs::read(&path).expect("there"), name);
        let mut back = rig.client.read(bytes(&path)).await.expect("open");
        assert_eq!(back.chunk().await.expect("read").expect("data"), *name);
        assert_eq!(back.chunk().await.expect("end"), None);
    }
    let mut listed: Vec<Vec<u8>> = Vec::new();
    for entry in rig.client.read_dir(bytes(rig.dir.path())).await.expect("list") {
        assert_eq!(entry.attrs.kind(), Some(FileKind::File));
        assert_eq!(entry.attrs.size, Some(entry.name.len() as u64));
        assert_eq!(entry.attrs.permissions(), Some(0o640));
        listed.push(entry.name);
    }
    listed.sort();
    names.sort();
    assert_eq!(listed, names);
}

#[tokio::test]
async fn attributes() {
    let rig = Rig::new().await;
    let path = rig.path("file");
    std::fs::write(&path, b"12345").expect("write");
    let meta = std::fs::metadata(&path).expect("stat");
    let attrs = rig.client.stat(bytes(&path)).await.expect("stat");
    assert_eq!(attrs.size, Some(5));
    assert_eq!(attrs.owner, Some((meta.uid(), meta.gid())));
    assert_eq!(attrs.mode, Some(meta.mode()));
    assert_eq!(attrs.mtime().map(i64::from), Some(meta.mtime()));

    // Setuid survives being set together with the owner, who is set first.
    let wanted = Attrs {
        size: Some(3),
        owner: Some((meta.uid(), meta.gid())),
        mode: Some(0o4751),
        times: Some((1_000_000_001, 1_000_000_002)),
    };
    rig.client.set_stat(bytes(&path), &wanted).await.expect("set");
    let file =
        rig.client.open(bytes(&path), OpenFlags::READ | OpenFlags::WRITE, 0).await.expect("open");
    let got = file.stat().await.expect("fstat");
    assert_eq!((got.size, got.permissions(), got.times), (wanted.size, wanted.mode, wanted.times));
    file.set_stat(&Attrs::mode(0o600)).await.expect("fsetstat");
    assert_eq!(file.stat().await.expect("fstat").permissions(), Some(0o600));
    assert_eq!(file.read_at(1, 100).await.expect("read"), "23");
    assert_eq!(file.read_at(3, 100).await.expect("read"), "");
    file.sync().await.expect("fsync");
    file.close().await.expect("close");
}

#[tokio::test]
async fn the_tree() {
    let rig = Rig::new().await;
    let c = &rig.client;
    let (sub, a, b, link) =
        (rig.path("sub"), rig.path("sub/a"), rig.path("sub/b"), rig.path("link"));
    c.mkdir(bytes(&sub), 0o700).await.expect("mkdir");
    assert!(c.lstat(bytes(&sub)).await.expect("lstat").is_dir());
    std::fs::write(&a, "a").expect("write");
    std::fs::write(&b, "b").expect("write");
    c.rename(bytes(&a), bytes(&b)).await.expect("replaces");
    assert_eq!(std::fs::read(&b).expect("read"), b"a");
    c.hard_link(bytes(&b), bytes(&a)).await.expect("link");
    assert_eq!(std::fs::metadata(&a).expect("stat").nlink(), 2);

    c.symlink(b"sub/\xff target", bytes(&link)).await.expect("symlink");
    assert_eq!(std::fs::read_link(&link).expect("link").as_os_str().as_bytes(), b"sub/\xff target");
    assert_eq!(c.read_link(bytes(&link)).await.expect("readlink"), b"sub/\xff target");
    assert_eq!(c.lstat(bytes(&link)).await.expect("lstat").kind(), Some(FileKind::Symlink));
    assert_eq!(c.stat(bytes(&link)).await, Err(Error::NotFound));

    let up = rig.path("sub/../sub/.");
    let real = std::fs::canonicalize(&sub).expect("canonical");
    assert_eq!(c.realpath(bytes(&up)).await.expect("realpath"), bytes(&real));

    assert!(matches!(c.rmdir(bytes(&sub)).await, Err(Error::Failure { .. })));
    c.remove(bytes(&a)).await.expect("remove");
    c.remove(bytes(&b)).await.expect("remove");
    c.rmdir(bytes(&sub)).await.expect("rmdir");
    c.remove(bytes(&link)).await.expect("remove");
    assert_eq!(c.read_dir(bytes(rig.dir.path())).await.expect("list"), vec![]);
}

#[tokio::test]
async fn refusals() {
    let rig = Rig::new().await;
    let c = &rig.client;
    let gone = rig.path("gone");
    assert_eq!(c.lstat(bytes(&gone)).await, Err(Error::NotFound));
    assert_eq!(c.read(bytes(&gone)).await.err(), Some(Error::NotFound));
    assert_eq!(c.read_dir(bytes(&gone)).await, Err(Error::NotFound));
    assert_eq!(c.remove(bytes(&gone)).await, Err(Error::NotFound));
    let file = rig.path("file");
    std::fs::write(&file, "x").expect("write");
    let again = c
        .open(bytes(&file), OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE, 0o600)
        .await;
    assert!(matches!(again, Err(Error::Failure { .. })), "{again:?}");
    assert!(matches!(c.stat(b"a\0b").await, Err(Error::Failure { .. })));
    assert!(matches!(c.stat(&vec![b'a'; 1 << 20]).await, Err(Error::Failure { .. })));
    // The session is as good as before.
    c.lstat(bytes(&file)).await.expect("still there");
}

#[tokio::test]
async fn what_must_not_be_opened_shows_in_lstat() {
    let rig = Rig::new().await;
    let fifo = rig.path("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    let socket = rig.path("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bind");
    for path in [&fifo, &socket, &PathBuf::from("/dev/null")] {
        let attrs = rig.client.lstat(bytes(path)).await.expect("lstat");
        assert_eq!(attrs.kind(), Some(FileKind::Special), "{}", path.display());
    }
    let entries = rig.client.read_dir(bytes(rig.dir.path())).await.expect("list");
    assert!(entries.iter().all(|e| e.attrs.kind() == Some(FileKind::Special)), "{entries:?}");
}

#[tokio::test]
async fn five_thousand_entries() {
    let rig = Rig::new().await;
    for i in 0..5000 {
        if i % 2 == 0 {
            std::fs::write(rig.path(format!("{i}")), vec![0; i % 7]).expect("write");
        } else {
            symlink("/nowhere", rig.path(format!("{i}"))).expect("symlink");
        }
    }
    let entries = rig.client.read_dir(bytes(rig.dir.path())).await.expect("list");
    assert_eq!(entries.len(), 5000);
    for entry in entries {
        let i: usize = String::from_utf8(entry.name).expect("digits").parse().expect("number");
        if i.is_multiple_of(2) {
            assert_eq!(
                (entry.attrs.kind(), entry.attrs.size),
                (Some(FileKind::File), Some((i % 7) as u64))
            );
        } else {
            assert_eq!(entry.attrs.kind(), Some(FileKind::Symlink));
        }
    }
}

#[tokio::test]
async fn many_tasks_share_a_session() {
    let rig = Rig::new().await;
    let tasks: Vec<_> = (0..40u8)
        .map(|i| {
            let (client, path) = (rig.client.clone(), rig.path(format!("{i}")));
            tokio::spawn(async move {
                let flags = OpenFlags::WRITE | OpenFlags::CREATE;
                let file = client.open(bytes(&path), flags, 0o600).await.expect("create");
                let mut writer = file.into_writer();
                for _ in 0..10 {
                    writer.write_bytes(vec![i; 50_000].into()).await.expect("write");
                }
                writer.finish().await.expect("finish").close().await.expect("close");
                let mut reader = client.read(bytes(&path)).await.expect("open");
                let mut total = 0;
                while let Some(chunk) = reader.chunk().await.expect("read") {
                    assert!(chunk.iter().all(|b| *b == i));
                    total += chunk.len();
                }
                assert_eq!(total, 500_000);
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("task");
    }
}

#[tokio::test]
async fn a_server_that_dies() {
    let mut rig = Rig::new().await;
    let path = rig.path("file");
    std::fs::write(&path, vec![1; 10_000_000]).expect("write");
    let mut reader = rig.client.read(bytes(&path)).await.expect("open");
    reader.chunk().await.expect("read");
    rig.server.kill().await.expect("kill");
    let error = loop {
        match reader.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the end of the file is not reached"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::ConnectionLost);
    assert_eq!(rig.client.lstat(bytes(&path)).await, Err(Error::ConnectionLost));
}

#[tokio::test]
async fn the_server_ends_with_the_session() {
    let Rig { client, dir, mut server } = Rig::new().await;
    let open = client
        .open(bytes(&dir.path().join("x")), OpenFlags::WRITE | OpenFlags::CREATE, 0o600)
        .await;
    drop(client);
    // An open file keeps the session.
    let open = open.expect("create");
    open.write_at(0, "late".into()).await.expect("write");
    drop(open);
    assert!(server.wait().await.expect("exit").success());
    assert_eq!(std::fs::read(dir.path().join("x")).expect("read"), b"late");
}

#[tokio::test]
async fn permission_bits_of_a_created_file() {
    let rig = Rig::new().await;
    let path = rig.path("secret");
    rig.client
        .open(bytes(&path), OpenFlags::WRITE | OpenFlags::CREATE, 0o600)
        .await
        .expect("create");
    assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o7777, 0o600);
}
