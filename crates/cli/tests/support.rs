//! Running the program.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The program.
pub fn pixels() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_pixels")))
}

/// The program on a backend in memory that holds one running pixel, `box`.
pub fn on_memory() -> Command {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_pixels"));
    clean(Command::new(program.with_file_name("examples").join("on-memory")))
}

/// Without the configuration and the variables of whoever runs the tests.
fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PIXELS_") {
            command.env_remove(name);
        }
    }
    command.env("XDG_CONFIG_HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// What a run came to.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Done {
    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs to the end.
pub fn run<A: AsRef<OsStr>>(mut command: Command, args: impl IntoIterator<Item = A>) -> Done {
    command.args(args).output().unwrap().into()
}

/// Runs to the end with `input` on stdin.
pub fn feed(mut command: Command, args: &[&str], input: Vec<u8>) -> Done {
    let mut child = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        // The program may end first.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.into()
}
