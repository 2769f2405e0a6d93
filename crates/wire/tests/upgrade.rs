//! Leaving HTTP.

use pixels_wire::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{head, say, unix};

#[tokio::test]
async fn bytes_sent_with_the_101_are_kept() {
    let (_dir, client) = unix(|_, mut stream| async move {
        let asked = head(&mut stream).await.expect("request").to_lowercase();
        assert!(asked.starts_with("get /1.0/sftp http/1.1\r\n"), "{asked}");
        assert!(asked.contains("\r\nconnection: upgrade\r\n"), "{asked}");
        assert!(asked.contains("\r\nupgrade: sftp\r\n"), "{asked}");
        say(
            &mut stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: sftp\r\n\r\nearly bird ",
        )
        .await;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.expect("ping");
        stream.write_all(&word).await.expect("echo");
    });
    let mut pipe = client.upgrade("/1.0/sftp", "sftp").await.expect("upgraded");
    pipe.write_all(b"ping").await.expect("write");
    let mut all = String::new();
    pipe.read_to_string(&mut all).await.expect("read");
    assert_eq!(all, "early bird ping");
    assert_eq!((client.requests(), client.connections()), (1, 1));
}

#[tokio::test]
async fn refusals_keep_status_and_body() {
    let (_dir, client) = unix(|number, mut stream| async move {
        head(&mut stream).await;
        let answer = match number {
            0 => "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found".to_owned(),
            1 => format!("HTTP/1.1 500 Oops\r\n\r\n{}", "x".repeat(200_000)),
            _ => {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"
                    .to_owned()
            }
        };
        say(&mut stream, &answer).await;
    });
    let error = client.upgrade("/a", "sftp").await.expect_err("refused");
    assert!(
        matches!(&error, Error::Status { status: 404, body, .. } if body == b"not found"),
        "{error:?}"
    );
    assert!(error.to_string().ends_with("answered 404 instead of switching protocols"), "{error}");
    let error = client.upgrade("/a", "sftp").await.expect_err("refused");
    assert!(
        matches!(&error, Error::Status { status: 500, body, .. } if body.len() == 65536),
        "{error}"
    );
    let error = client.upgrade("/a", "sftp").await.expect_err("another protocol");
    assert!(matches!(error, Error::Http { .. }), "{error:?}");
}
