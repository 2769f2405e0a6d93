//! Requests and answers over a unix socket.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Bytes;
use pixels_wire::{Body, Client, Endpoint, Error, Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use crate::support::{head, http, say, socket, unix};

/// A body whose end shows where it was cut.
fn blob(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

fn text(answer: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
}

#[tokio::test]
async fn requests_in_sequence_share_a_connection() {
    let (_dir, client) = http(|request| async move {
        let line = format!("{} {}", request.method(), request.uri());
        let body = request.into_body().collect().await.expect("body").to_bytes();
        Response::builder()
            .status(201)
            .header("x-length", body.len())
            .body(Full::new(Bytes::from(line)))
            .expect("answer")
    });
    for i in 0..20 {
        let request = Request::new(Method::POST, format!("/a?b={i}")).body(vec![0u8; i * 1000]);
        let answer = client.request(request).await.expect("answer");
        assert_eq!(answer.status, 201);
        assert_eq!(answer.headers["x-length"], (i * 1000).to_string());
        assert_eq!(answer.body, format!("POST /a?b={i}"));
    }
    assert_eq!((client.requests(), client.connections()), (20, 1));
}

#[tokio::test]
async fn busy_connections_do_not_block_others() {
    let (_dir, client) = http(|request| async move {
        if request.uri().path() == "/wait" {
            std::future::pending::<()>().await;
        }
        Response::new(Full::new(Bytes::from("now")))
    });
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.request(Request::get("/wait")).await }
    });
    while client.requests() == 0 {
        tokio::task::yield_now().await;
    }
    let answers =
        futures_util::future::join_all((0..12).map(|_| client.request(Request::get("/")))).await;
    assert!(answers.into_iter().all(|a| a.is_ok_and(|a| a.body == "now")));
    assert_eq!((client.requests(), client.connections()), (13, 13));
    client.request(Request::get("/")).await.expect("answer");
    assert_eq!(client.connections(), 13);
    waiting.abort();
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let (_dir, client) = http(|request| async move {
        let length = request.headers().get("content-length").cloned();
        let body = request.into_body().collect().await.expect("body").to_bytes();
        let mut answer = Response::new(Full::new(body));
        if let Some(length) = length {
            answer.headers_mut().insert("x-announced", length);
        }
        answer
    });
    let data = blob(3_000_001);
    for length in [None, Some(data.len() as u64)] {
        let body = Body::from_reader(std::io::Cursor::new(data.clone()), length);
        let mut answer =
            client.request_stream(Request::new(Method::PUT, "/").body(body)).await.expect("answer");
        assert_eq!(answer.headers.contains_key("x-announced"), length.is_some());
        assert_eq!(answer.body.length(), Some(data.len() as u64));
        let mut back = Vec::new();
        answer.body.read_to_end(&mut back).await.expect("body");
        assert!(back == data);
    }
    assert_eq!(client.connections(), 1, "read to the end, a streamed answer frees its connection");
    let longer = Body::from_reader(std::io::Cursor::new(data.clone()), Some(5));
    let answer = client.request(Request::new(Method::PUT, "/").body(longer)).await.expect("answer");
    assert_eq!(answer.body, &data[..5]);

    let shorter = Body::from_reader(&b"abc"[..], Some(5));
    let error =
        client.request(Request::new(Method::PUT, "/").body(shorter)).await.expect_err("short");
    assert!(matches!(error, Error::Upload { .. }), "{error:?}");
    assert!(error.to_string().ends_with("it is shorter than announced"), "{error}");
}

#[tokio::test]
async fn a_stale_connection_costs_a_get_nothing() {
    // The first connection dies only after the second request was sent on it.
    let (_dir, client) = unix(|number, mut stream| async move {
        while head(&mut stream).await.is_some() {
            say(&mut stream, &text("x")).await;
            if number == 0 {
                head(&mut stream).await;
                return;
            }
        }
    });
    client.request(Request::get("/")).await.expect("first");
    client.request(Request::get("/")).await.expect("sent again on a fresh connection");
    assert_eq!((client.requests(), client.connections()), (3, 2));
}

