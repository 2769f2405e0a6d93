//! forward, to the echo that a pixel in memory has on port 7.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{on_memory, run};

/// Ended in any case.
struct Forward {
    child: Child,
    at: String,
}

impl Forward {
    fn start(ports: &str) -> Self {
        let mut command = on_memory();
        command.args(["forward", "box", ports]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut at = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut at).unwrap();
        Self { child, at: at.trim().to_owned() }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.at).unwrap()
    }

    /// The exit code after `signal`, and what it said.
    fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn connections_go_through_side_by_side_and_by_halves() {
    let forward = Forward::start("0:7");
    let (mut idle, mut busy) = (forward.connect(), forward.connect());
    let sent: Vec<u8> = (0..1_000_001_u32).map(|i| (i ^ (i >> 9)) as u8).collect();
    let mut writer = busy.try_clone().unwrap();
    let copy = sent.clone();
    let feeding = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    busy.read_to_end(&mut back).unwrap();
    feeding.join().unwrap();
    assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
    // The other one was open all the time.
    idle.write_all(b"x").unwrap();
    idle.read_exact(&mut [0]).unwrap();
    let (code, said) = forward.end(Signal::INT);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0, "it is closed with the program");
}

#[test]
fn what_nothing_listens_for_is_closed_and_told() {
    let forward = Forward::start("0:8");
    for _ in 0..2 {
        assert_eq!(forward.connect().read(&mut [0]).unwrap_or(0), 0);
    }
    let (code, said) = forward.end(Signal::TERM);
    assert_eq!(code, Some(143), "{said}");
    let warning = "warning: connecting to port 8 of box: Connection refused";
    assert_eq!(said.matches(warning).count(), 2, "{said}");
}

#[test]
fn a_taken_port_is_refused_before_the_pixel_is_looked_for() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = format!("{}:7", taken.local_addr().unwrap().port());
    let done = run(on_memory(), ["forward", "nobody", &ports]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stdout.is_empty() && done.stderr.contains("the port is in use"), "{done:?}");
    let done = run(on_memory(), ["forward", "nobody", "0:7"]);
    assert!(done.stderr.contains("pixel \"nobody\" not found"), "{done:?}");
}
