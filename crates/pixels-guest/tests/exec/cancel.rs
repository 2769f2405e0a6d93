//! However it ends, nothing of the tree stays behind unless it was meant to.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use pixels_guest_api::{ReportKind, SIGNAL_KILL_TREE};

use crate::harness::*;

/// Children that leave their session, their parent, and ignore what they can.
fn grove(mark: &str) -> String {
    format!(
        "trap '' HUP INT TERM
         setsid sleep {mark} &
         ( ( sleep {mark} & ) & )
         ( setsid sh -c 'setsid sleep {mark} & sleep {mark}' & )
         ( setsid sh -c 'exec >/dev/null 2>&1 </dev/null; sleep {mark}' & )
         until [ $(grep -lsa 'sleep.{mark}' /proc/[0-9]*/cmdline | wc -l) -ge 6 ]; do :; done
         echo up
         exec sleep {mark}"
    )
}

#[test]
fn kill_9_of_the_direct_child_takes_the_whole_tree() {
    need_root!("kill_9_of_the_direct_child_takes_the_whole_tree");
    for login in [false, true] {
        let mark = unique();
        let mut request = script(&grove(&mark));
        request.user = nobody();
        request.login = login;
        let running = Running::start(&request);
        assert!(marked(&mark).len() >= 5, "{:?}", marked(&mark));
        running.signal(libc::SIGKILL);
        assert_eq!(running.end().status.signal(), Some(libc::SIGKILL));
        assert_eq!(marked(&mark), []);
    }
}

#[test]
fn root_children_of_a_plain_user_die_too() {
    need_root!("root_children_of_a_plain_user_die_too");
    let mark = unique();
    let dir = open_dir();
    let tool = dir.path().join("as-root");
    fs::copy("/bin/sleep", &tool).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o4755)).unwrap();
    let tool = tool.display();
    let mut request = script(&format!(
        "{tool} {mark} & ( setsid {tool} {mark} & ) ;
         until [ $(grep -lsa 'as-root.{mark}' /proc/[0-9]*/cmdline | wc -l) -ge 2 ]; do :; done
         echo up; exec sleep {mark}"
    ));
    request.user = nobody();
    let running = Running::start(&request);
    let effective_root = marked(&mark).into_iter().any(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains(&format!("Uid:\t{NOBODY}\t0\t"))
    });
    if !effective_root {
        eprintln!("root_children_of_a_plain_user_die_too: set-user-id has no effect here");
    }
    running.signal(libc::SIGKILL);
    running.end();
    assert_eq!(marked(&mark), []);
}

#[test]
fn a_tree_that_keeps_forking_is_caught() {
    need_root!("a_tree_that_keeps_forking_is_caught");
    let mark = unique();
    let request = script(&format!(
        "i=0; while [ $i -lt 150 ]; do
           setsid sh -c ': {mark}; while :; do sh -c \": {mark}; :\" & wait; done' &
           i=$((i+1));
         done; echo up; wait"
    ));
    let running = Running::start(&request);
    running.signal(libc::SIGKILL);
    running.end();
    assert_eq!(marked(&mark), []);
}

#[test]
fn death_before_the_request_ends_it_all() {
    need_root!("death_before_the_request_ends_it_all");
    let child = start().spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let mut tries = children(pid);
    while tries.is_empty() {
        std::thread::yield_now();
        tries = children(pid);
    }
    kill(pid, libc::SIGKILL);
    // Its streams end only when B has gone as well.
    let outcome = collect(child, script("").nonce);
    assert_eq!((outcome.stdout.len(), outcome.stderr.len()), (0, 0));
}

#[test]
fn the_kill_signal_takes_the_tree_and_answers_137() {
    need_root!("the_kill_signal_takes_the_tree_and_answers_137");
    let mark = unique();
    let running = Running::start(&script(&grove(&mark)));
    running.signal(SIGNAL_KILL_TREE);
    assert_eq!(running.end().code(), 137);
    assert_eq!(marked(&mark), []);
    assert_eq!(SIGNAL_KILL_TREE, libc::SIGRTMIN() + 2);
}

