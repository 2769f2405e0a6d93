//! Drives a program on a terminal, as a person would.
//!
//! ```
//! use std::{process::Command, time::Duration};
//! use pixels_testkit::pty::Pty;
//! let soon = Duration::from_secs(10);
//! let mut pty = Pty::spawn(Command::new("cat"), 80, 24)?;
//! pty.send(b"hello\r")?;
//! pty.expect(b"hello\r\nhello\r\n", soon)?;
//! pty.send(b"\x04")?;
//! assert_eq!(pty.wait(soon)?.code(), Some(0));
//! # anyhow::Ok(())
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// A program on a terminal of its own, of which this is the other end. Dropping
/// it kills the program.
pub struct Pty {
    master: OwnedFd,
    child: Child,
    /// Readable when the program has ended.
    ended: OwnedFd,
    /// What it has shown and nobody has asked for yet.
    screen: Vec<u8>,
    /// Everybody who had the terminal open has closed it.
    closed: bool,
}

/// A terminal's modes, to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modes(String);

impl From<Termios> for Modes {
    fn from(t: Termios) -> Self {
        Self(format!(
            "{:?} {:?} {:?} {:?} {:?}",
            t.input_modes, t.output_modes, t.control_modes, t.local_modes, t.special_codes
        ))
    }
}

