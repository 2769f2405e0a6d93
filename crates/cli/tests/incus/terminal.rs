//! Terminals: `console` and `exec -t`.

use pixels_testkit::pty::Pty;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{PATIENCE, World};

/// The program on a terminal that outlives it: a shell runs it between two
/// pauses and says how it ended.
fn wrapped(world: &World, args: &[&str]) -> Pty {
    let run = world.command(args);
    let script = "trap '' INT; echo ready; read x; \"$@\"; echo \"ended $?.\"; read x";
    let mut command = world.command([""; 0]);
    let envs: Vec<_> =
        command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    command = std::process::Command::new("sh");
    for (name, value) in envs {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("TERM", "xterm-256color");
    command.args(["-c", script, "sh"]).arg(run.get_program()).args(run.get_args());
    Pty::spawn(command, 80, 24).unwrap()
}

/// The program that such a shell runs.
fn client(pty: &Pty) -> Pid {
    let shell = pty.pid();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

/// Waits for a shell's prompt by asking it something whose answer is not in the
/// question.
fn answers(pty: &mut Pty) {
    pty.send(b"echo he''re\r").unwrap();
    pty.expect(b"here\r\n", PATIENCE).unwrap();
}

#[test]
fn a_console_has_the_terminals_size_and_follows_it() {
    let world = World::shared();
    let mut pty = world.pty(["console", world.pixel()]);
    answers(&mut pty);
    pty.send(b"stty size\r").unwrap();
    pty.expect(b"24 80\r\n", PATIENCE).unwrap();
    pty.resize(133, 50).unwrap();
    pty.send(b"until [ \"$(stty size)\" = '50 133' ]; do sleep 0.05; done; echo fol''lowed\r")
        .unwrap();
    pty.expect(b"followed\r\n", PATIENCE).unwrap();
    pty.send(b"exit 42\r").unwrap();
    assert_eq!(pty.wait(PATIENCE).unwrap().code(), Some(42));
}

#[test]
fn exec_with_a_terminal_has_its_size_and_follows_it() {
    let world = World::shared();
    let script = "stty size; tty >/dev/null && echo terminal; \
                  until [ \"$(stty size)\" = '50 133' ]; do sleep 0.05; done; echo followed; exit 5";
    let mut pty = world.pty(["exec", "-t", world.pixel(), "--", "sh", "-c", script]);
    pty.expect(b"24 80\r\n", PATIENCE).unwrap();
    pty.expect(b"terminal\r\n", PATIENCE).unwrap();
    pty.resize(133, 50).unwrap();
    pty.expect(b"followed\r\n", PATIENCE).unwrap();
    assert_eq!(pty.wait(PATIENCE).unwrap().code(), Some(5));
}

#[test]
fn job_control_works() {
    let world = World::shared();
    let mut pty = world.pty(["console", world.pixel()]);
    answers(&mut pty);
    pty.send(b"sh -c 'echo run''ning; exec sleep 86423'\r").unwrap();
    pty.expect(b"running\r\n", PATIENCE).unwrap();
    pty.send(b"\x1a").unwrap();
    pty.expect(b"Stopped", PATIENCE).unwrap();
    answers(&mut pty);
    pty.send(b"fg\r").unwrap();
    // The shell names what it continues.
    pty.expect(b"sleep 86423", PATIENCE).unwrap();
    world.until(world.pixel(), "! ps -eo stat=,args= | grep '^T.*slee[p] 86423'");
    pty.send(b"\x03").unwrap();
    pty.send(b"echo co''de $?\r").unwrap();
    pty.expect(b"code 130\r\n", PATIENCE).unwrap();
    pty.send(b"exit 3\r").unwrap();
    assert_eq!(pty.wait(PATIENCE).unwrap().code(), Some(3));
}

#[test]
fn modes_are_restored_after_the_end() {
    let world = World::shared();
    let pixel = world.pixel();
    for args in [&["console", pixel][..], &["exec", "-t", pixel, "--", "bash"]] {
        let mut pty = wrapped(&world, args);
        pty.expect(b"ready\r\n", PATIENCE).unwrap();
        let before = pty.modes().unwrap();
        pty.send(b"\r").unwrap();
        answers(&mut pty);
        assert_ne!(pty.modes().unwrap(), before, "raw");
        pty.send(b"exit 7\r").unwrap();
        pty.expect(b"ended 7.\r\n", PATIENCE).unwrap();
        assert_eq!(pty.modes().unwrap(), before);
    }
}

#[test]
fn modes_are_restored_after_sigterm_and_nothing_is_left() {
    let world = World::shared();
    let pixel = world.pixel();
    let marker = format!("86424.{}", std::process::id());
    let mut pty = wrapped(&world, &["console", pixel]);
    pty.expect(b"ready\r\n", PATIENCE).unwrap();
    let before = pty.modes().unwrap();
    pty.send(b"\r").unwrap();
    answers(&mut pty);
    pty.send(format!("setsid sleep {marker} & sleep {marker}\r").as_bytes()).unwrap();
    world.until_least(pixel, &marker, 2);
    kill_process(client(&pty), Signal::TERM).unwrap();
    pty.expect(b"ended 1", PATIENCE).unwrap();
    pty.expect(b".\r\n", PATIENCE).unwrap();
    assert_eq!(pty.modes().unwrap(), before);
    world.until_gone(pixel, &marker);
}

#[test]
fn modes_are_restored_after_a_lost_daemon() {
    let world = World::alone();
    let pixel = world.create("lost");
    let marker = format!("86425.{}", std::process::id());
    let mut console = wrapped(&world, &["console", &pixel]);
    console.expect(b"ready\r\n", PATIENCE).unwrap();
    let before = console.modes().unwrap();
    console.send(b"\r").unwrap();
    answers(&mut console);
    let plain =
        world.spawn(["exec", &pixel, "--", "sh", "-c", "echo up; exec sleep \"$0\"", &marker]);
    plain.until_out(b"up\n");
    world.kill_daemon();
    let shown = console.expect(b"ended 125.\r\n", PATIENCE);
    let modes = console.modes().unwrap();
    let done = plain.wait(PATIENCE);
    world.mend();
    let shown = String::from_utf8(shown.unwrap()).unwrap();
    assert!(shown.contains("error: cannot reach incus at "), "{shown}");
    assert_eq!(modes, before);
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(done.err().starts_with("error: "), "{done:?}");
    // The guest binary saw its daemon go.
    world.until_gone(&pixel, &marker);
}
