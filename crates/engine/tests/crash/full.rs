//! A disk with so much room and no more, for more and more of it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use pixels_core::{Backend, Error, Status};

use crate::verb;
use crate::world::{World, kill, label};

/// Free KiB that are left for a verb.
const ROOM: &[u64] = &[0, 2, 4, 6, 8, 12, 20, 60];

const VERBS: &[(&str, bool)] = &[
    ("create", false),
    ("start", false),
    ("stop", true),
    ("checkpoint", true),
    ("checkpoint", false),
    ("restore", true),
    ("restore", false),
    ("drop", true),
    ("clone", true),
    ("copy", true),
    ("copy", false),
    ("push", true),
    ("destroy", true),
];

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// Leaves so many KiB.
fn fill(dir: &Path, room: u64) {
    let mut file = File::create(dir.join("filler")).unwrap();
    let block = [0u8; 1024];
    // Until there is nothing: what the file system tells of itself is too vague.
    while file.write_all(&block).and_then(|()| file.sync_data()).is_ok() {
        let stat = rustix::fs::statvfs(dir).unwrap();
        let free = stat.f_bavail.saturating_mul(stat.f_frsize) / 1024;
        if free <= room {
            break;
        }
        let most = (free - room).saturating_sub(64);
        if most > 0 && file.write_all(&vec![0; usize::try_from(most).unwrap() * 1024]).is_err() {
            break;
        }
    }
}

pub(crate) fn main() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk");
    File::create(&image).unwrap().set_len(24 << 20).unwrap();
    let disk = dir.path().join("mounted");
    fs::create_dir(&disk).unwrap();
    let (from, to) = (image.to_str().unwrap(), disk.to_str().unwrap());
    run("mkfs.ext4", &["-q", "-F", "-b", "1024", "-m", "0", "-O", "^has_journal", from]);
    run("mount", &["-o", "loop", from, to]);
    {
        let mut world = World::at(disk.join("store"));
        for (verb, running) in VERBS {
            let mut failed = 0;
            for room in ROOM {
                let done = one(&mut world, &disk, verb, *running, *room);
                failed += u32::from(!done);
                if done && *room > 8 {
                    break;
                }
            }
            println!("{verb}, running {running}: {failed} times there was no room");
        }
    }
    run("umount", &[to]);
}

/// One verb with so much room; whether there was enough.
fn one(world: &mut World, disk: &Path, verb: &str, running: bool, room: u64) -> bool {
    let pixel = if verb == "create" { world.fresh() } else { world.pixel() };
    let other = world.fresh();
    if verb != "create" && !running {
        world.wait(world.engine.stop(&pixel, kill())).unwrap();
    }
    fill(disk, room);
    let args = [pixel.as_str(), other.as_str()];
    let result = world.wait(verb::run(&world.engine, verb, &args));
    world.wait(world.engine.close()).unwrap();
    let what = format!("{verb}, running {running}, {room} KiB: {result:?}");
    // Everything is still there to see, and to be removed.
    let listed = world.wait(world.engine.list()).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(listed.iter().all(|i| i.status != Status::Error), "{what}: {listed:?}");
    fs::remove_file(disk.join("filler")).unwrap();
    if let Err(e) = &result {
        assert!(matches!(e.kind(), Error::Exhausted { .. }), "{what}");
    }
    let done = result.is_ok();
    match verb {
        "create" => {
            assert_eq!(world.status(&pixel).is_some(), done, "{what}");
            if !done {
                world.create(&pixel);
            }
        }
        // Nothing that makes room needs any.
        "stop" | "destroy" => assert!(done, "{what}"),
        "restore" => {
            let content = world.content(&pixel);
            assert!(
                content == if done { "one" } else { "two+" } || content == "one",
                "{what}: {content}"
            );
        }
        "clone" | "copy" => {
            assert_eq!(world.status(&other).is_some(), done, "{what}");
            assert_eq!(world.content(&pixel), "two+", "{what}");
        }
        "push" => {
            assert_eq!(world.content(&pixel), "two+", "{what}");
            let there = world.sh(&pixel, "[ -e /pushed ] && echo yes || echo no").unwrap();
            assert_eq!(there, if done { "yes" } else { "no" }, "{what}");
        }
        "checkpoint" | "drop" => {
            let labels = world.wait(world.engine.list_snapshots(&pixel)).unwrap();
            let changed = (labels.len() != 1) == done;
            assert!(changed, "{what}: {labels:?}");
            if verb == "checkpoint" && done {
                world.wait(world.engine.restore_snapshot(&pixel, &label("new"))).unwrap();
            }
            assert_eq!(world.content(&pixel), "two+", "{what}");
        }
        _ => assert_eq!(world.content(&pixel), "two+", "{what}"),
    }
    // What was not done leaves nothing, without being swept up.
    for name in [&pixel, &other] {
        match world.wait(world.engine.delete(name)) {
            Err(e) if !e.is_not_found() => panic!("{what}: {e}"),
            _ => {}
        }
    }
    world.wait(world.engine.close()).unwrap();
    world.nothing_left();
    done
}
