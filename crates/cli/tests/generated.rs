//! Completions and man pages.

use crate::support::{pixels, run};

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let done = run(pixels(), ["completions", shell]);
        assert_eq!(done.code, Some(0), "{done:?}");
        for word in ["checkpoint", "console", "no-provision"] {
            assert!(done.text().contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn a_page_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let done = run(pixels(), [std::ffi::OsStr::new("man"), dir.path().as_os_str()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for page in ["pixels", "pixels-create", "pixels-checkpoint-restore"] {
        let text = std::fs::read_to_string(dir.path().join(format!("{page}.1"))).unwrap();
        assert!(text.contains(&page.replace('-', "\\-")), "{page}");
    }
    assert!(!dir.path().join("pixels-man.1").exists());
}
