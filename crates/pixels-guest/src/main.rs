//! The static multi-call binary that pixels runs inside a pixel. Its first
//! argument names the face; see the crate `pixels-guest-api` for the protocol.

#[cfg(target_os = "linux")]
mod boot;
#[cfg(target_os = "linux")]
mod chmod;
#[cfg(target_os = "linux")]
mod dial;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod hostkey;
#[cfg(target_os = "linux")]
mod identity;
#[cfg(target_os = "linux")]
mod init;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod ready;
#[cfg(target_os = "linux")]
mod sys;

#[cfg(target_os = "linux")]
fn main() {
    use std::os::unix::ffi::OsStringExt;

    let args: Vec<Vec<u8>> = std::env::args_os().skip(1).map(|a| a.into_vec()).collect();
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    std::process::exit(linux::dispatch(&args));
}

#[cfg(not(target_os = "linux"))]
fn main() {
    std::process::exit(i32::from(pixels_guest_api::EXIT_SETUP));
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::Write;

    use pixels_guest_api::{PROTOCOL_VERSION, face};

    use crate::{boot, chmod, exec, files, host, identity, init, ready, sys};

    /// Runs the face that `args` name and returns the exit code.
    pub(crate) fn dispatch(args: &[&[u8]]) -> i32 {
        let Some((name, rest)) = args.split_first() else {
            return usage();
        };
        let is = |face: &str| *name == face.as_bytes();
        if is(face::EXEC) && rest.is_empty() {
            exec::run()
        } else if is(exec::APPLY) {
            exec::apply(rest)
        } else if is(face::VERSION) {
            let build = env!("CARGO_PKG_VERSION");
            let line = format!("pixels-guest {build} protocol {PROTOCOL_VERSION}\n");
            i32::from(std::io::stdout().write_all(line.as_bytes()).is_err())
        } else if is(face::READY) {
            ready::run(rest)
        } else if is(face::IDENTITY) {
            identity::run(rest)
        } else if is(face::BOOT) && rest.is_empty() {
            boot::run()
        } else if is(face::CHMOD) {
            chmod::run(rest)
        } else if is(face::LAUNCH) && rest.is_empty() {
            host::launch()
        } else if is(face::ENTER) && rest.is_empty() {
            host::enter()
        } else if is(face::TREE) && rest.is_empty() {
            host::tree()
        } else if is(face::WATCH) && rest.is_empty() {
            host::watch()
        } else if is(face::INIT) && rest.is_empty() {
            init::run()
        } else if is(face::FILES) {
            files::run(rest)
        } else {
            usage()
        }
    }

    fn usage() -> i32 {
        sys::fd::complain(
            "error: unknown face\nhint: exec | ready <ms> | identity [--record] <token> | boot | chmod [--follow] <octal> <path> | files [<idle ms>] | version",
        );
        i32::from(pixels_guest_api::EXIT_SETUP)
    }
}
