//! Every verb, with a death at every step that it comes by.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use pixels_core::{Backend, Error, Name, Status};
use pixels_guest_api::fail::STEPS;

use crate::supervisor::kill_supervisor;
use crate::verb::{self, End, end};
use crate::world::{NETWORK, World, kill, label, rootfs};
use crate::{part, play};

/// What a half says before the steps that it came by.
const REACHED: &str = "reached: ";

/// A command in a pixel whose supervisor is gone.
const UNWATCHED: &str = "exec without a supervisor";

/// One line of the matrix.
struct Line {
    /// What it is called here.
    what: &'static str,
    verb: &'static str,
    /// Whether the pixel runs before.
    running: bool,
    /// `PIXELS_ENGINE_DISABLE`.
    disable: &'static str,
    /// Which of the two halves it is in.
    half: &'static str,
}

const fn line(what: &'static str, verb: &'static str, running: bool, half: &'static str) -> Line {
    Line { what, verb, running, disable: "", half }
}

const LINES: &[Line] = &[
    line("create", "create", false, "0"),
    Line { disable: "idmap", ..line("create a copy", "create", false, "1") },
    line("start", "start", false, "1"),
    line("stop", "stop", true, "1"),
    line("destroy", "destroy", true, "1"),
    line("destroy a stopped one", "destroy", false, "1"),
    line("checkpoint", "checkpoint", true, "1"),
    line("checkpoint a stopped one", "checkpoint", false, "1"),
    line("drop", "drop", true, "1"),
    line(UNWATCHED, "exec", true, "1"),
    line("restore", "restore", true, "0"),
    line("restore a stopped one", "restore", false, "1"),
    line("restore a deep one", "restore", false, "1"),
    line("clone", "clone", true, "0"),
    line("copy", "copy", true, "1"),
    line("copy a stopped one", "copy", false, "0"),
    line("import", "import", false, "0"),
    line("unimport", "unimport", false, "0"),
];

/// What a cell works on.
struct Cell<'a> {
    line: &'a Line,
    pixel: Name,
    other: Name,
    /// A second image.
    files: &'a Path,
    /// What the pixel holds before.
    before: &'static str,
}

impl Cell<'_> {
    fn args(&self) -> Vec<String> {
        match self.line.verb {
            "import" | "unimport" => vec![self.files.display().to_string()],
            _ => vec![self.pixel.to_string(), self.other.to_string()],
        }
    }
}

/// Half of the matrix.
pub(crate) fn main(half: &str) {
    let mut world = World::new();
    let files = tempfile::tempdir().unwrap();
    rootfs(files.path());
    fs::write(files.path().join("other"), "").unwrap();
    let mut reached: BTreeMap<String, ()> = BTreeMap::new();
    for line in LINES.iter().filter(|l| l.half == half) {
        let deep = (line.what == "restore a deep one").then(|| deep(&mut world));
        let steps = trace(&mut world, line, files.path(), deep.as_ref());
        let mut cells = 0;
        for (step, count) in &steps {
            // Starts are all the same one.
            let starting = step.starts_with("launch-") || step.starts_with("child-");
            if starting && !["create", "start", "restore"].contains(&line.what) {
                continue;
            }
            assert!(STEPS.contains(&step.as_str()), "{step} is not in the list of steps");
            let often = step.starts_with("record-") || step.starts_with("layer");
            for n in 1..=(*count).min(if often { 2 } else { 1 }) {
                cells += 1;
                one(&mut world, line, step, &format!("{step}:{n}"), files.path(), deep.as_ref());
            }
            let helper = ["launch-", "tree-", "child-"].iter().any(|p| step.starts_with(p));
            // Both at once: nobody is there to clean up.
            if helper && !step.starts_with("child-") {
                cells += 1;
                one(&mut world, line, step, &format!("{step}+"), files.path(), deep.as_ref());
            }
        }
        if let Some(deep) = &deep {
            world.wait(world.engine.delete(deep)).unwrap();
        }
        reached.extend(steps.into_keys().map(|step| (step, ())));
        println!("{}: {cells} deaths", line.what);
    }
    world.clear();
    let reached: Vec<String> = reached.into_keys().collect();
    println!("{REACHED}{}", reached.join(" "));
}

