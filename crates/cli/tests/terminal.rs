//! console and exec -t under a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::support::on_memory;

/// A terminal with a program on it.
struct Terminal {
    /// The side that a person sits at.
    person: File,
    /// The program's side, kept open so that its modes can be looked at.
    line: OwnedFd,
    child: Child,
    seen: Vec<u8>,
}

impl Terminal {
    fn start(mut command: Command, args: &[&str], rows: u16, cols: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let line = ioctl_tiocgptpeer(&person, flags).unwrap();
        let end = || line.try_clone().unwrap();
        command.args(args).stdin(end()).stdout(end()).stderr(end());
        let mut terminal = Self {
            person: person.into(),
            child: {
                size(&line, rows, cols);
                command.spawn().unwrap()
            },
            line,
            seen: Vec::new(),
        };
        terminal.person.flush().unwrap();
        terminal
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.line).unwrap()
    }

    fn types(&mut self, text: &str) {
        self.person.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `text` has been shown after what was asked for before.
    fn shows(&mut self, text: &str) {
        while !self.seen.windows(text.len()).any(|w| w == text.as_bytes()) {
            let mut chunk = [0; 4096];
            let n = self.person.read(&mut chunk).unwrap();
            assert!(n > 0, "{text:?} not in {:?}", String::from_utf8_lossy(&self.seen));
            self.seen.extend_from_slice(&chunk[..n]);
        }
        self.seen.clear();
    }

    /// What the console's shell says to `line`.
    fn answers(&mut self, line: &str) -> String {
        self.types(&format!("{line}\r"));
        let mut answer = String::new();
        while !answer.ends_with("\n$ ") {
            let mut chunk = [0; 4096];
            let n = self.person.read(&mut chunk).unwrap();
            answer.push_str(&String::from_utf8_lossy(&chunk[..n]));
        }
        answer
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit code; its terminal has to be as it was before.
    fn ends(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        let modes = self.modes().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
        code
    }
}

fn size(line: &OwnedFd, rows: u16, cols: u16) {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(line, size).unwrap();
}

#[test]
fn the_size_the_code_and_the_modes() {
    let mut terminal = Terminal::start(on_memory(), &["console", "box"], 33, 111);
    terminal.shows("$ ");
    assert!(!terminal.modes().local_modes.contains(LocalModes::ICANON), "not raw");
    terminal.types("stty size\r");
    terminal.shows("33 111\r\n$ ");
    size(&terminal.line, 44, 99);
    terminal.signal(Signal::WINCH);
    // The new size takes its way through while the shell is being asked.
    while !terminal.answers("stty size").contains("44 99") {}
    terminal.types("exit 5\r");
    assert_eq!(terminal.ends(), Some(5));
}

#[test]
fn signals_end_a_console_and_mend_the_terminal() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let mut terminal = Terminal::start(on_memory(), &["console", "box"], 24, 80);
        terminal.shows("$ ");
        terminal.signal(signal);
        assert_eq!(terminal.ends(), Some(code));
    }
}

#[test]
fn a_terminal_for_a_command() {
    let mut terminal = Terminal::start(on_memory(), &["exec", "-t", "box", "stty", "size"], 9, 70);
    terminal.shows("9 70");
    assert_eq!(terminal.ends(), Some(0));
}

#[test]
fn destroy_asks() {
    for (answer, code) in [("n\n", 1), ("\n", 1), ("y\n", 0)] {
        let mut terminal = Terminal::start(on_memory(), &["destroy", "box"], 24, 80);
        terminal.shows("[y/N] ");
        terminal.types(answer);
        assert_eq!(terminal.ends(), Some(code), "{answer:?}");
    }
    let mut terminal = Terminal::start(on_memory(), &["destroy", "box", "--force"], 24, 80);
    terminal.shows("destroyed box");
    assert_eq!(terminal.ends(), Some(0));
}
