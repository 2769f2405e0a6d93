//! Runs a program as execvp(3) does, on a given environment.

use std::ffi::CString;
use std::io;

use pixels_guest_api::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Report, ReportKind};

use super::environment::{Env, strings};
use crate::sys::{describe, errno, process};

/// As the C library has it when PATH is not set at all.
const FALLBACK_PATH: &[u8] = b"/bin:/usr/bin";

/// Replaces this program by `argv`; only failure returns, as a report.
pub(crate) fn execute(argv: &[Vec<u8>], env: &Env) -> Report {
    let name = argv.first().map_or(&b""[..], Vec::as_slice);
    let args: Vec<CString> = argv.iter().filter_map(|a| CString::new(&a[..]).ok()).collect();
    if args.len() != argv.len() || name.is_empty() {
        return failure(name, libc::ENOENT);
    }
    let env_strings = strings(env);
    if name.contains(&b'/') {
        let e = attempt(name, &args, &env_strings);
        return failure(name, errno(&e));
    }
    let path = env.get(&b"PATH"[..]).map_or(FALLBACK_PATH, Vec::as_slice);
    let mut denied = false;
    for dir in path.split(|b| *b == b':') {
        // An empty entry is the working directory.
        let dir = if dir.is_empty() { &b"."[..] } else { dir };
        let e = errno(&attempt(&[dir, b"/", name].concat(), &args, &env_strings));
        match e {
            libc::EACCES => denied = true,
            libc::ENOENT
            | libc::ENOTDIR
            | libc::ENAMETOOLONG
            | libc::ESTALE
            | libc::ENODEV
            | libc::ETIMEDOUT => {}
            _ => return failure(name, e),
        }
    }
    failure(name, if denied { libc::EACCES } else { libc::ENOENT })
}

/// One try; a file that is no program is a script of the system's shell.
fn attempt(path: &[u8], args: &[CString], env: &[CString]) -> io::Error {
    let Ok(path) = CString::new(path) else {
        return io::Error::from_raw_os_error(libc::ENOENT);
    };
    let e = process::execute(&path, args, env);
    if errno(&e) != libc::ENOEXEC {
        return e;
    }
    let mut script = vec![c"/bin/sh".to_owned(), path];
    script.extend_from_slice(&args[1..]);
    let shell_error = process::execute(c"/bin/sh", &script, env);
    match errno(&shell_error) {
        // No shell to run it: the file itself is what is wrong.
        libc::ENOENT => e,
        _ => shell_error,
    }
}

fn failure(name: &[u8], errno: i32) -> Report {
    let (kind, exit_code) = match errno {
        libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG | libc::ELOOP => {
            (ReportKind::NotFound, EXIT_NOT_FOUND)
        }
        libc::E2BIG => (ReportKind::TooLong, EXIT_NOT_EXECUTABLE),
        libc::ENOMEM | libc::EAGAIN | libc::EIO | libc::EMFILE | libc::ENFILE => {
            (ReportKind::System, EXIT_NOT_EXECUTABLE)
        }
        _ => (ReportKind::NotExecutable, EXIT_NOT_EXECUTABLE),
    };
    let name = String::from_utf8_lossy(name);
    Report { kind, errno, exit_code, message: format!("cannot run {name}: {}", describe(errno)) }
}
