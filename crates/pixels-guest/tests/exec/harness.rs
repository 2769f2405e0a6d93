//! Runs the binary as a backend would and plays the host's part.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use pixels_guest_api::{ExecRequest, Nonce, READY_MARKER, Report, ReportFilter, UserSpec};

/// The binary under test.
pub const GUEST: &str = env!("CARGO_BIN_EXE_pixels-guest");

/// The user and group id of `nobody`.
pub const NOBODY: u32 = 65534;

/// Says so and answers false where this test cannot run.
pub fn root(test: &str) -> bool {
    // SAFETY: always succeeds, no pointers.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("{test}: cannot run: it needs root");
    }
    root
}

/// Skips a test by name where there is no root.
macro_rules! need_root {
    ($name:literal) => {
        if !$crate::harness::root($name) {
            return;
        }
    };
}
pub(crate) use need_root;

/// A text that occurs in no other process: to find the ones a test started.
pub fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    // Also a number of seconds for sleep, about a day.
    format!("86400.{:07}{n:04}", std::process::id())
}

/// A direct request: as root, without a login shell.
pub fn direct(argv: &[&str]) -> ExecRequest {
    let argv = argv.iter().map(|a| a.as_bytes().to_vec()).collect();
    ExecRequest { login: false, ..ExecRequest::new(Nonce(*b"\x01nonce of a test"), argv) }
}

/// A direct request for a shell script.
pub fn script(text: &str) -> ExecRequest {
    direct(&["/bin/sh", "-c", text])
}

/// `nobody`, by number.
pub fn nobody() -> UserSpec {
    UserSpec::Ids { uid: NOBODY, gid: NOBODY }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    /// Without the report.
    pub stderr: Vec<u8>,
    pub report: Option<Report>,
}

impl Outcome {
    pub fn code(&self) -> i32 {
        assert_eq!(self.status.signal(), None);
        self.status.code().unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A started A, its request not yet sent.
pub fn start() -> Command {
    let mut command = Command::new(GUEST);
    command.arg("exec").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a request with this stdin to its end.
pub fn run_with(mut command: Command, request: &ExecRequest, stdin: Vec<u8>) -> Outcome {
    let mut child = command.spawn().unwrap();
    let mut frame = request.encode().unwrap();
    frame.extend(stdin);
    let mut pipe = child.stdin.take().unwrap();
    // A command that does not read is no failure of the writer.
    let writer = thread::spawn(move || drop(pipe.write_all(&frame)));
    let outcome = collect(child, request.nonce);
    writer.join().unwrap();
    outcome
}

/// Reads both streams to their end and reaps.
pub fn collect(mut child: Child, nonce: Nonce) -> Outcome {
    let mut out = child.stdout.take().unwrap();
    let mut err = child.stderr.take().unwrap();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let mut raw = Vec::new();
    err.read_to_end(&mut raw).unwrap();
    // The first thing it says, also when it refuses the request.
    let raw = raw.strip_prefix(&READY_MARKER[..]).unwrap_or(&raw);
    let (mut filter, mut stderr) = (ReportFilter::new(nonce), Vec::new());
    for piece in raw.chunks(7) {
        filter.push(piece, &mut stderr);
    }
    let report = filter.finish(&mut stderr);
    let status = child.wait().unwrap();
    let stdout = reader.join().unwrap();
    Outcome { status, stdout, stderr, report }
}

/// Runs a request with an empty stdin.
pub fn run(request: &ExecRequest) -> Outcome {
    run_with(start(), request, Vec::new())
}

/// A run that goes on: its stdin stays open.
pub struct Running {
    pub child: Child,
    pub nonce: Nonce,
}

impl Running {
    /// Starts `request`, whose command prints `up` when the test may go on.
    pub fn start(request: &ExecRequest) -> Self {
        let mut child = start().spawn().unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        stdin.write_all(&request.encode().unwrap()).unwrap();
        let mut seen = [0; 3];
        let out = child.stdout.as_mut().unwrap();
        out.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"up\n");
        let nonce = request.nonce;
        Self { child, nonce }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Waits until both streams have ended, which is when B and the last of the
    /// tree are gone.
    pub fn end(self) -> Outcome {
        collect(self.child, self.nonce)
    }
}

pub fn kill(pid: i32, signal: i32) {
    // SAFETY: plain call without pointers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "kill {pid}");
}

/// The processes, zombies aside, whose arguments hold `mark`.
pub fn marked(mark: &str) -> Vec<i32> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != own as i32 && line.windows(mark.len()).any(|w| w == mark.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// The children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap()
        .split_whitespace()
        .map(|p| p.parse().unwrap())
        .collect()
}

/// A directory that every user may enter.
pub fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A home with this profile, and a passwd file that gives it to `tester`.
pub struct Home {
    pub dir: tempfile::TempDir,
    passwd: PathBuf,
}

impl Home {
    pub fn new(shell: &str, profile: &str) -> Self {
        let dir = open_dir();
        fs::write(dir.path().join(".profile"), profile).unwrap();
        let passwd = dir.path().join("passwd");
        let home = dir.path().display();
        let line = format!("tester:x:{NOBODY}:{NOBODY}::{home}:{shell}\n");
        fs::write(&passwd, line).unwrap();
        Self { dir, passwd }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A started A that sees this home's passwd file, and only it.
    pub fn start(&self) -> Command {
        let source = c_path(&self.passwd);
        let mut command = start();
        // SAFETY: only system calls on memory that was prepared before the fork.
        unsafe {
            command.pre_exec(move || {
                let none = std::ptr::null();
                let private = libc::MS_REC | libc::MS_PRIVATE;
                let failed = libc::unshare(libc::CLONE_NEWNS) != 0
                    || libc::mount(none, c"/".as_ptr(), none, private, none.cast()) != 0
                    || libc::mount(
                        source.as_ptr(),
                        c"/etc/passwd".as_ptr(),
                        none,
                        libc::MS_BIND,
                        none.cast(),
                    ) != 0;
                if failed {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            })
        };
        command
    }

    /// Runs a request as `tester` through the login shell.
    pub fn run(&self, mut request: ExecRequest, stdin: &[u8]) -> Outcome {
        request.login = true;
        request.user = UserSpec::NameOrRoot(b"tester".to_vec());
        run_with(self.start(), &request, stdin.to_vec())
    }
}

fn c_path(path: &Path) -> std::ffi::CString {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// A terminal: the host's side and the guest's. Both are close-on-exec from the
/// first moment, as tests running beside this one start processes too.
pub fn terminal(rows: u16, cols: u16) -> (File, OwnedFd) {
    use std::os::fd::{AsRawFd, FromRawFd};
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: plain call without pointers.
    let host = unsafe { libc::posix_openpt(flags) };
    assert!(host >= 0);
    // SAFETY: fresh and owned by nobody else.
    let host = unsafe { File::from_raw_fd(host) };
    let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: a descriptor of a terminal, and a size that outlives the call.
    let guest = unsafe {
        assert_eq!(libc::grantpt(host.as_raw_fd()), 0);
        assert_eq!(libc::unlockpt(host.as_raw_fd()), 0);
        assert_eq!(libc::ioctl(host.as_raw_fd(), libc::TIOCSWINSZ, &size), 0);
        libc::ioctl(host.as_raw_fd(), libc::TIOCGPTPEER, flags)
    };
    assert!(guest >= 0);
    // SAFETY: fresh and owned by nobody else.
    (host, unsafe { OwnedFd::from_raw_fd(guest) })
}
