//! What ends the program ends the command with everything it started.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::harness::{PATIENCE, Running, World};

/// Starts processes that are hard to find: in sessions of their own, orphaned
/// twice over, deaf to signals, under sudo where the user may. `$M` is a number
/// of seconds that occurs nowhere else.
const TREE: &str = r#"
sleep "$M" &
setsid sleep "$M" &
(setsid sh -c 'sleep "$M" & sleep "$M" &' &)
(trap "" INT TERM HUP QUIT; exec setsid nohup sleep "$M") >/dev/null 2>&1 &
if [ "$(id -u)" != 0 ]; then sudo -n sleep "$M" & fi
echo started
wait
sleep "$M"
"#;
/// How many `sleep`s that makes.
const SLEEPS: usize = 5;

/// A command line that runs the tree, and what is in the command lines of its
/// processes alone.
struct Tree {
    marker: String,
    args: Vec<String>,
}

fn tree(pixel: &str, case: u32, opts: &[&str]) -> Tree {
    // A duration to `sleep`, a unique word to us.
    let marker = format!("86400.{}{case}", std::process::id());
    let mut args = vec!["exec".to_owned(), "--env".into(), format!("M={marker}")];
    args.extend(opts.iter().map(|o| (*o).to_owned()));
    args.extend([pixel, "--", "sh", "-c", TREE].map(str::to_owned));
    Tree { marker, args }
}

/// Starts it in a process group of its own and waits until all of it is there.
fn start(world: &World, pixel: &str, tree: &Tree, least: usize) -> Running {
    let mut command = world.command(&tree.args);
    command.process_group(0);
    let running = Running::start(command);
    running.until_out(b"started\n");
    world.until_least(pixel, &tree.marker, least);
    running
}

fn group(running: &Running) -> Pid {
    Pid::from_raw(i32::try_from(running.pid()).unwrap()).unwrap()
}

#[test]
fn an_interrupt_of_the_group_leaves_nothing() {
    let world = World::shared();
    let tree = tree(world.pixel(), 1, &["--root"]);
    let running = start(&world, world.pixel(), &tree, SLEEPS);
    kill_process_group(group(&running), Signal::INT).unwrap();
    let done = running.wait(PATIENCE);
    assert_eq!((done.code, done.err().as_str()), (Some(130), ""));
    world.until_gone(world.pixel(), &tree.marker);
}

#[test]
fn sigterm_leaves_nothing() {
    let world = World::shared();
    let tree = tree(world.pixel(), 2, &["--root"]);
    let running = start(&world, world.pixel(), &tree, SLEEPS);
    running.signal(Signal::TERM);
    let done = running.wait(PATIENCE);
    assert_eq!((done.code, done.err().as_str()), (Some(143), ""));
    world.until_gone(world.pixel(), &tree.marker);
}

#[test]
fn a_killed_client_leaves_nothing() {
    let world = World::shared();
    let tree = tree(world.pixel(), 3, &["--root"]);
    let running = start(&world, world.pixel(), &tree, SLEEPS);
    running.signal(Signal::KILL);
    assert_eq!(running.wait(PATIENCE).signal, Some(9));
    world.until_gone(world.pixel(), &tree.marker);
}

#[test]
fn a_timeout_leaves_nothing() {
    let world = World::shared();
    let tree = tree(world.pixel(), 4, &["--root", "--timeout", "2s"]);
    let done = world.pixels(&tree.args);
    assert_eq!(done.code, Some(124), "{done:?}");
    assert!(done.err().contains("timed out"), "{done:?}");
    world.until_gone(world.pixel(), &tree.marker);
}

#[test]
fn a_second_interrupt_kills_what_ignores_the_first() {
    let world = World::shared();
    let marker = format!("86400.{}5", std::process::id());
    let script = "trap 'echo no' INT TERM; echo started; while :; do sleep \"$0\" & wait; done";
    let pixel = world.pixel();
    let running = world.spawn(["exec", pixel, "--", "sh", "-c", script, &marker]);
    running.until_out(b"started\n");
    running.signal(Signal::INT);
    running.until_out(b"no\n");
    running.signal(Signal::INT);
    let done = running.wait(Duration::from_secs(60));
    assert_eq!(done.code, Some(137), "{done:?}");
    world.until_gone(pixel, &marker);
}

#[test]
fn control_c_on_a_terminal_leaves_nothing() {
    let world = World::shared();
    let tree = tree(world.pixel(), 6, &["--root"]);
    let mut pty = world.pty(&tree.args);
    pty.expect(b"started\r\n", PATIENCE).unwrap();
    world.until_least(world.pixel(), &tree.marker, SLEEPS);
    pty.send(b"\x03").unwrap();
    assert_eq!(pty.wait(PATIENCE).unwrap().code(), Some(130));
    world.until_gone(world.pixel(), &tree.marker);
}

#[test]
fn what_sudo_started_goes_too() {
    let world = World::new();
    let pixel = world.create("sudo");
    world.sh(
        &pixel,
        "useradd -m -u 1000 -s /bin/bash pixel && \
         echo 'pixel ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/pixel",
    );
    assert_eq!(world.ok(["exec", &pixel, "--", "id", "-un"]).text(), "pixel\n");
    for (case, signal) in [(7, Signal::INT), (8, Signal::KILL)] {
        let tree = tree(&pixel, case, &[]);
        let running = start(&world, &pixel, &tree, SLEEPS + 1);
        world.until(&pixel, &format!("[ -n \"$(pgrep -u 0 -f 'slee[p] {}')\" ]", tree.marker));
        running.signal(signal);
        let done = running.wait(PATIENCE);
        let expected = if signal == Signal::INT { (Some(130), None) } else { (None, Some(9)) };
        assert_eq!((done.code, done.signal), expected, "{done:?}");
        world.until_gone(&pixel, &tree.marker);
    }
}
