//! The verbs, each done by a process that may die in the middle of it.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;

use pixels_core::{Backend, CloneOpts, CreateOpts, Name, Progress, Result, StopOpts};
use pixels_engine::Engine;

use crate::world::{IMAGE, LIMIT, engine, kill, label, name, runtime};

/// How a process that only failed ends.
const FAILED: i32 = 33;

/// A file whose lock a process waits for before it begins.
pub(crate) const GATE: &str = "PIXELS_TEST_GATE";
/// It waits.
pub(crate) const READY: &str = "it waits at the gate";

/// Does a verb; `rest` is the store, the verb and its names.
pub(crate) fn main(rest: &str) {
    let words: Vec<&str> = rest.split(' ').collect();
    let engine = engine(Path::new(words[0]));
    if let Some(gate) = std::env::var_os(GATE) {
        println!("{READY}");
        std::fs::File::open(gate).unwrap().lock_shared().unwrap();
    }
    let done = runtime().block_on(async {
        let done = tokio::time::timeout(LIMIT, run(&engine, words[1], &words[2..])).await;
        engine.close().await.unwrap();
        done.expect("it ends")
    });
    if let Err(e) = done {
        eprintln!("error: {e:?}");
        std::process::exit(FAILED);
    }
}

/// What a verb does with a pixel and, for some, another name.
pub(crate) async fn run(engine: &Engine, verb: &str, args: &[&str]) -> Result<()> {
    let pixel = || name(args[0]);
    let clone = |at: Option<&'static str>| {
        let (source, to) = (pixel(), name(args[1]));
        async move {
            let at = at.map(label);
            engine.clone_from(&source, at.as_ref(), &to, CloneOpts::default()).await.map(drop)
        }
    };
    match verb {
        "create" => engine.create(CreateOpts::new(pixel())).await.map(drop),
        "start" => engine.start(&pixel()).await,
        "stop" => engine.stop(&pixel(), StopOpts::default()).await,
        "kill" => engine.stop(&pixel(), kill()).await,
        "destroy" => engine.delete(&pixel()).await,
        "checkpoint" => engine.create_snapshot(&pixel(), &label("new")).await.map(drop),
        "drop" => engine.delete_snapshot(&pixel(), &label("c")).await,
        "restore" => engine.restore_snapshot(&pixel(), &label("c")).await,
        "clone" => clone(Some("c")).await,
        "copy" => clone(None).await,
        "sweep" => engine.sweep().await.map(drop),
        "exec" => {
            use pixels_core::SandboxExt;
            engine.output(&pixel(), &["/bin/sh", "-c", "read a </data"]).await.map(drop)
        }
        "push" => {
            use pixels_core::SandboxExt;
            engine.write_file(&pixel(), "/pushed", b"pushed", 0o600, None).await
        }
        "import" => {
            engine.import_image(args[0], Some("other"), Progress::default()).await.map(drop)
        }
        "unimport" => engine.remove_image("other").await.map(drop),
        "image" => engine.import_image(args[0], Some(IMAGE), Progress::default()).await.map(drop),
        other => panic!("there is no verb {other}"),
    }
}

/// How a process that did a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Failed,
    Died,
}

/// The end of a child; anything unforeseen is a failure of the test.
pub(crate) fn end(output: &Output) -> End {
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => End::Done,
        (Some(FAILED), _) => End::Failed,
        (_, Some(9)) => End::Died,
        _ => panic!(
            "{}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

/// The words for a verb's process.
pub(crate) fn words(root: &Path, verb: &str, args: &[&Name]) -> String {
    let mut words = format!("verb {} {verb}", root.display());
    for arg in args {
        words.push(' ');
        words.push_str(arg.as_str());
    }
    words
}
