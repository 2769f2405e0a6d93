//! Commands in a pixel: exit codes and streams.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};

use crate::harness::{PATIENCE, Running, World};

#[test]
fn output_and_exit_code_come_back_with_stderr_apart() {
    let world = World::shared();
    let done =
        world.pixels(["exec", world.pixel(), "--", "sh", "-c", "echo a; echo b >&2; exit 7"]);
    assert_eq!((done.code, done.text().as_str(), done.err().as_str()), (Some(7), "a\n", "b\n"));
}

#[test]
fn every_exit_code_comes_back() {
    let world = World::shared();
    let pixel = world.pixel();
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let world = &world;
            scope.spawn(move || {
                for code in (lane..256).step_by(4) {
                    let script = format!("exit {code}");
                    let done = world.pixels(["exec", pixel, "--", "sh", "-c", &script]);
                    assert_eq!(done.code, Some(code), "{done:?}");
                    assert!(done.stderr.is_empty(), "{done:?}");
                }
            });
        }
    });
}

#[test]
fn deaths_by_signal_are_128_and_the_signal() {
    let world = World::shared();
    // Those whose default is to end a process, first and last real-time ones included.
    for signal in
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 31, 34, 64]
    {
        let script = format!("import os; os.kill(os.getpid(), {signal})");
        // Python has its own ideas of these.
        let reset = "import signal; [signal.signal(s, signal.SIG_DFL) for s in (2, 13, 25)]; ";
        let script = format!("{reset}{script}");
        let done = world.pixels(["exec", world.pixel(), "--", "python3", "-c", &script]);
        assert_eq!(done.code, Some(128 + signal), "{done:?}");
    }
}

#[test]
fn what_cannot_be_run_says_so() {
    let world = World::shared();
    let pixel = world.pixel();
    let exec = |args: &[&str]| {
        let done = world.pixels(["exec", pixel].iter().chain(args));
        (done.code, done.err())
    };
    let (code, err) = exec(&["--", "no-such-command"]);
    assert_eq!(code, Some(127), "{err}");
    assert!(err.contains("no-such-command"), "{err}");
    let (code, err) = exec(&["--", "/no/such/command"]);
    assert_eq!(code, Some(127), "{err}");
    let (code, err) = exec(&["--", "/etc/passwd"]);
    assert_eq!(code, Some(126), "{err}");
    assert!(err.contains("/etc/passwd"), "{err}");
    let (code, err) = exec(&["--", "/etc"]);
    assert_eq!(code, Some(126), "{err}");

    let (code, err) = exec(&["--cwd", "/no/such/dir", "--", "true"]);
    assert_eq!(code, Some(125), "{err}");
    assert_eq!(err.lines().next(), Some("error: path \"/no/such/dir\" not found"), "{err}");
    let (code, err) = exec(&["--cwd", "/etc/passwd", "--", "true"]);
    assert_eq!(code, Some(125), "{err}");
    assert!(err.starts_with("error: invalid cwd \"/etc/passwd\""), "{err}");
}

#[test]
fn sixty_four_mib_arrive_both_ways() {
    let world = World::shared();
    let mut sent = vec![0; 64 << 20];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut sent).unwrap();
    let sum = |bytes: &[u8]| format!("{:x}", Sha256::digest(bytes));
    let expected = sum(&sent);
    // What the guest got is told apart on stderr.
    let script = "import os, sys, hashlib
got = hashlib.sha256()
while data := os.read(0, 65536):
    got.update(data)
    while data: data = data[os.write(1, data):]
print(got.hexdigest(), file=sys.stderr)";
    let done = world.feed(["exec", world.pixel(), "--", "python3", "-c", script], sent);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stdout.len(), 64 << 20);
    assert_eq!(sum(&done.stdout), expected, "on the way back");
    assert_eq!(done.err().trim_end(), expected, "on the way there");
}

/// A pipeline on this machine; what it said and how it ended.
fn pipeline(world: &World, args: &[&str], rest: &str) -> crate::harness::Done {
    let run = world.command(args);
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("\"$@\" | {rest}; echo \"${{PIPESTATUS[0]}}\""));
    command.arg("bash").arg(run.get_program()).args(run.get_args());
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null());
    Running::start(command).wait(PATIENCE)
}

#[test]
fn a_reader_that_leaves_ends_it_clean() {
    let world = World::shared();
    let pixel = world.pixel();
    let marker = format!("marker-{pixel}-head");
    // One that writes on, and one that falls silent.
    for script in ["exec yes \"$0\"", "echo \"$0\"; exec sleep 86411.25"] {
        let args = ["exec", pixel, "--", "sh", "-c", script, &marker];
        let done = pipeline(&world, &args, "head -1");
        assert_eq!(done.text(), format!("{marker}\n141\n"), "{done:?}");
        assert_eq!(done.err(), "");
        assert!(done.took < Duration::from_secs(30), "{done:?}");
        world.until_gone(pixel, &marker);
    }
    world.until_gone(pixel, "86411.25");
}

#[test]
fn a_slow_reader_loses_nothing() {
    let world = World::shared();
    let pixel = world.pixel();
    let file = format!("/var/tmp/{pixel}-blob");
    let made = world.sh(
        pixel,
        &format!("head -c 1048576 /dev/urandom >{file}; chmod 644 {file}; sha256sum {file}"),
    );
    assert_eq!(made.split(' ').count(), 3, "{made}");
    // Sizes whose ends sit in the guest's pipe, in the daemon, in the sockets and in
    // the program while nobody reads.
    let sizes = [60_000usize, 200_000, 450_000, 600_000, 800_000, 1_048_576];
    let mut children: Vec<_> = sizes
        .iter()
        .map(|size| {
            let script = format!("head -c {size} {file}; head -c {size} {file} >&2; exit 3");
            let mut command = world.command(["exec", pixel, "--", "sh", "-c", &script]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
            command.spawn().unwrap()
        })
        .collect();
    // Both small outputs fit into what is between: those commands have ended.
    world.until_gone(pixel, &format!("head -c {} {file} >&2", sizes[0]));
    for child in &children {
        kill_process(Pid::from_child(child), Signal::STOP).unwrap();
    }
    // The subject: the daemon throws away after one second what nobody has read.
    std::thread::sleep(Duration::from_secs(3));
    for child in &children {
        kill_process(Pid::from_child(child), Signal::CONT).unwrap();
    }
    let whole = world.ok(["exec", pixel, "--", "cat", &file]).stdout;
    for (size, child) in sizes.iter().zip(children.drain(..)) {
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.stdout.len(), *size, "stdout of {size}");
        assert_eq!(out.stderr.len(), *size, "stderr of {size}");
        assert!(out.stdout == whole[..*size] && out.stderr == whole[..*size]);
        assert_eq!(out.status.code(), Some(3));
    }
}

#[test]
fn the_output_of_a_terminal_arrives_whole() {
    let world = World::shared();
    let mut pty = world.pty([
        "--quiet",
        "exec",
        "-t",
        world.pixel(),
        "--",
        "sh",
        "-c",
        "seq 1 60000; exit 9",
    ]);
    let expected: Vec<u8> = (1..=60000).flat_map(|n| format!("{n}\r\n").into_bytes()).collect();
    let got = pty.expect(b"\r\n60000\r\n", PATIENCE).unwrap();
    assert_eq!(got.len(), expected.len());
    assert!(got == expected);
    assert_eq!(pty.wait(PATIENCE).unwrap().code(), Some(9));
}
