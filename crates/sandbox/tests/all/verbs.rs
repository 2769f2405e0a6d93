use std::future::Future;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use pixels_sandbox::config::Environ;
use pixels_sandbox::memory::Memory;
use pixels_sandbox::*;

use super::hostile::{Act, Hostile};
use super::{name, with_box};

fn config(vars: &[(&str, &str)], file: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, file).unwrap();
    let environ: Environ = vars.iter().copied().collect();
    Config::load(Loader { environ, ..Loader::default() }.file(path)).unwrap()
}

#[tokio::test]
async fn several_names_give_outcomes_in_their_order() {
    let (pixels, _) = with_box().await;
    let names = ["c", "box", "a", "b"].map(name);
    let outcomes = pixels.create(CreateRequest::new(names.clone())).await.unwrap();
    let order: Vec<_> = outcomes.iter().map(|o| o.name.clone()).collect();
    assert_eq!(order, names);
    let bad: Vec<_> = outcomes.iter().filter(|o| o.result.is_err()).collect();
    assert_eq!(bad.len(), 1);
    assert!(bad[0].result.as_ref().unwrap_err().is_already_exists());

    let twice = pixels.create(CreateRequest::new([name("x"), name("x")])).await;
    assert_eq!(twice.unwrap_err().to_string(), "invalid name \"x\": it is given twice");

    let some = Targets::Names(vec![name("a"), name("a"), name("nope")]);
    let stopped = pixels.stop(&some, StopOpts::default()).await.unwrap();
    assert_eq!(stopped.len(), 2);
    assert!(stopped[0].result.is_ok() && stopped[1].result.as_ref().unwrap_err().is_not_found());
    let started = pixels.start(&name("a").into()).await.unwrap().remove(0).result.unwrap();
    assert!(started.status.is_running() && !started.addresses.is_empty());
    let again = pixels.restart(&name("a").into(), StopOpts::default()).await.unwrap();
    assert!(again[0].result.as_ref().unwrap().status.is_running());

    let gone = pixels.destroy(&name("nope").into(), true).await.unwrap();
    assert!(!gone[0].result.as_ref().unwrap());
    let all = pixels.destroy(&Targets::All, false).await.unwrap();
    assert!(all.len() == 4 && all.iter().all(|o| *o.result.as_ref().unwrap()));
    assert!(pixels.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn restricted_egress_is_refused_before_any_call() {
    let backend = Hostile::new(Memory::new());
    let by_flag = {
        let mut req = CreateRequest::new([name("a")]);
        req.egress = Some(EgressMode::Agent);
        req
    };
    let err = backend.pixels().create(by_flag.clone()).await.unwrap_err();
    assert_eq!(err.code(), "unsupported");
    assert_eq!(err.to_string(), "the hostile backend does not support the egress mode agent yet");
    let want = "leave --egress and --allow out: the pixel is then unrestricted";
    assert_eq!(err.hint().unwrap(), want);

    let arc = || std::sync::Arc::new(backend.clone());
    let config = config(&[("PIXELS_NETWORK_EGRESS", "allowlist")], "");
    let by_config = Pixels::with_backend(config, arc());
    let err = by_config.create(CreateRequest::new([name("a")])).await.unwrap_err();
    assert_eq!(err.code(), "unsupported");
    let want = "network.egress = \"unrestricted\" (now set by PIXELS_NETWORK_EGRESS), or --egress unrestricted";
    assert_eq!(err.hint().unwrap(), want);

    // Domains alone: for an image they mean nothing, for a clone a restricted mode.
    let mut domains = CreateRequest::new([name("a")]);
    domains.allow = vec!["a.com".into()];
    assert_eq!(backend.pixels().create(domains.clone()).await.unwrap_err().code(), "invalid");
    let clone = domains.from("box".parse().unwrap());
    assert_eq!(backend.pixels().create(clone).await.unwrap_err().code(), "unsupported");
    let run = RunRequest { create: by_flag, exec: ExecOpts::new(["true"]) };
    assert!(backend.pixels().run(run, async |_, p| p.wait().await).await.is_err());
    assert_eq!(backend.calls.load(Ordering::SeqCst), 0);

    // The configured default is for images; a clone takes its source's policy.
    backend.inner.create(CreateOpts::new(name("box"))).await.unwrap();
    let clone = CreateRequest::new([name("b")]).from("box".parse().unwrap());
    by_config.create(clone).await.unwrap().remove(0).result.unwrap();
}

#[tokio::test]
async fn policies_reach_backends_that_hold_them() {
    let mut backend = Hostile::new(Memory::new());
    backend.egress = true;
    let pixels = backend.pixels();
    let mut req = CreateRequest::new([name("a")]);
    req.egress = Some(EgressMode::Allowlist);
    req.allow = vec!["a.com".into(), "b.com".into()];
    pixels.create(req).await.unwrap().remove(0).result.unwrap();
    let policy = pixels.backend().get_policy(&name("a")).await.unwrap();
    assert_eq!((policy.mode, policy.domains.len()), (EgressMode::Allowlist, 2));
    let clone = CreateRequest::new([name("b")]).from("a".parse().unwrap());
    pixels.create(clone.clone()).await.unwrap().remove(0).result.unwrap();
    assert_eq!(pixels.backend().get_policy(&name("b")).await.unwrap(), policy);
    let mut other = CreateRequest { names: vec![name("c")], ..clone };
    other.allow = vec!["c.com".into()];
    pixels.create(other).await.unwrap().remove(0).result.unwrap();
    let policy = pixels.backend().get_policy(&name("c")).await.unwrap();
    assert_eq!(policy.domains, ["c.com"]);
}

#[tokio::test]
async fn the_configuration_and_the_request_reach_the_backend() {
    let config = config(&[], "[defaults]\nimage = \"memory/base\"\ncpu = 3\nmemory = \"1GiB\"\n");
    let pixels = Pixels::with_backend(config, std::sync::Arc::new(Memory::new()));
    let mut req = CreateRequest::new([name("a")]);
    req.memory = Some(5 << 20);
    req.ttl = Some(Duration::from_secs(60));
    let made = pixels.create(req).await.unwrap().remove(0).result.unwrap();
    assert_eq!((made.limits.cpu.as_deref(), made.limits.memory), (Some("3"), Some(5 << 20)));
    assert_eq!(made.meta.origin.as_deref(), Some("memory/base"));
    let expires = made.meta.expires_at.unwrap();
    let mut missing = CreateRequest::new([name("b")]);
    missing.image = Some("nope".into());
    assert!(pixels.create(missing).await.unwrap()[0].result.as_ref().unwrap_err().is_not_found());

    let second = jiff::SignedDuration::from_secs(1);
    let early = pixels.gc(expires.checked_sub(second).unwrap()).await.unwrap();
    assert!(early.expired.is_empty());
    let due = pixels.gc(expires).await.unwrap();
    assert!(due.expired.len() == 1 && due.expired[0].result.is_ok());
    assert!(pixels.list().await.unwrap().is_empty());

    let mut zero = CreateRequest::new([name("c")]);
    zero.ttl = Some(Duration::ZERO);
    assert_eq!(pixels.create(zero).await.unwrap_err().code(), "invalid");
}

#[tokio::test]
async fn checkpoints_have_labels_of_their_own() {
    let (pixels, _) = with_box().await;
    let boxed = name("box");
    let mut labels = Vec::new();
    for _ in 0..3 {
        labels.push(pixels.create_checkpoint(&boxed, None).await.unwrap().label);
    }
    for label in &labels {
        let text = label.as_str();
        assert!(text.starts_with("px-20") && text.len() >= 18, "{text}");
    }
    // Within one second the second and third carry a number.
    let stems: std::collections::BTreeSet<_> = labels.iter().map(|l| &l.as_str()[..18]).collect();
    assert!(stems.len() == 3 || labels.iter().any(|l| l.as_str().ends_with("-2")), "{labels:?}");

    let plan = pixels.restore_plan(&boxed, &labels[0]).await.unwrap();
    assert_eq!(plan.newer, labels[1..]);
    pixels.restore_checkpoint(&boxed, &labels[0]).await.unwrap();
    pixels.delete_checkpoint(&boxed, &labels[0]).await.unwrap();
    let err = pixels.restore_plan(&boxed, &labels[0]).await.unwrap_err();
    assert!(err.is_not_found());
    assert_eq!(pixels.checkpoints(&boxed).await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_environment_is_written_and_session_variables_are_not() {
    let file = "[env]\nA = \"${HOST}/x\"\nB = { value = \"b\", session_only = true }\n";
    let config = config(&[("HOST", "h")], file);
    let backend = Hostile::new(Memory::new());
    let pixels = Pixels::with_backend(config, std::sync::Arc::new(backend.clone()));
    let mut req = CreateRequest::new([name("a")]);
    req.env = vec![(b"C".to_vec(), b"c d".to_vec())];
    pixels.create(req.clone()).await.unwrap().remove(0).result.unwrap();
    let (text, _) = pixels.backend().read_file(&name("a"), "/etc/environment", 0).await.unwrap();
    assert_eq!(text, b"A=h/x\nC=c d\n");

    let opts = ExecOpts { no_stdin: true, ..ExecOpts::new(["env", "-0"]) };
    let mut process = pixels.exec(&name("a"), opts).await.unwrap();
    let mut out = Vec::new();
    let mut stdout = process.stdout.take().unwrap();
    tokio::io::AsyncReadExt::read_to_end(&mut stdout, &mut out).await.unwrap();
    assert!(out.split(|b| *b == 0).any(|v| v == b"B=b"));

    req.no_provision = true;
    assert_eq!(pixels.create(req.clone()).await.unwrap_err().code(), "invalid");
    req.no_provision = false;
    req.env = vec![(b"C".to_vec(), b"two\nlines".to_vec())];
    assert_eq!(pixels.create(req.clone()).await.unwrap_err().code(), "invalid");

    // One that cannot be written is not left half-made.
    req.env = vec![(b"C".to_vec(), b"c".to_vec())];
    req.names = vec![name("z")];
    let pixels =
        backend.clone().hook(|op, _| if op == "write" { Act::Fail } else { Act::Go }).pixels();
    assert!(pixels.create(req.clone()).await.unwrap()[0].result.is_err());
    assert!(pixels.get(&name("z")).await.unwrap_err().is_not_found());

    // Interrupted there, close() removes it.
    let pixels = backend.hook(|op, _| if op == "write" { Act::Hang } else { Act::Go }).pixels();
    poll_once(pixels.create(req)).await;
    assert!(pixels.get(&name("z")).await.is_ok());
    pixels.close().await.unwrap();
    assert!(pixels.get(&name("z")).await.unwrap_err().is_not_found());
}

/// Runs `future` until it waits for good, and drops it.
pub async fn poll_once<F: Future>(future: F) {
    let mut future = Box::pin(future);
    for _ in 0..200 {
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending(), "it was to hang");
        // Blocking threads of file reads get their turn.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn run_leaves_nothing() {
    let pixels = Pixels::with_backend(Config::default(), std::sync::Arc::new(Memory::new()));
    let req = |cmd: &[&str]| RunRequest {
        create: CreateRequest::new([]),
        exec: ExecOpts { no_stdin: true, ..ExecOpts::new(cmd.iter().copied()) },
    };
    let status = pixels.run(req(&["sh", "-c", "exit 7"]), async |_, p| p.wait().await).await;
    assert_eq!(status.unwrap().code(), 7);
    assert!(pixels.list().await.unwrap().is_empty());
    let failed: Result<()> = pixels
        .run(req(&["true"]), async |name, _| {
            assert!(name.as_str().starts_with("run-") && name.as_str().len() == 16);
            Err(Error::backend("drive", "no"))
        })
        .await;
    assert_eq!(failed.unwrap_err().to_string(), "drive: no");
    assert!(pixels.list().await.unwrap().is_empty());

    poll_once(pixels.run(req(&["sleep", "600"]), async |_, p| p.wait().await)).await;
    assert_eq!(pixels.list().await.unwrap().len(), 1);
    pixels.close().await.unwrap();
    assert!(pixels.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_console_starts_a_stopped_pixel() {
    let (pixels, _) = with_box().await;
    let boxed = name("box");
    pixels.stop(&boxed.clone().into(), StopOpts::default()).await.unwrap();
    let err = pixels.exec(&boxed, ExecOpts::new(["true"])).await.unwrap_err();
    assert_eq!(err.code(), "wrong_state");
    pixels.console(&boxed, ConsoleOpts::default()).await.unwrap();
    assert!(pixels.get(&boxed).await.unwrap().status.is_running());
}

#[test]
fn backends_that_are_not_built_in_say_so() {
    let config = config(&[("PIXELS_BACKEND", "truenas"), ("PIXELS_TRUENAS_HOST", "nas")], "");
    let err = Pixels::open(config).err().unwrap();
    assert_eq!(err.code(), "unsupported");
    let want = "the truenas backend does not support anything yet: it is not in this version";
    assert_eq!(err.to_string(), want);
    assert!(err.hint().unwrap().contains("--backend incus"), "{err}");
}
