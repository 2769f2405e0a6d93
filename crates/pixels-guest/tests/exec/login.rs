//! Profiles may set things; they can neither touch the command's streams nor
//! pass unnoticed when they fail.

use pixels_guest_api::ReportKind;

use crate::harness::*;

#[test]
fn a_profile_cannot_eat_stdin_or_dirty_stdout() {
    need_root!("a_profile_cannot_eat_stdin_or_dirty_stdout");
    for shell in ["/bin/sh", "/bin/bash"] {
        let home = Home::new(shell, "echo noise; cat; umask 027; cd /; export X=1; PATH=$PATH:/x");
        let outcome = home.run(direct(&["cat"]), b"input");
        assert_eq!((outcome.code(), outcome.text()), (0, "input".into()));
        assert!(outcome.stderr.ends_with(b"noise\n"), "{outcome:?}");
        let outcome = home.run(script("pwd; umask; echo $X; echo ${PATH##*:}"), b"");
        let expected = format!("{}\n0027\n1\n/x\n", home.path().display());
        assert_eq!(outcome.text(), expected);
    }
}

#[test]
fn a_command_is_found_on_the_profiles_path() {
    need_root!("a_command_is_found_on_the_profiles_path");
    let home = Home::new("/bin/bash", "PATH=$HOME/tools");
    let tools = home.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    std::os::unix::fs::symlink("/bin/echo", tools.join("say")).unwrap();
    assert_eq!(home.run(direct(&["say", "hi"]), b"").text(), "hi\n");
    let outcome = home.run(direct(&["ls"]), b"");
    assert_eq!(outcome.report.unwrap().kind, ReportKind::NotFound);
}

#[test]
fn a_profile_that_exits_is_reported() {
    need_root!("a_profile_that_exits_is_reported");
    for shell in ["/bin/sh", "/bin/bash"] {
        let home = Home::new(shell, "exit 3");
        let outcome = home.run(script("echo ran"), b"");
        let report = outcome.report.as_ref().unwrap();
        assert_eq!(report.kind, ReportKind::LoginShell);
        assert_eq!(report.message, "the login shell exited with 3 before the command started");
        assert_eq!((outcome.code(), outcome.text()), (125, String::new()));
    }
}

#[test]
fn a_child_of_the_profile_holds_nothing_up() {
    need_root!("a_child_of_the_profile_holds_nothing_up");
    let mark = unique();
    let home = Home::new("/bin/sh", &format!("sleep {mark} >/dev/null 2>&1 &"));
    let mut request = script("exit 6");
    request.kill_on_exit = true;
    assert_eq!(home.run(request, b"").code(), 6);
    assert_eq!(marked(&mark), []);
}

#[test]
fn other_shells_are_passed_over() {
    need_root!("other_shells_are_passed_over");
    for shell in ["/usr/sbin/nologin", "/bin/false", "/no/such/bash", ""] {
        let home = Home::new(shell, "export X=profile");
        let outcome = home.run(script("echo $X"), b"");
        assert_eq!(outcome.text(), "profile\n", "{shell}");
    }
}

#[test]
fn an_empty_command_is_the_login_shell() {
    need_root!("an_empty_command_is_the_login_shell");
    let home = Home::new("/bin/bash", "export X=profile");
    let outcome = home.run(direct(&[]), b"echo $0 $X\nexit 5\n");
    assert_eq!((outcome.code(), outcome.text()), (5, "-bash profile\n".into()));
}