/// The whole matrix, in two processes.
pub(crate) fn both() {
    let half = std::thread::spawn(|| play("matrix 0"));
    let said = play("matrix 1") + &half.join().unwrap();
    println!("{said}");
    let lines = said.lines().filter_map(|l| l.strip_prefix(REACHED));
    let reached: BTreeSet<&str> = lines.flat_map(str::split_ascii_whitespace).collect();
    for step in STEPS {
        assert!(reached.contains(step), "no verb comes by the step {step}");
    }
}

/// A pixel with so many layers that a restore makes them fewer.
fn deep(world: &mut World) -> Name {
    let pixel = world.fresh();
    world.create(&pixel);
    world.sh(&pixel, "echo one >/data").unwrap();
    for n in 0..33 {
        world.wait(world.engine.stop(&pixel, kill())).unwrap();
        world.wait(world.engine.create_snapshot(&pixel, &label(&format!("c{n}")))).unwrap();
        world.wait(world.engine.start(&pixel)).unwrap();
    }
    world.wait(world.engine.stop(&pixel, kill())).unwrap();
    pixel
}

fn prepare<'a>(
    world: &mut World,
    line: &'a Line,
    files: &'a Path,
    deep: Option<&Name>,
) -> Cell<'a> {
    let other = world.fresh();
    let mut cell = Cell { line, pixel: other.clone(), other, files, before: "two+" };
    match line.verb {
        "create" => {}
        "import" => {
            let _ = world.wait(world.engine.remove_image("other"));
            world.wait(world.engine.close()).unwrap();
        }
        "unimport" => {
            let args = cell.args();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            world.wait(verb::run(&world.engine, "import", &args)).unwrap();
        }
        _ => {
            cell.pixel = match deep {
                None => world.pixel(),
                Some(deep) => {
                    let pixel = world.fresh();
                    let of = Some(label("c32"));
                    let opts = pixels_core::CloneOpts::default();
                    world.wait(world.engine.clone_from(deep, of.as_ref(), &pixel, opts)).unwrap();
                    world.wait(world.engine.create_snapshot(&pixel, &label("c"))).unwrap();
                    world.sh(&pixel, "echo two >/data; echo >/extra").unwrap();
                    pixel
                }
            };
            if !line.running {
                world.wait(world.engine.stop(&cell.pixel, kill())).unwrap();
            }
            if line.what == UNWATCHED {
                kill_supervisor(world, &cell.pixel);
            }
        }
    }
    cell
}

fn child(world: &World, cell: &Cell<'_>, fail: &str) -> std::process::Output {
    let words =
        format!("verb {} {} {}", world.root.display(), cell.line.verb, cell.args().join(" "));
    let mut command = part(&words);
    command.env("PIXELS_ENGINE_FAIL", fail).env("PIXELS_ENGINE_DISABLE", cell.line.disable);
    if cell.line.what == "create" {
        command.env(NETWORK, "");
    }
    command.output().unwrap()
}

/// The steps that a verb comes by, and how often.
fn trace(
    world: &mut World,
    line: &Line,
    files: &Path,
    deep: Option<&Name>,
) -> BTreeMap<String, usize> {
    let cell = prepare(world, line, files, deep);
    let note = tempfile::NamedTempFile::new().unwrap();
    let output = child(world, &cell, &format!("trace={}", note.path().display()));
    assert_eq!(end(&output), End::Done, "{}: {output:?}", line.what);
    let mut steps = BTreeMap::new();
    for step in fs::read_to_string(note.path()).unwrap().lines() {
        *steps.entry(step.to_owned()).or_default() += 1;
    }
    finish(world, &cell, deep, "trace");
    steps
}