impl Pty {
    /// Starts `command` with a new terminal as its controlling one and as its
    /// three standard streams.
    ///
    /// # Errors
    /// No terminal is left, or the program cannot be started.
    pub fn spawn(mut command: Command, cols: u16, rows: u16) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        set_size(&master, cols, rows)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&*name, flags, Mode::empty())?;
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        // SAFETY: both are plain system calls: nothing is allocated and no lock is taken
        // between fork and exec. Descriptor 0 is the terminal by then.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child =
            command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
        // The command holds the terminal open; an end of file needs it closed here.
        drop(command);
        let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self { master, child, ended, screen: Vec::new(), closed: false })
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    ///
    /// # Errors
    /// The terminal takes nothing for 10 s: nobody reads it.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(10);
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut fds = [PollFd::new(&self.master, PollFlags::OUT | PollFlags::IN)];
            if ready(&mut fds, until)? == 0 {
                bail!("nobody reads what is typed");
            }
            let events = fds[0].revents();
            if events.contains(PollFlags::OUT) {
                // A few at a time: a terminal that is not raw holds one line, 4096 bytes.
                let chunk = &rest[..rest.len().min(512)];
                rest = &rest[rustix::io::write(&self.master, chunk)?..];
            } else if !self.read_some()? {
                bail!("the terminal is closed");
            }
        }
        Ok(())
    }

    /// Waits until `bytes` have been shown, and returns what was shown up to
    /// their end. What comes after is kept for the next call.
    ///
    /// # Errors
    /// They are not shown within `timeout` or before the end; quotes what was.
    pub fn expect(&mut self, bytes: &[u8], timeout: Duration) -> Result<Vec<u8>> {
        self.expect_with(timeout, |screen| {
            screen.windows(bytes.len()).position(|w| w == bytes).map(|at| at + bytes.len())
        })
        .with_context(|| format!("expected {:?}", String::from_utf8_lossy(bytes)))
    }

    /// As [`Pty::expect`] for anything that `find` finds: it is given what was
    /// shown and returns the end of what it looked for.
    ///
    /// # Errors
    /// As [`Pty::expect`].
    pub fn expect_with(
        &mut self,
        timeout: Duration,
        find: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<Vec<u8>> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(end) = find(&self.screen) {
                return Ok(self.screen.drain(..end).collect());
            }
            let shown = String::from_utf8_lossy(&self.screen);
            if self.closed {
                bail!("the terminal is closed, it shows {shown:?}");
            }
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            if ready(&mut fds, until)? == 0 {
                bail!("after {timeout:?} it shows {shown:?}");
            }
            self.read_some()?;
        }
    }

    /// Changes the terminal's size; the program gets SIGWINCH.
    ///
    /// # Errors
    /// The system call's.
    pub fn resize(&self, cols: u16, rows: u16) -> Result<()> {
        set_size(&self.master, cols, rows)
    }

    /// The terminal's modes as they are now.
    ///
    /// # Errors
    /// The system call's.
    pub fn modes(&self) -> Result<Modes> {
        // On Linux the master shows the slave's.
        Ok(tcgetattr(&self.master)?.into())
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// The system call's.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for the program's end, reading what it shows meanwhile.
    ///
    /// # Errors
    /// It has not ended after `timeout`; quotes what it shows.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + timeout;
        loop {
            let mut fds = vec![PollFd::new(&self.ended, PollFlags::IN)];
            if !self.closed {
                fds.push(PollFd::new(&self.master, PollFlags::IN));
            }
            if ready(&mut fds, until)? == 0 {
                let shown = String::from_utf8_lossy(&self.screen);
                bail!("not ended after {timeout:?}, it shows {shown:?}");
            }
            let ended = !fds[0].revents().is_empty();
            let more = fds.get(1).is_some_and(|f| !f.revents().is_empty());
            if more {
                self.read_some()?;
            } else if ended {
                return Ok(self.child.wait()?);
            }
        }
    }

    /// What has been shown and not been asked for.
    pub fn screen(&self) -> &[u8] {
        &self.screen
    }

    /// Reads once; `false` at the end.
    fn read_some(&mut self) -> Result<bool> {
        let mut chunk = [0u8; 8192];
        match rustix::io::read(&self.master, &mut chunk[..]) {
            // EIO is how Linux says that nobody has the other end open.
            Ok(0) | Err(rustix::io::Errno::IO) => {
                self.closed = true;
                Ok(false)
            }
            Ok(n) => {
                self.screen.extend_from_slice(&chunk[..n]);
                Ok(true)
            }
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(e) => Err(io::Error::from(e).into()),
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It may have ended and been waited for: then both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: impl AsFd, cols: u16, rows: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Waits for one of `fds`; 0 when `until` has come.
fn ready(fds: &mut [PollFd<'_>], until: Instant) -> Result<usize> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(fds, Some(&left)) {
            Ok(n) => return Ok(n),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(io::Error::from(e).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Pty {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Pty::spawn(command, 101, 37).unwrap()
    }

    #[test]
    fn sizes_arrive_and_codes_come_back() {
        let script = "stty size; trap 'stty size; exit 7' WINCH; echo up; while :; do read x; done";
        let mut pty = shell(script);
        pty.expect(b"37 101\r\n", SOON).unwrap();
        pty.expect(b"up\r\n", SOON).unwrap();
        pty.resize(133, 50).unwrap();
        // Some shells run a trap only when `read` returns.
        pty.send(b"\r").unwrap();
        pty.expect(b"50 133\r\n", SOON).unwrap();
        assert_eq!(pty.wait(SOON).unwrap().code(), Some(7));
    }

    #[test]
    fn modes_are_seen_to_change_and_to_come_back() {
        let mut pty = shell("echo a; read x; stty raw; echo b; read x; stty sane; echo c; read x");
        pty.expect(b"a\r\n", SOON).unwrap();
        let before = pty.modes().unwrap();
        pty.send(b"\n").unwrap();
        pty.expect(b"b\n", SOON).unwrap();
        assert_ne!(pty.modes().unwrap(), before);
        pty.send(b"\n").unwrap();
        pty.expect(b"c\r\n", SOON).unwrap();
        pty.send(b"\n").unwrap();
        assert!(pty.wait(SOON).unwrap().success());
    }

    #[test]
    fn what_does_not_come_is_an_error_that_quotes_the_screen() {
        let mut pty = shell("echo here; read x");
        let err = pty.expect(b"there", Duration::from_millis(300)).unwrap_err();
        assert!(format!("{err:#}").contains("here"), "{err:#}");
        pty.signal(Signal::HUP).unwrap();
        assert_eq!(pty.wait(SOON).unwrap().code(), None);
        assert!(pty.expect(b"x", SOON).unwrap_err().root_cause().to_string().contains("closed"));
    }

    #[test]
    fn it_is_the_controlling_terminal() {
        let mut pty = shell("exec cat >/dev/null");
        pty.expect_with(Duration::from_millis(1), |_| Some(0)).unwrap();
        pty.send(b"x").unwrap();
        pty.expect(b"x", SOON).unwrap();
        pty.send(b"\x03").unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(pty.wait(SOON).unwrap().signal(), Some(2));
    }
}
