//! Large files, both ways.

use std::io::Write;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::real::{Rig, bytes};
use crate::sftp::{Error, OpenFlags};

const WRITE: OpenFlags = OpenFlags::WRITE;

/// Bytes that repeat nowhere near a chunk's length.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

fn tell(what: &str, bytes: usize, took: Duration) {
    let rate = bytes as f64 / 1e6 / took.as_secs_f64();
    let _ = writeln!(std::io::stderr(), "sftp {what}: {rate:.0} MB/s");
}

#[tokio::test]
async fn a_large_file_there_and_back() {
    const SIZE: usize = 256 << 20;
    let rig = Rig::new().await;
    let data = bytes::Bytes::from(noise(SIZE));
    let path = rig.path("large");
    let file =
        rig.client.open(bytes(&path), WRITE | OpenFlags::CREATE, 0o600).await.expect("create");
    let begun = Instant::now();
    let mut writer = file.into_writer();
    let copied = writer.copy_from(&mut &data[..]).await.expect("write");
    assert_eq!(copied, SIZE as u64);
    writer.finish().await.expect("finish").close().await.expect("close");
    tell("write", SIZE, begun.elapsed());

    let begun = Instant::now();
    let mut reader = rig.client.read(bytes(&path)).await.expect("open");
    let mut back = Vec::with_capacity(SIZE);
    while let Some(chunk) = reader.chunk().await.expect("read") {
        back.extend_from_slice(&chunk);
    }
    tell("read", SIZE, begun.elapsed());
    assert!(back == data, "what came back differs");
}

/// Sizes around the borders of chunks, through the tokio traits.
#[tokio::test]
async fn every_size_arrives() {
    let rig = Rig::new().await;
    let k = 1024;
    for size in [0, 1, 4095, 128 * k - 1, 128 * k, 128 * k + 1, 256 * k, 3_000_001] {
        let data = noise(size);
        let path = rig.path(size.to_string());
        let flags = WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let mut writer =
            rig.client.open(bytes(&path), flags, 0o600).await.expect("create").into_writer();
        for piece in data.chunks(100_000) {
            writer.write_all(piece).await.expect("write");
        }
        writer.shutdown().await.expect("shutdown");
        writer.shutdown().await.expect("once more is nothing");
        let mut back = Vec::new();
        let mut reader = rig.client.read(bytes(&path)).await.expect("open");
        reader.read_to_end(&mut back).await.expect("read");
        assert!(back == data, "{size} bytes differ");
        assert_eq!(reader.file().stat().await.expect("fstat").size, Some(size as u64));
        // Mixed pieces, some of which fill a chunk.
        let mut writer =
            rig.client.open(bytes(&path), flags, 0o600).await.expect("create").into_writer();
        for piece in data.chunks(200_003) {
            let (a, b) = piece.split_at(piece.len() / 3);
            writer.write_bytes(a.to_vec().into()).await.expect("write");
            writer.write_all(b).await.expect("write");
        }
        writer.finish().await.expect("finish").close().await.expect("close");
        assert!(std::fs::read(&path).expect("read") == data, "{size} bytes differ");
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_of_the_writer() {
    let rig = Rig::new().await;
    let open = rig.client.open(b"/dev/full", WRITE, 0).await.expect("open");
    let mut writer = open.into_writer();
    let error = writer.copy_from(&mut tokio::io::repeat(1)).await.expect_err("full");
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    assert!(matches!(inner, Some(Error::Failure { .. })), "{error:?}");
    assert!(matches!(writer.write_bytes("x".into()).await, Err(Error::Failure { .. })));
    assert!(matches!(writer.finish().await, Err(Error::Failure { .. })));
    // A small one is told at the end.
    let open = rig.client.open(b"/dev/full", WRITE, 0).await.expect("open");
    let mut writer = open.into_writer();
    writer.write_all(b"small").await.expect("only queued");
    assert!(matches!(writer.finish().await, Err(Error::Failure { .. })));
}