#[test]
fn a_signal_that_ends_the_command_takes_what_it_left() {
    need_root!("a_signal_that_ends_the_command_takes_what_it_left");
    let mark = unique();
    let text =
        format!("setsid sleep {mark} & (setsid sleep {mark} &); echo up; while :; do :; done");
    let running = Running::start(&script(&text));
    running.signal(libc::SIGTERM);
    assert_eq!(running.end().code(), 143);
    assert_eq!(marked(&mark), []);
}

#[test]
fn a_host_that_is_gone_takes_the_tree() {
    need_root!("a_host_that_is_gone_takes_the_tree");
    let mark = unique();
    let mut running = Running::start(&script(&grove(&mark)));
    // A daemon that is killed closes the pipes and tells nobody.
    drop((running.child.stdin.take(), running.child.stdout.take(), running.child.stderr.take()));
    assert_eq!(running.child.wait().unwrap().code(), Some(137));
    assert_eq!(marked(&mark), []);
}

#[test]
fn signals_reach_the_commands_group() {
    need_root!("signals_reach_the_commands_group");
    for (number, name) in [
        (libc::SIGINT, "INT"),
        (libc::SIGTERM, "TERM"),
        (libc::SIGHUP, "HUP"),
        (libc::SIGQUIT, "QUIT"),
        (libc::SIGUSR1, "USR1"),
        (libc::SIGUSR2, "USR2"),
        (libc::SIGWINCH, "WINCH"),
        (libc::SIGCONT, "CONT"),
    ] {
        let text = format!("trap 'echo got {name}; exit 9' {name}; echo up; while :; do :; done");
        let running = Running::start(&script(&text));
        running.signal(number);
        let outcome = running.end();
        assert_eq!((outcome.code(), outcome.text()), (9, format!("got {name}\n")));
    }
    let running = Running::start(&script("sleep 1000 & echo up; wait"));
    running.signal(libc::SIGTERM);
    assert_eq!(running.end().code(), 143);
}

#[test]
fn a_timeout_kills_the_tree_and_says_so() {
    need_root!("a_timeout_kills_the_tree_and_says_so");
    let mark = unique();
    let mut request = script(&grove(&mark));
    request.timeout_ms = 1500;
    let before = Instant::now();
    let outcome = run(&request);
    assert!(before.elapsed() >= Duration::from_millis(1500));
    let report = outcome.report.as_ref().unwrap();
    assert_eq!(report.kind, ReportKind::Timeout);
    assert_eq!(report.message, "timed out after 1500 ms");
    assert_eq!(outcome.code(), 124);
    assert_eq!(marked(&mark), []);

    let mut request = script("exit 3");
    request.timeout_ms = u64::MAX;
    assert_eq!(run(&request).code(), 3);
}

#[test]
fn what_the_command_leaves_behind_lives_on_unless_asked() {
    need_root!("what_the_command_leaves_behind_lives_on_unless_asked");
    let mark = unique();
    let mut request = script(&format!("sleep {mark} & echo up; exit 3"));
    let mut running = Running::start(&request);
    // The sleeper holds both streams; A must not wait for them.
    assert_eq!(running.child.wait().unwrap().code(), Some(3));
    let left = marked(&mark);
    assert_eq!(left.len(), 1);
    kill(left[0], libc::SIGKILL);
    let mut rest = Vec::new();
    running.child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();

    request.kill_on_exit = true;
    assert_eq!(Running::start(&request).end().code(), 3);
    assert_eq!(marked(&mark), []);
}

#[test]
fn a_supervisor_that_dies_is_an_error() {
    need_root!("a_supervisor_that_dies_is_an_error");
    let mark = unique();
    let running = Running::start(&script(&format!("echo up; exec sleep {mark}")));
    let [supervisor] = children(running.pid())[..] else {
        panic!("A has one child");
    };
    kill(supervisor, libc::SIGKILL);
    let mut child = running.child;
    assert_eq!(child.wait().unwrap().code(), Some(125));
    for pid in marked(&mark) {
        kill(pid, libc::SIGKILL);
    }
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let said = text.rsplit('\u{17}').next();
    assert_eq!(said, Some("error: the guest supervisor died of signal 9\n"));
}
