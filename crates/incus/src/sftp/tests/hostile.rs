//! Against servers that lie, are old, or fall silent.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::sftp::{Client, Error, OpenFlags};

/// A session with a server that this test plays.
async fn played() -> (Client, Server) {
    let (ours, theirs) = duplex(1 << 20);
    let mut server = Server(theirs);
    let agree = async {
        assert_eq!(server.packet().await.expect("init"), [1, 0, 0, 0, 3]);
        server.say(&[2, 0, 0, 0, 3]).await;
        server
    };
    let (client, server) = tokio::join!(Client::connect(ours), agree);
    (client.expect("session"), server)
}

struct Server(DuplexStream);

impl Server {
    async fn packet(&mut self) -> Option<Vec<u8>> {
        let length = self.0.read_u32().await.ok()?;
        let mut packet = vec![0; length as usize];
        self.0.read_exact(&mut packet).await.ok()?;
        Some(packet)
    }

    /// The next request's kind, number and fields.
    async fn request(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let packet = self.packet().await?;
        let id = u32::from_be_bytes(packet[1..5].try_into().ok()?);
        Some((packet[0], id, packet[5..].to_vec()))
    }

    async fn say(&mut self, packet: &[u8]) {
        let _ = self.0.write_u32(packet.len() as u32).await;
        let _ = self.0.write_all(packet).await;
    }

    async fn answer(&mut self, kind: u8, id: u32, fields: &[u8]) {
        let mut packet = BytesMut::new();
        packet.put_u8(kind);
        packet.put_u32(id);
        packet.put_slice(fields);
        self.say(&packet).await;
    }

    async fn handle(&mut self, id: u32) {
        self.answer(102, id, b"\0\0\0\x01h").await;
    }
}

fn string(value: &[u8]) -> Vec<u8> {
    let mut out = (value.len() as u32).to_be_bytes().to_vec();
    out.extend(value);
    out
}

#[tokio::test]
async fn peers_that_do_not_speak_version_3() {
    for first in [
        &b"\0\0\0\x05\x02\0\0\0\x02"[..],
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\0\0\0\x01\x02",
        b"\0\0\0\0",
    ] {
        let (ours, mut theirs) = duplex(1000);
        theirs.write_all(first).await.expect("write");
        let refused = Client::connect(ours).await;
        assert!(matches!(refused, Err(Error::Protocol { .. })), "{refused:?}");
    }
    let (ours, theirs) = duplex(1000);
    drop(theirs);
    assert_eq!(Client::connect(ours).await.err(), Some(Error::ConnectionLost));
}

#[tokio::test]
async fn names_that_lead_elsewhere() {
    for name in [&b"../../etc/passwd"[..], b"a/b", b"", b"nul\0", b"/"] {
        let (client, mut server) = played().await;
        let play = async {
            let (_, id, _) = server.request().await.expect("opendir");
            server.handle(id).await;
            let (_, id, _) = server.request().await.expect("readdir");
            let fields =
                [&[0, 0, 0, 1][..], &string(name), &string(b"long"), &[0, 0, 0, 0]].concat();
            server.answer(104, id, &fields).await;
            server
        };
        let (listed, _server) = tokio::join!(client.read_dir(b"/"), play);
        assert!(matches!(listed, Err(Error::Protocol { .. })), "{listed:?}");
    }
}

#[tokio::test]
async fn answers_that_fit_no_question() {
    // To no request, of the wrong kind, of an unknown kind, success without a result.
    let status_ok = [&[0; 4][..], &string(b""), &string(b"")].concat();
    for (kind, shift, fields) in
        [(101, 7, &[0, 0, 0, 0][..]), (102, 0, b"\0\0\0\x01h"), (99, 0, b""), (101, 0, &status_ok)]
    {
        let (client, mut server) = played().await;
        let play = async {
            let (_, id, _) = server.request().await.expect("stat");
            server.answer(kind, id + shift, fields).await;
            server
        };
        let (answer, _server) = tokio::join!(client.stat(b"/"), play);
        assert!(matches!(answer, Err(Error::Protocol { .. })), "{kind}: {answer:?}");
    }
}

