//! Two processes with two verbs on one pixel at the same moment: what comes of
//! it is what some order of the two explains.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use pixels_core::{Backend, Name, Status};

use crate::part;
use crate::verb::{End, GATE, READY, end, words};
use crate::world::{World, kill, label};

const PAIRS: &[(&str, &str)] = &[
    ("create", "create"),
    ("create", "destroy"),
    ("start", "start"),
    ("start", "stop"),
    ("start", "destroy"),
    ("stop", "stop"),
    ("stop", "destroy"),
    ("destroy", "destroy"),
    ("checkpoint", "checkpoint"),
    ("checkpoint", "destroy"),
    ("checkpoint", "restore"),
    ("checkpoint", "stop"),
    ("restore", "restore"),
    ("restore", "start"),
    ("restore", "destroy"),
    ("restore", "drop"),
    ("clone", "destroy"),
    ("clone", "drop"),
    ("clone", "clone"),
    ("copy", "destroy"),
    ("copy", "restore"),
    ("copy", "checkpoint"),
    ("exec", "destroy"),
    ("exec", "stop"),
    ("exec", "restore"),
    ("exec", "checkpoint"),
    ("push", "start"),
    ("push", "destroy"),
    ("push", "stop"),
    ("sweep", "create"),
    ("sweep", "clone"),
    ("sweep", "copy"),
    ("sweep", "checkpoint"),
    ("sweep", "restore"),
    ("sweep", "destroy"),
    ("sweep", "start"),
    ("sweep", "sweep"),
];

/// The process of a verb, waiting.
fn waiting(world: &World, verb: &str, args: &[&Name], gate: &std::path::Path) -> Child {
    let mut command = part(&words(&world.root, verb, args));
    command.env(GATE, gate).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.as_mut().unwrap());
    let mut line = String::new();
    while !line.contains(READY) {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "it comes to the gate");
    }
    child
}

/// How it ended: done, or the kind of its error.
fn ended(mut child: Child) -> (bool, String) {
    // The rest of what it says is little.
    let mut stdout = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match end(&output) {
        End::Done => (true, String::new()),
        _ => (false, said),
    }
}

pub(crate) fn main() {
    let mut world = World::new();
    let gate = tempfile::NamedTempFile::new().unwrap();
    for (a, b) in PAIRS {
        pair(&mut world, a, b, true, gate.path());
        if ["start", "restore", "copy", "push", "checkpoint"].contains(a) {
            pair(&mut world, a, b, false, gate.path());
        }
    }
}

fn pair(world: &mut World, a: &str, b: &str, running: bool, gate: &std::path::Path) {
    let makes = a == "create" || b == "create";
    let pixel = if makes { world.fresh() } else { world.pixel() };
    if !running && !makes {
        world.wait(world.engine.stop(&pixel, kill())).unwrap();
    }
    let other = world.fresh();
    let lock = File::open(gate).unwrap();
    lock.lock().unwrap();
    let names = [&pixel, &other];
    let (first, second) = (waiting(world, a, &names, gate), waiting(world, b, &names, gate));
    drop(lock);
    let ends = [ended(first), ended(second)];
    let what = format!("{a} and {b}, running {running}: {ends:?}");
    for ((done, said), verb) in ends.iter().zip([a, b]) {
        let kind = ["NotFound", "AlreadyExists", "WrongState"].iter().any(|k| said.contains(k));
        // A command that was running when its pixel ended was killed.
        let killed = verb == "exec" && said.contains("exited with 137");
        assert!(*done || kind || killed, "{what}");
    }
    assert!(ends[0].0 || ends[1].0 || (a == "exec" && !running), "one of them works: {what}");
    match (a, b) {
        ("create", "create") | ("clone", "clone") | ("destroy", "destroy") => {
            assert!(ends[0].0 != ends[1].0, "one of them alone: {what}");
        }
        ("checkpoint", "checkpoint") => assert!(ends[0].0 != ends[1].0, "{what}"),
        ("restore", "drop" | "destroy") | ("clone", "destroy" | "drop") => {
            assert!(ends[1].0, "{what}");
        }
        (_, "restore" | "start" | "stop") => assert!(ends[1].0, "{what}"),
        _ => {}
    }
    let names: Vec<Name> =
        world.wait(world.engine.list()).unwrap().into_iter().map(|i| i.name).collect();
    for name in [&pixel, &other].into_iter().filter(|n| names.contains(n)) {
        let status = world.status(name);
        assert!(matches!(status, Some(Status::Running | Status::Stopped)), "{what}: {status:?}");
        if makes {
            assert_eq!(world.sh(name, "echo hi").unwrap(), "hi", "{what}");
            continue;
        }
        let content = world.content(name);
        assert!(content == "one" || content == "two+", "{what}: a mixture: {content}");
        let has = world.wait(world.engine.list_snapshots(name)).unwrap();
        for snapshot in has {
            world.wait(world.engine.restore_snapshot(name, &snapshot.label)).unwrap();
            let content = world.content(name);
            let right = snapshot.label == label("c") && content == "one"
                || snapshot.label == label("new") && ["one", "two+"].contains(&content.as_str());
            assert!(right, "{what}: {} holds {content}", snapshot.label);
        }
    }
    world.clear();
}
