//! Arguments that are refused: exit 2, one line and a hint, nothing opened.

use crate::support::{Done, on_memory, pixels, run};

fn refused(args: &[&str]) -> Done {
    let done = run(pixels(), args);
    assert_eq!(done.code, Some(2), "{args:?}: {done:?}");
    assert!(done.stdout.is_empty(), "{args:?}: {done:?}");
    done
}

#[test]
fn one_line_and_a_hint() {
    for args in [
        &["create"][..],
        &["create", "My Box"],
        &["create", "a", "--memory", "lots"],
        &["create", "a", "--egress", "some"],
        &["create", "a", "--from", "b:"],
        &["create", "a", "--from", "b", "--image", "c"],
        &["create", "a", "--ttl", "90"],
        &["create", "a", "--env", "=x"],
        &["run"],
        &["exec", "a"],
        &["exec", "a", "--rooot", "ls"],
        &["exec", "a", "--timeout", "soon", "ls"],
        &["stop"],
        &["stop", "a", "--all"],
        &["stop", "a", "--force", "--timeout", "3"],
        &["checkpoint", "create", "a", "b/c"],
        &["cp", "restore", "a"],
        &["push", "x", "no-colon"],
        &["nonsense"],
        &["list", "--nonsense"],
        &["completions", "tcl"],
        &["network", "set", "a", "b"],
        &["create", "a", "--from", "b", "--network", "none"],
        &["forward", "a"],
        &["forward", "a", "80:0"],
        &["forward", "a", "0"],
        &["forward", "a", "65536:80"],
        &["forward", "a", "80:"],
        &["forward", "a", "+80"],
        &["forward", "a", "127.0.0.1:80:80"],
        &["image", "import"],
        &["image", "import", "a", "b"],
        &["image", "remove"],
    ] {
        let done = refused(args);
        let lines: Vec<_> = done.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{args:?}: {}", done.stderr);
        assert!(lines[0].starts_with("error: "), "{args:?}: {}", done.stderr);
        assert!(lines[1].starts_with("hint: "), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn our_own_rules_speak_for_themselves() {
    assert_eq!(
        refused(&["create", "My\x1b[31m Box"]).stderr,
        "error: invalid name \"My[31m Box\": a name is 1 to 59 lower-case letters, digits and \
         inner hyphens (a leading px- is dropped)\nhint: pixels create --help shows how it is used\n"
    );
    let done = refused(&["checkpoint", "delete", "a"]);
    assert!(done.stderr.contains("pixels checkpoint delete --help"), "{}", done.stderr);
}

#[test]
fn errors_as_json() {
    let done = refused(&["--json", "create", "My Box"]);
    assert!(done.stderr.starts_with("{\"error\":{\"code\":\"usage\""), "{}", done.stderr);
    let done = run(on_memory(), ["list", "--json", "--backend", "x"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("\"code\":\"invalid\""), "{done:?}");
    let done = run(on_memory(), ["start", "nobody", "--json"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("\"code\":\"not_found\""), "{done:?}");
    assert_eq!(done.text(), "[]\n");
}

#[test]
fn nothing_at_all_is_help_on_stderr() {
    let done = run(pixels(), [""; 0]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("Usage: pixels"), "{done:?}");
}

#[test]
fn a_console_needs_one_pixel() {
    let done = run(on_memory(), ["create", "a", "b", "--console"]);
    assert_eq!(done.code, Some(2), "{done:?}");
}

#[test]
fn a_missing_configuration_file_is_named() {
    let done = run(pixels(), ["list", "--config", "/nonexistent/x.toml"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.starts_with("error: /nonexistent/x.toml: "), "{done:?}");
}

#[test]
fn a_backend_without_images_of_its_own_says_so() {
    for args in [&["image", "import", "./a.tar"][..], &["image", "remove", "a", "b"]] {
        let done = run(on_memory(), args);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains("does not support"), "{}", done.stderr);
        assert!(done.stdout.is_empty(), "{done:?}");
    }
}
