//! Calls that are dropped at each of their waits.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use pixels_core::Backend;
use pixels_core::Status;

use crate::verb;
use crate::world::{World, kill, rootfs};

const VERBS: &[(&str, bool)] = &[
    ("create", false),
    ("start", false),
    ("stop", true),
    ("checkpoint", true),
    ("checkpoint", false),
    ("restore", true),
    ("clone", true),
    ("copy", true),
    ("copy", false),
    ("exec", true),
    ("push", true),
    ("push", false),
    ("destroy", true),
    ("import", false),
];

/// Polls so often and no more; whether that was enough.
async fn polled(future: impl Future, times: u32) -> bool {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(cx).map(|_| true)
    })
    .await
}

pub(crate) fn main() {
    let mut world = World::new();
    let files = tempfile::tempdir().unwrap();
    rootfs(files.path());
    std::fs::write(files.path().join("other"), "").unwrap();
    let source = files.path().to_str().unwrap();
    for (verb, running) in VERBS {
        let mut times = 0;
        loop {
            times += 1;
            assert!(times < 200, "{verb} ends");
            if one(&mut world, verb, *running, times, source) {
                break;
            }
        }
        println!("{verb}, running {running}: {times} waits");
    }
    world.clear();
}

fn one(world: &mut World, verb: &str, running: bool, times: u32, source: &str) -> bool {
    let fresh = matches!(verb, "create" | "import");
    let pixel = if fresh { world.fresh() } else { world.pixel() };
    let other = world.fresh();
    if !fresh && !running {
        world.wait(world.engine.stop(&pixel, kill())).unwrap();
    }
    let args = [if verb == "import" { source } else { pixel.as_str() }, other.as_str()];
    let engine = world.engine.clone();
    let done = world.wait(polled(verb::run(&engine, verb, &args), times));
    world.wait(world.engine.close()).unwrap();
    let what = format!("{verb}, running {running}, {times} polls");
    match verb {
        "import" => {
            let _ = world.wait(world.engine.remove_image("other"));
        }
        "create" => {
            if !done {
                assert_eq!(world.status(&pixel), None, "{what}");
                world.create(&pixel);
            }
        }
        "restore" => {
            let content = world.content(&pixel);
            assert!(["one", "two+"].contains(&content.as_str()), "{what}: {content}");
        }
        "destroy" => {
            if world.status(&pixel).is_some() {
                assert_eq!(world.content(&pixel), "two+", "{what}");
            }
        }
        _ => {
            let status = world.status(&pixel);
            let settled = matches!(status, Some(Status::Running | Status::Stopped));
            assert!(settled, "{what}: {status:?}");
            assert_eq!(world.content(&pixel), "two+", "{what}");
        }
    }
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
