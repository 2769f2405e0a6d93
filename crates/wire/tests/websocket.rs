//! WebSockets.

use std::time::Instant;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use pixels_wire::{Error, Message};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::Message as Raw;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::support::{head, say, unix};

async fn echo(stream: UnixStream) {
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut socket =
        tokio_tungstenite::accept_async_with_config(stream, Some(config)).await.expect("handshake");
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() || message.is_text() {
            socket.send(message).await.expect("echo");
        }
    }
}

#[tokio::test]
async fn messages_come_back_as_they_were() {
    let (_dir, client) = unix(|_, stream| echo(stream));
    let mut socket = client.websocket("/1.0/operations/x/websocket?secret=y").await.expect("open");
    let large: Bytes = (0..1_000_001u32).map(|i| (i % 253) as u8).collect();
    let messages = [
        Message::Text(String::new()),
        Message::Binary(Bytes::new()),
        Message::Text("grüße".to_owned()),
        Message::Binary(Bytes::from_static(&[0, 255, 10])),
        Message::Binary(large),
        Message::Text("ü".repeat(100_000)),
    ];
    for message in messages {
        socket.send(message.clone()).await.expect("send");
        assert!(socket.recv().await.expect("recv").as_ref() == Some(&message));
    }
    socket.close().await.expect("close");
    assert_eq!(socket.recv().await.expect("goodbye"), Some(Message::Close(None)));
    assert_eq!(socket.recv().await.expect("end"), None);
    assert!(matches!(socket.send(Message::Text("x".into())).await, Err(Error::Closed { .. })));
}

/// 64 MiB there and back at once through the halves, in pieces as exec sends them.
#[tokio::test]
async fn sixty_four_mebibytes() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 1024;
    let (_dir, client) = unix(|_, stream| async move {
        let socket = tokio_tungstenite::accept_async(stream).await.expect("handshake");
        let (mut sink, mut messages) = socket.split();
        while let Some(Ok(message)) = messages.next().await {
            if !message.is_binary() || sink.send(message).await.is_err() {
                return;
            }
        }
    });
    let (mut sender, mut receiver) = client.websocket("/").await.expect("open").split();
    let data: Bytes = (0..PIECE * PIECES).map(|i| (i * 7 + i / 251) as u8).collect();
    let begun = Instant::now();
    let send = async {
        for i in 0..PIECES {
            let piece = data.slice(i * PIECE..(i + 1) * PIECE);
            sender.feed(Message::Binary(piece)).await.expect("send");
        }
        sender.flush().await.expect("flush");
    };
    let receive = async {
        let mut all = Vec::with_capacity(data.len());
        while all.len() < PIECE * PIECES {
            match receiver.recv().await.expect("recv") {
                Some(Message::Binary(bytes)) => all.extend_from_slice(&bytes),
                other => panic!("{other:?}"),
            }
        }
        all
    };
    let ((), back) = tokio::join!(send, receive);
    let took = begun.elapsed();
    tell_rate("websocket echo", PIECE * PIECES, took);
    assert!(back == data, "what came back differs");
}

/// One message of 64 MiB, which is the largest that is taken.
#[tokio::test]
async fn one_huge_message() {
    let (_dir, client) = unix(|_, stream| echo(stream));
    let mut socket = client.websocket("/").await.expect("open");
    let data = Bytes::from(vec![7u8; 64 << 20]);
    let begun = Instant::now();
    socket.send(Message::Binary(data.clone())).await.expect("send");
    tell_rate("one message out", data.len(), begun.elapsed());
    drop(socket);
    let (_dir, client) = unix(|_, stream| async move {
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config))
            .await
            .expect("handshake");
        let _ = socket.send(Raw::binary(vec![0; (64 << 20) + 1])).await;
    });
    let mut socket = client.websocket("/").await.expect("open");
    let error = socket.recv().await.expect_err("too large");
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    assert_eq!(socket.recv().await.expect("over"), None);
}

#[tokio::test]
async fn pings_are_answered_unseen() {
    let (_dir, client) = unix(|_, stream| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("handshake");
        socket.send(Raw::Ping("are you there".into())).await.expect("ping");
        let pong = socket.next().await.expect("pong").expect("pong");
        assert_eq!(pong, Raw::Pong("are you there".into()));
        socket.send(Raw::text("thanks")).await.expect("send");
        socket.close(None).await.expect("close");
        // The goodbye is answered although the client never polls again.
        while let Some(Ok(_)) = socket.next().await {}
    });
    let mut socket = client.websocket("/").await.expect("open");
    assert_eq!(socket.recv().await.expect("recv"), Some(Message::Text("thanks".into())));
    assert_eq!(socket.recv().await.expect("recv"), Some(Message::Close(None)));
}

#[tokio::test]
async fn a_small_message_goes_out_at_once() {
    let (_dir, client) = unix(|_, stream| echo(stream));
    let (mut sender, mut receiver) = client.websocket("/").await.expect("open").split();
    for i in 0..1000 {
        let text = Message::Text(i.to_string());
        sender.send(text.clone()).await.expect("send");
        assert_eq!(receiver.recv().await.expect("recv"), Some(text));
    }
}

#[tokio::test]
async fn refusals_and_deaths() {
    let (_dir, client) = unix(|number, mut stream| async move {
        match number {
            0 => {
                head(&mut stream).await;
                say(&mut stream, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
            }
            1 => {
                let mut socket = tokio_tungstenite::accept_async(stream).await.expect("handshake");
                socket.send(Raw::text("last words")).await.expect("send");
            }
            _ => {
                head(&mut stream).await;
            }
        }
    });
    let error = client.websocket("/").await.expect_err("refused");
    assert!(
        matches!(&error, Error::Status { status: 403, body, .. } if body == b"no"),
        "{error:?}"
    );
    let mut socket = client.websocket("/").await.expect("open");
    assert_eq!(socket.recv().await.expect("recv"), Some(Message::Text("last words".into())));
    assert!(matches!(socket.recv().await, Err(Error::Closed { .. })));
    assert!(matches!(client.websocket("/").await, Err(Error::Closed { .. })));
    assert!(matches!(client.websocket("no slash").await, Err(Error::Http { .. })));
    assert_eq!(client.requests(), 3);
}

fn tell_rate(what: &str, bytes: usize, took: std::time::Duration) {
    use std::io::Write;
    let rate = bytes as f64 / 1e6 / took.as_secs_f64();
    let _ = writeln!(std::io::stderr(), "{what}: {rate:.0} MB/s");
}
