//! The last step: turns this process into the command, straight from C or from
//! the login shell that C became.

use std::ffi::CString;
use std::os::fd::RawFd;

use pixels_guest_api::{EXIT_SETUP, Report, ReportKind};

use super::environment::{self, Env};
use super::search;
use super::spec::{MAX_SPEC, Spec};
use super::user::base_name;
use crate::sys::{describe, errno, fd, process, signal};

/// First byte on the report pipe: the login shell has come as far as `apply`.
pub(crate) const REACHED: u8 = b'S';
/// Before a report's payload on the report pipe.
pub(crate) const REPORT: u8 = b'R';

/// The hidden face `apply <descriptor of the spec>`.
pub(crate) fn run(args: &[&[u8]]) -> i32 {
    // Rust's start-up code ignores it, and programs would inherit that.
    signal::set_default(libc::SIGPIPE);
    let number = match args {
        [number] => std::str::from_utf8(number).ok().and_then(|n| n.parse().ok()),
        _ => None,
    };
    let spec = number
        .filter(|n: &RawFd| *n > fd::STDERR)
        .and_then(|n| fd::read_whole(n, MAX_SPEC).ok())
        .and_then(|bytes| Spec::decode(&bytes));
    let Some(spec) = spec else {
        fd::complain("error: the login shell did not keep the command's description");
        return i32::from(EXIT_SETUP);
    };
    let _ = fd::write(spec.report, &[REACHED]);
    finish(&spec, environment::own())
}

/// Becomes the command on top of `env`; returns the exit code of a failure,
/// which it has reported.
pub(crate) fn finish(spec: &Spec, env: Env) -> i32 {
    let report = match prepare(spec) {
        Ok(cwd) => {
            let env = environment::overlay(env, &cwd, &spec.env);
            if spec.argv.is_empty() {
                login_shell(&spec.session_shell, &env)
            } else {
                search::execute(&spec.argv, &env)
            }
        }
        Err(report) => report,
    };
    send(spec.report, &report);
    i32::from(report.exit_code)
}

/// Writes a report to B. It is shorter than a pipe's buffer, so never blocks.
pub(crate) fn send(pipe: RawFd, report: &Report) {
    let mut bytes = vec![REPORT];
    bytes.extend(report.encode_payload());
    let _ = fd::write_all(pipe, &bytes);
}

/// A failed system call as a report.
pub(crate) fn failed(kind: ReportKind, what: &str, errno: i32) -> Report {
    Report { kind, errno, exit_code: EXIT_SETUP, message: format!("{what}: {}", describe(errno)) }
}

/// Descriptors and directory; answers where it went.
fn prepare(spec: &Spec) -> Result<Vec<u8>, Report> {
    if let Some((stdin, stdout)) = spec.kept.streams {
        fd::dup_onto(stdin, fd::STDIN).and_then(|()| fd::dup_onto(stdout, fd::STDOUT)).map_err(
            |e| {
                let what = "the login shell closed the command's stdin or stdout";
                failed(ReportKind::LoginShell, what, errno(&e))
            },
        )?;
        fd::close(stdin);
        fd::close(stdout);
    }
    for helper in &spec.kept.helpers {
        fd::close(*helper);
    }
    let _ = fd::set_inherited(spec.report, false);

    match &spec.cwd {
        Some(cwd) => enter(cwd).map(|()| cwd.clone()),
        None => Ok([&spec.home[..], b"/"]
            .into_iter()
            .find(|dir| enter(dir).is_ok())
            .unwrap_or(b"/")
            .to_vec()),
    }
}

/// Enters an absolute directory.
fn enter(dir: &[u8]) -> Result<(), Report> {
    let entered = match CString::new(dir) {
        Ok(path) if dir.starts_with(b"/") => {
            process::change_directory(&path).map_err(|e| errno(&e))
        }
        // What a relative path is relative to, nobody said.
        _ => Err(libc::EINVAL),
    };
    entered.map_err(|errno| {
        let what = format!("cannot enter {}", String::from_utf8_lossy(dir));
        failed(ReportKind::Cwd, &what, errno)
    })
}

/// The user's login shell, interactive: a leading dash makes it one.
fn login_shell(shell: &[u8], env: &Env) -> Report {
    let strings = environment::strings(env);
    let argv0 = CString::new([b"-", base_name(shell)].concat()).unwrap_or_default();
    let errno = match CString::new(shell) {
        Ok(path) => errno(&process::execute(&path, &[argv0], &strings)),
        Err(_) => libc::ENOENT,
    };
    let what = format!("cannot run the shell {}", String::from_utf8_lossy(shell));
    failed(ReportKind::LoginShell, &what, errno)
}