/// One death, and what comes after it.
fn one(world: &mut World, line: &Line, step: &str, fail: &str, files: &Path, deep: Option<&Name>) {
    let cell = prepare(world, line, files, deep);
    let output = child(world, &cell, fail);
    let ended = end(&output);
    let helper = ["launch-", "tree-", "child-"].iter().any(|p| step.starts_with(p));
    let what = format!("{}, {fail}: {ended:?}", line.what);
    // Whether anything is in the trash when that is emptied in the background is
    // a matter of time.
    if !helper && step != "trash-asked" {
        assert_eq!(ended, End::Died, "{what}: {output:?}");
    }
    // It was said what went wrong.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(ended != End::Failed || said.contains("error: "), "{what}: {said}");
    let listed = world.wait(world.engine.list()).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(listed.iter().all(|i| i.status != Status::Error), "{what}: {listed:?}");
    if line.verb == "restore" {
        let content = world.content(&cell.pixel);
        assert!(content == "one" || content == cell.before, "{what}: a mixture: {content}");
    }
    again(world, &cell, ended, &what);
    finish(world, &cell, deep, &what);
}

/// The verb once more, by a process that lives.
fn again(world: &World, cell: &Cell<'_>, ended: End, what: &str) {
    let args = cell.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = world.wait(verb::run(&world.engine, cell.line.verb, &args));
    let fine = match (cell.line.verb, result.as_ref().map_err(Error::kind)) {
        (_, Ok(())) => true,
        // It was done before, whole: what follows looks at that.
        ("create" | "clone" | "copy" | "checkpoint", Err(Error::AlreadyExists { .. })) => {
            ended != End::Failed
        }
        ("destroy" | "drop" | "unimport", Err(Error::NotFound { .. })) => true,
        _ => false,
    };
    assert!(fine, "{what}: again: {result:?}");
    match cell.line.verb {
        "create" => assert_eq!(world.sh(&cell.pixel, "echo hi").unwrap(), "hi", "{what}"),
        "start" => assert_eq!(world.status(&cell.pixel), Some(Status::Running), "{what}"),
        "stop" => assert_eq!(world.status(&cell.pixel), Some(Status::Stopped), "{what}"),
        "destroy" => assert_eq!(world.status(&cell.pixel), None, "{what}"),
        "checkpoint" => {
            world.wait(world.engine.start(&cell.pixel)).unwrap();
            world.sh(&cell.pixel, "echo three >/data").unwrap();
            world.wait(world.engine.restore_snapshot(&cell.pixel, &label("new"))).unwrap();
            assert_eq!(world.content(&cell.pixel), cell.before, "{what}");
        }
        "restore" => assert_eq!(world.content(&cell.pixel), "one", "{what}"),
        "clone" => assert_eq!(world.content(&cell.other), "one", "{what}"),
        "copy" => assert_eq!(world.content(&cell.other), cell.before, "{what}"),
        _ => {}
    }
    let keeps = ["exec", "start", "stop", "checkpoint", "drop", "clone", "copy"];
    if keeps.contains(&cell.line.verb) {
        assert_eq!(world.content(&cell.pixel), cell.before, "{what}");
    }
}

/// Removes the cell's pixels, and looks.
fn finish(world: &mut World, cell: &Cell<'_>, deep: Option<&Name>, what: &str) {
    let _ = world.wait(world.engine.sweep()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let _ = world.wait(world.engine.remove_image("other"));
    for pixel in [&cell.pixel, &cell.other] {
        match world.wait(world.engine.delete(pixel)) {
            Ok(()) => {}
            Err(e) if e.is_not_found() => {}
            Err(e) => panic!("{what}: {e}"),
        }
    }
    if deep.is_none() {
        eprintln!("{what}");
        world.clear();
    }
}
