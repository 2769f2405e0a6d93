//! How many requests a command makes, counted by who passes them on.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use crate::harness::{PATIENCE, World};

/// What went through.
#[derive(Default)]
struct Seen {
    /// Connections that are open, and how many there were.
    open: usize,
    connections: usize,
    /// What the program sent on each.
    sent: Vec<Vec<u8>>,
}

/// A socket that passes everything on to the daemon's. Its thread ends with the process.
struct Proxy {
    socket: PathBuf,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Proxy {
    fn new(world: &World) -> Self {
        let socket = world.home().join("proxy.socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = world.rig().socket().unwrap();
        let seen: Arc<(Mutex<Seen>, Condvar)> = Arc::default();
        let proxy = Self { socket, seen: Arc::clone(&seen) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let at = {
                    let mut now = seen.0.lock().unwrap();
                    now.open += 1;
                    now.connections += 1;
                    now.sent.push(Vec::new());
                    now.sent.len() - 1
                };
                pass(client, &daemon, at, &seen);
            }
        });
        proxy
    }

    /// Runs the program through it; the requests it made, as `METHOD path`.
    fn requests(&self, world: &World, args: &[&str]) -> Vec<String> {
        *self.seen.0.lock().unwrap() = Seen::default();
        let mut command = world.command(args);
        command.env("PIXELS_INCUS_SOCKET", &self.socket);
        let done = crate::harness::Running::start(command).wait(PATIENCE);
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        let seen = self.seen.0.lock().unwrap();
        let (seen, late) =
            self.seen.1.wait_timeout_while(seen, PATIENCE, |seen| seen.open > 0).unwrap();
        assert!(!late.timed_out(), "a connection outlives the program");
        seen.sent.iter().flat_map(|sent| request_lines(sent)).collect()
    }

    fn connections(&self) -> usize {
        self.seen.0.lock().unwrap().connections
    }
}

fn pass(client: UnixStream, daemon: &Path, at: usize, seen: &Arc<(Mutex<Seen>, Condvar)>) {
    let server = UnixStream::connect(daemon).unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let seen = Arc::clone(seen);
    std::thread::spawn(move || {
        let (mut client, mut server) = (client, server);
        let back = std::thread::spawn(move || {
            let _ = std::io::copy(&mut server, &mut client);
            let _ = client.shutdown(Shutdown::Both);
        });
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            seen.0.lock().unwrap().sent[at].extend_from_slice(&chunk[..n]);
            if to.write_all(&chunk[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = back.join();
        seen.0.lock().unwrap().open -= 1;
        seen.1.notify_all();
    });
}

/// The heads of HTTP requests in what was sent. File contents of ours hold none.
fn request_lines(sent: &[u8]) -> Vec<String> {
    let is_request = |line: &str| {
        let mut words = line.split(' ');
        matches!(words.next(), Some("GET" | "POST" | "PUT" | "PATCH" | "DELETE"))
            && words.next().is_some_and(|path| path.starts_with("/1.0"))
            && words.next() == Some("HTTP/1.1")
    };
    sent.split(|b| *b == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| {
            // A request follows on a body that has no line end.
            let line = line.trim_end();
            let at = ["GET /", "POST /", "PUT /", "PATCH /", "DELETE /"]
                .iter()
                .filter_map(|method| line.rfind(method))
                .min();
            &line[at.unwrap_or(0)..]
        })
        .filter(|line| is_request(line))
        .map(|line| line.trim_end_matches(" HTTP/1.1").to_owned())
        .collect()
}

#[test]
fn commands_make_few_requests() {
    let world = World::shared();
    let pixel = world.pixel();
    // The guest binary is there from here on.
    world.ok(["exec", pixel, "--", "true"]);
    let proxy = Proxy::new(&world);

    let made = proxy.requests(&world, &["list"]);
    assert_eq!(made, ["GET /1.0/instances?recursion=2"], "however many pixels there are");

    let made = proxy.requests(&world, &["exec", pixel, "--", "true"]);
    let count = |part: &str| made.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("POST"), 1, "{made:#?}");
    assert_eq!(count("/websocket?"), 4, "{made:#?}");
    assert_eq!(count("/wait?"), 1, "{made:#?}");
    assert_eq!(made.len(), 6, "{made:#?}");

    let copy = world.name("few");
    let made = proxy.requests(&world, &["create", &copy, "--from", pixel]);
    // The source, the network with its leases, the copy and its end.
    assert_eq!(made.len(), 5, "{made:#?}");
    assert_eq!(made.iter().filter(|line| line.starts_with("POST")).count(), 1, "{made:#?}");
    let made = proxy.requests(&world, &["destroy", &copy]);
    assert!(made.len() <= 5, "{made:#?}");

    let made = proxy.requests(&world, &["stop", pixel, "--force"]);
    assert_eq!(made.len(), 2, "{made:#?}");
    world.ok(["start", pixel]);
}

/// No connection is opened for what needs none, and none before it is needed.
#[test]
fn help_and_the_like_open_no_connection() {
    let world = World::new();
    let proxy = Proxy::new(&world);
    let man = world.home().join("man");
    for args in [
        &["--help"][..],
        &["create", "--help"],
        &["--version"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["config", "show"],
        &["man", man.to_str().unwrap()],
    ] {
        let made = proxy.requests(&world, args);
        assert_eq!((made.len(), proxy.connections()), (0, 0), "{args:?}: {made:?}");
    }
}
