//! On a terminal: the handshake, its modes, job control, and its loss.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use pixels_guest_api::{ExecRequest, ReadyScanner, ReportFilter, ReportKind};

use crate::harness::*;

struct Session {
    host: File,
    child: Child,
    seen: Vec<u8>,
}

impl Session {
    /// Starts A on a terminal, as the leader of its session or not, and sends
    /// the request once the terminal is ready for it.
    fn start(request: &ExecRequest, (rows, cols): (u16, u16), leader: bool) -> (Self, OwnedFd) {
        let (mut host, guest) = terminal(rows, cols);
        let stream = || Stdio::from(guest.try_clone().unwrap());
        let mut command = start();
        command.stdin(stream()).stdout(stream()).stderr(stream());
        // SAFETY: only system calls after the fork.
        unsafe {
            command.pre_exec(move || {
                libc::setsid();
                if leader && libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            })
        };
        let child = command.spawn().unwrap();
        drop(command);
        let (mut scanner, mut seen, mut buf) = (ReadyScanner::default(), Vec::new(), [0; 256]);
        while !scanner.is_ready() {
            let n = host.read(&mut buf).unwrap();
            scanner.push(&buf[..n], &mut seen);
        }
        host.write_all(&request.encode().unwrap()).unwrap();
        (Self { host, child, seen }, guest)
    }

    fn type_in(&mut self, text: &str) {
        self.host.write_all(text.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Reads until this text has been seen.
    fn expect(&mut self, text: &str) {
        let mut buf = [0; 1024];
        while !self.text().contains(text) {
            let n = self.host.read(&mut buf).unwrap_or(0);
            assert_ne!(n, 0, "{text} not in {}", self.text());
            self.seen.extend_from_slice(&buf[..n]);
        }
    }

    /// Reads to the end (a terminal's is an error) and reaps.
    fn end(mut self, guest: OwnedFd) -> (i32, Vec<u8>) {
        drop(guest);
        let mut buf = [0; 1024];
        while let Ok(n @ 1..) = self.host.read(&mut buf) {
            self.seen.extend_from_slice(&buf[..n]);
        }
        (self.child.wait().unwrap().code().unwrap(), self.seen)
    }
}

fn modes(fd: &OwnedFd) -> (u32, u32, u32, u32, Vec<u8>) {
    // SAFETY: an all-zero termios is valid, and filled by the call.
    let mut t: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: `t` is valid for the write.
    assert_eq!(unsafe { libc::tcgetattr(fd.as_raw_fd(), &mut t) }, 0);
    (t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_cc.to_vec())
}

#[test]
fn size_modes_term_and_exit_code() {
    need_root!("size_modes_term_and_exit_code");
    let untouched = modes(&terminal(24, 80).1);
    for (leader, login) in [(true, false), (false, false), (true, true)] {
        let mut request = script("stty size; echo $TERM; tty -s && exit 7");
        request.term = Some(b"screen-256color".to_vec());
        request.login = login;
        let (session, guest) = Session::start(&request, (33, 101), leader);
        let kept = guest.try_clone().unwrap();
        let mut session = session;
        session.expect("screen-256color");
        assert_eq!(modes(&kept), untouched);
        drop(kept);
        let (code, seen) = session.end(guest);
        // Nothing of the request was echoed.
        assert_eq!(String::from_utf8_lossy(&seen), "33 101\r\nscreen-256color\r\n");
        assert_eq!(code, 7);
    }
}

#[test]
fn job_control_and_ctrl_c() {
    need_root!("job_control_and_ctrl_c");
    for leader in [true, false] {
        let request = direct(&["bash", "--norc", "--noprofile", "-i"]);
        let (mut session, guest) = Session::start(&request, (24, 80), leader);
        session.type_in("set -m; jobs; sh -c 'echo u\"\"p; exec sleep 1000'\n");
        session.expect("up\r\n");
        session.type_in("\x03");
        session.type_in("echo code=$?\n");
        session.expect("code=130");
        session.type_in("exit 5\n");
        let (code, seen) = session.end(guest);
        assert_eq!(code, 5);
        let text = String::from_utf8_lossy(&seen);
        assert!(!text.contains("no job control"), "{text}");
        assert!(!text.contains("cannot set terminal"), "{text}");
    }
}

#[test]
fn a_lost_terminal_hangs_the_command_up() {
    need_root!("a_lost_terminal_hangs_the_command_up");
    let dir = open_dir();
    let file = dir.path().join("hup");
    let mut request = script(&format!(
        "trap 'echo hup > {}; exit 3' HUP; sleep 1000 & echo up; wait",
        file.display()
    ));
    request.kill_on_exit = true;
    let (mut session, guest) = Session::start(&request, (24, 80), true);
    session.expect("up");
    drop(guest);
    drop(session.host);
    assert_eq!(session.child.wait().unwrap().code(), Some(3));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "hup\n");
}

#[test]
fn kill_9_takes_the_tree_here_too() {
    need_root!("kill_9_takes_the_tree_here_too");
    let mark = unique();
    let request = script(&format!("setsid sleep {mark} & echo up; exec sleep {mark}"));
    let (mut session, guest) = Session::start(&request, (24, 80), true);
    session.expect("up");
    session.child.kill().unwrap();
    session.child.wait().unwrap();
    drop(guest);
    // The terminal ends when B and the whole tree have let go of it.
    let mut buf = [0; 64];
    while let Ok(1..) = session.host.read(&mut buf) {}
    assert_eq!(marked(&mark), []);
}

#[test]
fn reports_arrive_unharmed_by_newline_translation() {
    need_root!("reports_arrive_unharmed_by_newline_translation");
    let mut request = direct(&["/no/such"]);
    request.nonce = pixels_guest_api::Nonce(*b"\n\r\t\x00\x03\x04\x1b\x7f\xff\n\n\n\r\r\x11\x13");
    let (session, guest) = Session::start(&request, (24, 80), true);
    let (code, seen) = session.end(guest);
    let (mut filter, mut rest) = (ReportFilter::new(request.nonce), Vec::new());
    filter.push(&seen, &mut rest);
    let report = filter.finish(&mut rest).expect("a report");
    assert_eq!((report.kind, code), (ReportKind::NotFound, 127));
    assert_eq!(rest, b"");
}

#[test]
fn a_request_larger_than_the_terminals_buffer_arrives() {
    need_root!("a_request_larger_than_the_terminals_buffer_arrives");
    let mut request = direct(&["/bin/sh", "-c", "echo ${#1}", "sh"]);
    request.argv.push(vec![0xff; 120_000]);
    let (session, guest) = Session::start(&request, (24, 80), true);
    assert_eq!(session.end(guest), (0, b"120000\r\n".to_vec()));
}