#[tokio::test]
async fn packets_of_four_gigabytes() {
    let (client, mut server) = played().await;
    let play = async {
        server.request().await.expect("stat");
        server.0.write_u32(u32::MAX).await.expect("write");
        server
    };
    let (answer, _server) = tokio::join!(client.stat(b"/"), play);
    assert_eq!(answer, Err(Error::Protocol { message: "packet too large".to_owned() }));
    assert!(matches!(client.stat(b"/").await, Err(Error::Protocol { .. })), "the session is over");
}

#[tokio::test]
async fn messages_are_made_safe() {
    let (client, mut server) = played().await;
    let play = async {
        let (_, id, _) = server.request().await.expect("remove");
        let text = format!("\x1b[2J\x07evil\n{}", "x".repeat(5000));
        server
            .answer(101, id, &[&[0, 0, 0, 4][..], &string(text.as_bytes()), &string(b"")].concat())
            .await;
        server
    };
    let (answer, _server) = tokio::join!(client.remove(b"/x"), play);
    let Err(Error::Failure { message }) = answer else { panic!("{answer:?}") };
    assert!(message.starts_with("[2Jevilx") && message.len() == 500, "{message:?}");
}

/// Serves one file, at most `most` bytes at once.
async fn serve_file(mut server: Server, data: &[u8], most: usize) {
    while let Some((kind, id, fields)) = server.request().await {
        match kind {
            3 => server.handle(id).await,
            5 => {
                // Length and one byte of handle come first.
                let offset = u64::from_be_bytes(fields[5..13].try_into().expect("offset")) as usize;
                let length =
                    u32::from_be_bytes(fields[13..17].try_into().expect("length")) as usize;
                let rest = data.get(offset..).unwrap_or_default();
                let piece = &rest[..rest.len().min(length).min(most)];
                if piece.is_empty() {
                    server.answer(101, id, &[0, 0, 0, 1]).await;
                } else {
                    server.answer(103, id, &string(piece)).await;
                }
            }
            _ => server.answer(101, id, &[0, 0, 0, 0]).await,
        }
    }
}

#[tokio::test]
async fn a_server_that_gives_less_than_asked_for() {
    let data: Vec<u8> = (0..1_000_003u32).map(|i| (i * 7 % 251) as u8).collect();
    for most in [100_000, 32_768, 5_000] {
        let (client, server) = played().await;
        let read = async {
            let mut back = Vec::new();
            client.read(b"/f").await.expect("open").read_to_end(&mut back).await.expect("read");
            drop(client);
            back
        };
        let (back, ()) = tokio::join!(read, serve_file(server, &data, most));
        assert!(back == data, "at most {most} at once");
    }
}

#[tokio::test]
async fn data_of_an_impossible_length() {
    for fields in [string(b""), string(&vec![0; 128 * 1024 + 1])] {
        let (client, mut server) = played().await;
        let play = async {
            let (_, id, _) = server.request().await.expect("open");
            server.handle(id).await;
            let (_, id, _) = server.request().await.expect("read");
            server.answer(103, id, &fields).await;
            server
        };
        let read = async { client.read(b"/f").await.expect("open").chunk().await };
        let (answer, _server) = tokio::join!(read, play);
        assert!(matches!(answer, Err(Error::Protocol { .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn a_handle_nobody_waits_for_is_closed() {
    let (client, mut server) = played().await;
    let opening = tokio::spawn({
        let client = client.clone();
        async move { client.open(b"/f", OpenFlags::READ, 0).await.map(drop) }
    });
    let (kind, id, _) = server.request().await.expect("open");
    assert_eq!(kind, 3);
    opening.abort();
    assert!(opening.await.is_err_and(|e| e.is_cancelled()));
    server.handle(id).await;
    let (kind, id, fields) = server.request().await.expect("close");
    assert_eq!((kind, fields), (4, string(b"h")));
    server.answer(101, id, &[0, 0, 0, 0]).await;
    drop(client);
    assert!(server.request().await.is_none(), "the session ends with its last client");
}
