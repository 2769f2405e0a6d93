//! Steps at which tests let a process die, to see what is left of its work.
//!
//! `PIXELS_ENGINE_FAIL` is `<step>[:n][+]`: at the n-th time that the step is
//! reached the process that reaches it is killed; with `+` also the library's
//! own, if the step was one of a helper's. `trace=<path>` kills nobody, and
//! writes down which steps are reached.

use std::fs::File;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// All steps. `launch-`, `child-` and `tree-` are helpers', the others the library's.
pub const STEPS: &[&str] = &[
    // A pixel is made.
    "staged",
    "slot-taken",
    "layer-begun",
    "layers-referred",
    "record-begun",
    "record-written",
    "revealed",
    "made",
    // Processes are started and ended.
    "groups-made",
    "launch-asked",
    "born",
    "run-written",
    "going",
    "up",
    "watch-asked",
    "signalled",
    "ended",
    "run-removed",
    "groups-removed",
    // Pixels are removed.
    "pixel-thrown-away",
    "layer-released",
    "slot-freed",
    "trash-asked",
    // Checkpoints, restores, clones.
    "sealed",
    "copied",
    "restore-begun",
    "merged",
    // Images.
    "image-layer-begun",
    "image-layer-written",
    "image-layer-kept",
    "image-recorded",
    "image-unrecorded",
    // Helpers.
    "launch-forked",
    "launch-upper",
    "launch-cloned",
    "launch-mapped",
    "launch-linked",
    "launch-born",
    "launch-ordered",
    "launch-up",
    "child-started",
    "child-mounted",
    "child-rooted",
    "child-locked",
    "tree-begun",
    "tree-frozen",
    "tree-copied",
    "tree-thawed",
    "tree-merged",
    "tree-written",
    "tree-removed",
];

/// Where to die.
#[derive(Debug)]
pub struct Fail {
    step: String,
    left: AtomicU32,
    all: bool,
    trace: Option<File>,
}

impl Fail {
    /// Reads the text; nothing for an empty one. A path that cannot be opened
    /// traces nothing.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        if let Some(path) = text.strip_prefix("trace=") {
            let trace = File::options().append(true).create(true).open(path).ok();
            return Some(Self { step: String::new(), left: AtomicU32::new(0), all: false, trace });
        }
        let (text, all) = text.strip_suffix('+').map_or((text, false), |t| (t, true));
        let (step, n) = text.split_once(':').unwrap_or((text, "1"));
        let left = AtomicU32::new(n.parse().unwrap_or(1));
        Some(Self { step: step.into(), left, all, trace: None })
    }

    /// Whether this process is to die here.
    pub fn hits(&self, step: &str) -> bool {
        debug_assert!(STEPS.contains(&step), "{step} is not in the list of steps");
        if let Some(mut trace) = self.trace.as_ref() {
            let _ = trace.write_all(format!("{step}\n").as_bytes());
        }
        self.step == step && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Whether the library dies with its helper.
    pub fn takes_all(&self) -> bool {
        self.all
    }
}

/// What this process was told, once.
pub static FAIL: OnceLock<Option<Fail>> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_hit_once() {
        let fail = Fail::parse("born:2+").unwrap();
        assert!(fail.takes_all());
        let hits: Vec<bool> =
            ["born", "up", "born", "born"].iter().map(|step| fail.hits(step)).collect();
        assert_eq!(hits, [false, false, true, false]);
        assert!(Fail::parse("").is_none());
    }
}
