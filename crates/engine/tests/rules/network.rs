//! Pixels reach neither each other nor what listens on their host.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use pixels_core::{Backend, StopOpts};

use crate::harness::{Lab, Pixel, anyone, as_root, end, until};

/// Connects from a pixel; whether something answered with `hello`.
async fn connects(from: &Pixel, address: &str, port: u16) -> bool {
    let script = format!(
        "use Socket; $SIG{{ALRM}} = sub {{ exit 1 }}; alarm 3; \
         socket(S, PF_INET, SOCK_STREAM, 0) or exit 1; \
         connect(S, pack_sockaddr_in({port}, inet_aton('{address}'))) or exit 1; \
         sysread(S, $b, 5) or exit 1; exit($b eq 'hello' ? 0 : 1)"
    );
    from.root(&["perl", "-e", &script]).await.code == 0
}

/// A server in a pixel that says hello.
const SERVER: &str = "exec perl -e 'use Socket; $| = 1; socket(S, PF_INET, SOCK_STREAM, 0); \
    setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1); bind(S, pack_sockaddr_in(7777, INADDR_ANY)) or die; \
    listen(S, 5); print \"up\\n\"; while (accept(C, S)) { syswrite(C, \"hello\"); close C }'";

async fn address(lab: &Lab, pixel: &Pixel) -> String {
    lab.engine.get(&pixel.name).await.unwrap().addresses[0].to_string()
}

#[test]
fn pixels_do_not_reach_each_other() {
    as_root(|lab| async move {
        let (a, b) = (lab.pixel("net-a").await, lab.pixel("net-b").await);
        let server = a.start(SERVER).await;
        let to = address(&lab, &a).await;
        // It is there, for itself and for the host.
        assert!(connects(&a, "127.0.0.1", 7777).await);
        let host = format!("{to}:7777").to_socket_addrs().unwrap().next().unwrap();
        let said = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect_timeout(&host, Duration::from_secs(10)).unwrap();
            let mut said = [0; 5];
            stream.read_exact(&mut said).map(|()| said).unwrap()
        });
        assert_eq!(&said.await.unwrap(), b"hello");
        assert!(!connects(&b, &to, 7777).await, "one pixel reached another");
        assert_ne!(b.root(&["ping", "-c1", "-W1", &to]).await.code, 0);
        end(server).await;
    });
}

#[test]
fn services_of_the_host_are_out_of_reach() {
    anyone(&[], |lab| async move {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(b"hello");
            }
        });
        let pixel = lab.pixel("net-host").await;
        let mut to = vec!["127.0.0.1".to_owned(), "169.254.1.1".into(), "0.0.0.0".into()];
        // What a datagram outwards would come from: the host's own address.
        if let Ok(socket) = std::net::UdpSocket::bind("0.0.0.0:0")
            && socket.connect("192.0.2.1:9").is_ok()
        {
            to.push(socket.local_addr().unwrap().ip().to_string());
        }
        for address in to {
            assert!(!connects(&pixel, &address, port).await, "{address}");
        }
    });
}

#[test]
fn pasta_ends_with_its_pixel() {
    if pixels_testkit::engine::is_root() {
        return;
    }
    anyone(&[], |lab| async move {
        let pixel = lab.pixel("pasta").await;
        let Some(pid) = lab.note(&pixel.name)["pasta"]["pid"].as_u64() else {
            assert!(std::env::var("PIXELS_TEST_NETWORK").is_ok(), "it is connected by nothing");
            return;
        };
        let alive = move |pid: u64| std::path::Path::new(&format!("/proc/{pid}/stat")).exists();
        assert!(alive(pid));
        lab.engine
            .stop(&pixel.name, StopOpts { force: true, ..StopOpts::default() })
            .await
            .unwrap();
        until("it ends when the pixel is stopped", || !alive(pid)).await;
        lab.engine.start(&pixel.name).await.unwrap();
        let pid = lab.note(&pixel.name)["pasta"]["pid"].as_u64().unwrap();
        assert!(alive(pid));
        lab.engine.delete(&pixel.name).await.unwrap();
        until("it ends when the pixel is removed", || !alive(pid)).await;
    });
}
