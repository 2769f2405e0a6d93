//! Pixels whose supervisor or first process was killed, and records of other boots.

use std::fs::{self, File};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use pixels_core::{Backend, Name, Status};

use crate::part;
use crate::verb::{End, end, words};
use crate::world::{World, init, kill, kill_process, label};

fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether somebody holds the supervisor's lock.
fn watched(world: &World, pixel: &Name) -> bool {
    let path = world.root.join("pixels").join(pixel.as_str()).join("watched");
    File::open(path).unwrap().try_lock().is_err()
}

/// Who that is: whoever has the file open.
fn supervisor(world: &World, pixel: &Name) -> Option<u32> {
    let path = world.root.join("pixels").join(pixel.as_str()).join("watched");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let has = |pid: &u32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|to| to == path)
    };
    processes.filter_map(|p| p.file_name().to_str()?.parse().ok()).find(has)
}

/// Kills it, and waits until it is gone.
pub(crate) fn kill_supervisor(world: &World, pixel: &Name) {
    soon("it has one", || watched(world, pixel));
    kill_process(supervisor(world, pixel).unwrap());
    soon("the supervisor dies", || !watched(world, pixel));
}

pub(crate) fn main() {
    let mut world = World::new();
    let pixel = world.pixel();
    assert!(watched(&world, &pixel));

    // Commands go on, and the first one brings another supervisor.
    kill_supervisor(&world, &pixel);
    assert_eq!(world.sh(&pixel, "read a </data; echo $a").unwrap(), "two");
    soon("another comes", || watched(&world, &pixel));
    // It does what the first one would have: what is in no namespace of the pixel,
    // a command's parent say, is killed, and the groups go.
    kill_process(init(&world, &pixel));
    soon("the pixel is stopped", || world.status(&pixel) == Some(Status::Stopped));
    soon("the groups go", || !watched(&world, &pixel) && !world.has_groups());
    assert_eq!(world.content(&pixel), "two+");

    // Nobody inside can end the first process.
    let _ = world.sh(&pixel, "kill -9 1; kill -STOP 1; kill -SEGV 1");
    assert_eq!(world.sh(&pixel, "echo here").unwrap(), "here");

    type Act = fn(&World, &Name) -> pixels_core::Result<()>;
    let acts: [(&str, Act); 6] = [
        ("start", |w, p| w.wait(w.engine.start(p))),
        ("checkpoint", |w, p| w.wait(w.engine.create_snapshot(p, &label("n"))).map(drop)),
        ("restore", |w, p| w.wait(w.engine.restore_snapshot(p, &label("n")))),
        ("stop", |w, p| w.wait(w.engine.stop(p, Default::default()))),
        ("kill", |w, p| w.wait(w.engine.stop(p, kill()))),
        ("destroy", |w, p| w.wait(w.engine.delete(p))),
    ];
    for (what, act) in acts {
        world.wait(world.engine.start(&pixel)).unwrap();
        kill_supervisor(&world, &pixel);
        act(&world, &pixel).unwrap_or_else(|e| panic!("{what}: {e}"));
        match what {
            "destroy" => assert_eq!(world.status(&pixel), None),
            "stop" | "kill" => {
                assert_eq!(world.status(&pixel), Some(Status::Stopped));
                assert!(!world.has_groups(), "{what}");
            }
            _ => assert_eq!(world.content(&pixel), "two+", "{what}"),
        }
        if matches!(what, "start" | "checkpoint") {
            soon(what, || watched(&world, &pixel));
        }
    }
    world.clear();
}

/// A process that has nothing to do with any pixel.
struct Innocent(Child);

impl Innocent {
    fn alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn boots() {
    let mut world = World::new();
    let pixel = world.pixel();
    let run = world.root.join("pixels").join(pixel.as_str()).join("run.json");
    // What a reboot does to it.
    kill_process(init(&world, &pixel));
    soon("it ends", || world.status(&pixel) == Some(Status::Stopped) && !world.has_groups());

    let mut innocent = Innocent(Command::new("sleep").arg("600").spawn().unwrap());
    let pid = innocent.0.id();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let start: u64 = after.split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&run).unwrap()).unwrap();
    record["pid"] = pid.into();
    record["start_time"] = start.into();
    let confuse = || fs::write(&run, record.to_string()).unwrap();
    // In this boot that is the pixel's process, so the record is what counts.
    confuse();
    assert_eq!(world.status(&pixel), Some(Status::Running));

    let after_reboot = |verb: &str| {
        let mut command = part(&words(&world.root, verb, &[&pixel]));
        command.env("PIXELS_ENGINE_BOOT_ID", "-another");
        let output = command.output().unwrap();
        (end(&output), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (ended, said) = after_reboot("exec");
    assert_eq!(ended, End::Failed);
    assert!(said.contains("WrongState"), "{said}");
    for verb in ["kill", "stop", "checkpoint", "start"] {
        confuse();
        assert_eq!(after_reboot(verb).0, End::Done, "{verb}");
        assert!(innocent.alive(), "{verb}");
    }
    assert_eq!(after_reboot("exec").0, End::Done, "it runs in the new boot");
    assert_eq!(world.status(&pixel), Some(Status::Stopped), "which is another than this one");
    assert_eq!(after_reboot("destroy").0, End::Done);
    assert!(innocent.alive());
    drop(innocent);
    world.clear();
}
