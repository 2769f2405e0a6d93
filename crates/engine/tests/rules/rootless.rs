//! Without subordinate ids an ordinary user is told what is missing.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use pixels_core::{Backend, Settings};
use pixels_engine::Engine;

/// Set in the process that is such a user.
const INNER: &str = "PIXELS_TEST_NO_IDS";
const TEST: &str = "rootless::without_subordinate_ids_the_error_says_what_helps";
/// A user that nobody has given any.
const UID: &str = "54321";

#[test]
fn without_subordinate_ids_the_error_says_what_helps() {
    if std::env::var_os(INNER).is_none() {
        if !pixels_testkit::engine::is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        // The target directory need not be open to everybody.
        let program = dir.path().join("test");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let mut other = Command::new("setpriv");
        other.args(["--reuid", UID, "--regid", UID, "--clear-groups"]).arg(program);
        other.args(["--exact", TEST]).env(INNER, "1").env("TMPDIR", "/tmp").current_dir("/");
        let said = other.output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store").display().to_string();
    let settings: Settings = [("root".to_owned(), root)].into();
    let engine = Engine::new(&settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(engine.list()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("subordinate user ids in /etc/subuid"), "{text}");
    let hint = error.hint().unwrap().to_string();
    assert!(hint.starts_with("sudo usermod --add-subuids "), "{hint}");
    assert!(hint.ends_with(UID), "{hint}");
    assert!(!dir.path().join("store").exists(), "nothing was made");
}