#[tokio::test]
async fn a_post_that_may_have_arrived_is_not_repeated() {
    let (_dir, client) = unix(|_, mut stream| async move {
        head(&mut stream).await;
        say(&mut stream, &text("x")).await;
        head(&mut stream).await;
    });
    client.request(Request::get("/")).await.expect("first");
    let post = Request::new(Method::POST, "/").body("{}");
    let error = client.request(post).await.expect_err("not repeated");
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    assert_eq!((client.requests(), client.connections()), (2, 1));
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_not_tried_again() {
    let (_dir, client) = unix(|_, mut stream| async move {
        head(&mut stream).await;
    });
    let error = client.request(Request::get("/")).await.expect_err("died");
    assert!(error.to_string().ends_with("closed the connection"), "{error}");
    assert_eq!(client.requests(), 1);
}

#[tokio::test]
async fn a_server_that_dies_in_the_body() {
    let (_dir, client) = unix(|number, mut stream| async move {
        head(&mut stream).await;
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
        let sized = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello";
        say(&mut stream, if number % 2 == 0 { sized } else { chunked }).await;
    });
    for _ in 0..2 {
        let error = client.request(Request::get("/")).await.expect_err("cut off");
        assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    }
    let mut answer = client.request_stream(Request::get("/")).await.expect("head");
    let mut body = Vec::new();
    answer.body.read_to_end(&mut body).await.expect_err("cut off");
    assert_eq!(body, b"hello");
}

#[tokio::test]
async fn answers_are_bounded() {
    let (_dir, client) = unix(|number, mut stream| async move {
        head(&mut stream).await;
        if number == 0 {
            say(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n").await;
            return std::future::pending().await;
        }
        // Endless and without a length.
        say(&mut stream, "HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 100]).await.is_ok() {}
    });
    let client = client.with_body_limit(1000);
    for _ in 0..2 {
        let error = client.request(Request::get("/")).await.expect_err("too large");
        assert!(matches!(error, Error::TooLarge { limit: 1000, .. }), "{error:?}");
    }
    assert_eq!(client.connections(), 2);
}

#[tokio::test]
async fn what_is_no_http() {
    let (_dir, client) = unix(|_, mut stream| async move {
        head(&mut stream).await;
        say(&mut stream, "SSH-2.0-OpenSSH\r\n\r\n").await;
    });
    let error = client.request(Request::get("/")).await.expect_err("no HTTP");
    assert!(matches!(error, Error::Http { .. }), "{error:?}");
    for path in ["no-slash", "/a b", "/a\r\nX: y", ""] {
        let error = client.request(Request::get(path)).await.expect_err("no path");
        assert!(error.to_string().ends_with("invalid path"), "{error}");
    }
    assert_eq!(client.requests(), 1);
}

#[tokio::test]
async fn sockets_that_cannot_be_reached() {
    let (dir, path) = socket();
    let client = Client::new(Endpoint::Unix(path.clone()));
    let error = client.request(Request::get("/")).await.expect_err("no socket");
    assert_eq!(error.to_string(), format!("no socket at {}", path.display()));
    assert!(error.is_unreachable());

    drop(UnixListener::bind(&path).expect("bind"));
    let error = client.request(Request::get("/")).await.expect_err("dead socket");
    assert_eq!(error.to_string(), format!("{} refused the connection", path.display()));

    // Root may connect to anything; the rule is shown where it applies.
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).expect("chmod");
    if !rustix::process::geteuid().is_root() {
        let error = client.request(Request::get("/")).await.expect_err("no permission");
        assert_eq!(error.to_string(), format!("permission denied on {}", path.display()));
    }
    drop(dir);
    assert_eq!((client.requests(), client.connections()), (0, 0));
}

#[tokio::test]
async fn a_full_backlog_is_waited_for() {
    let (_dir, path) = socket();
    let listener = small_listener(&path);
    let client = Client::new(Endpoint::Unix(path));
    let many = futures_util::future::join_all((0..30).map(|_| client.request(Request::get("/"))));
    let serve = async {
        // The backlog is full by now; only then does anybody accept.
        while client.connections() == 0 {
            tokio::task::yield_now().await;
        }
        loop {
            let (mut stream, _) = listener.accept().await.expect("accept");
            tokio::spawn(async move {
                while head(&mut stream).await.is_some() {
                    say(&mut stream, &text("x")).await;
                }
            });
        }
    };
    let answers = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::select! {
            answers = many => answers,
            () = serve => unreachable!(),
        }
    })
    .await
    .expect("in time");
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

/// A listener with room for one waiting connection.
fn small_listener(path: &std::path::Path) -> UnixListener {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    let fd = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("socket");
    bind(&fd, &SocketAddrUnix::new(path).expect("path")).expect("bind");
    listen(&fd, 1).expect("listen");
    let listener = std::os::unix::net::UnixListener::from(fd);
    listener.set_nonblocking(true).expect("nonblocking");
    UnixListener::from_std(listener).expect("listener")
}

#[tokio::test]
async fn plain_tcp_reaches_this_machine_and_no_other() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let n = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        String::from_utf8_lossy(&head[..n]).to_ascii_lowercase()
    });
    let client = Client::new(Endpoint::Loopback { host: "127.0.0.1".into(), port });
    let answer = client.request(Request::get("/x")).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hi"[..]));
    let head = server.join().unwrap();
    assert!(head.contains(&format!("host: 127.0.0.1:{port}")), "{head}");
    // An address for documentation: nothing is sent, so this is over at once.
    let client = Client::new(Endpoint::Loopback { host: "192.0.2.1".into(), port });
    let refused = client.request(Request::get("/x")).await.unwrap_err();
    assert!(matches!(refused, Error::Resolve { .. }), "{refused}");
}
