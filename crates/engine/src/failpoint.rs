//! Where tests let this process die; see `pixels_guest_api::fail`.

use std::env;

use pixels_guest_api::fail::{FAIL, Fail};
use rustix::process::{Signal, getpid, kill_process};

const VARIABLE: &str = "PIXELS_ENGINE_FAIL";

fn told() -> Option<&'static Fail> {
    FAIL.get_or_init(|| Fail::parse(&env::var(VARIABLE).unwrap_or_default())).as_ref()
}

fn die() {
    let _ = kill_process(getpid(), Signal::KILL);
}

/// Dies here if that is wanted.
pub(crate) fn at(step: &'static str) {
    if told().is_some_and(|fail| fail.hits(step)) {
        die();
    }
}

/// What helpers are told.
pub(crate) fn for_helpers() -> Vec<u8> {
    told().and_then(|_| env::var(VARIABLE).ok()).unwrap_or_default().into_bytes()
}

/// A helper has ended without a word.
pub(crate) fn helper_ended() {
    if told().is_some_and(Fail::takes_all) {
        die();
    }
}
