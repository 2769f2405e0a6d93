//! A test binary's `main`: each case a named test, in the words of libtest.
//!
//! It understands what `cargo test` and `cargo nextest` pass: filters,
//! `--exact`, `--skip`, `--list`, `--ignored`, `--test-threads`. One process
//! shares one pixel among all cases and cleans up once at its end.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use futures_util::StreamExt;
use tokio::sync::OnceCell;

use crate::ctx::Shared;
use crate::suite::cases;
use crate::{Case, Ctx, Skip, Subject};

/// The longest that one case may take, its clean-up apart.
const CASE_LIMIT: Duration = Duration::from_secs(240);
/// How many cases run at once, unless `--test-threads` says.
const THREADS: usize = 4;

type Made = Pin<Box<dyn Future<Output = Result<Subject>> + Send>>;
type Maker = Box<dyn Fn() -> Made + Send + Sync>;

/// The conformance suite over one or more subjects.
#[derive(Default)]
pub struct Suite {
    subjects: Vec<(String, Maker)>,
}

/// How one test ended.
enum Verdict {
    Passed,
    Ignored(String),
    Failed(String),
}

/// What was asked for on the command line.
#[derive(Default)]
struct Args {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    list: bool,
    only_ignored: bool,
    threads: Option<usize>,
}

/// A subject while its tests run: made once, by the first of them.
struct Running {
    maker: Maker,
    made: OnceCell<Result<Arc<Shared>, String>>,
}

impl Suite {
    /// Without subjects.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more subject. `make` is called once, and only if a test of it runs;
    /// an error of it that is a [`Skip`] leaves its tests out with that reason.
    #[must_use]
    pub fn subject<F, Fut>(mut self, name: &str, make: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Subject>> + Send + 'static,
    {
        self.subjects.push((name.to_owned(), Box::new(move || Box::pin(make()))));
        self
    }

    /// Runs what the command line asks for, on a runtime of several threads.
    pub fn main(self) -> ExitCode {
        let args = Args::parse(std::env::args().skip(1));
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(4).enable_all();
        match runtime.build() {
            Ok(runtime) => runtime.block_on(self.run(args)),
            Err(e) => {
                say(&format!("error: no runtime: {e}"));
                ExitCode::FAILURE
            }
        }
    }

    async fn run(self, args: Args) -> ExitCode {
        let mut tests: Vec<(String, String, Case)> = Vec::new();
        for (subject, _) in &self.subjects {
            for case in cases() {
                tests.push((format!("{subject}::{}", case.name), subject.clone(), case));
            }
        }
        let all = tests.len();
        tests.retain(|(name, ..)| args.wants(name));
        if args.list {
            for (name, ..) in tests.iter().filter(|_| !args.only_ignored) {
                say(&format!("{name}: test"));
            }
            return ExitCode::SUCCESS;
        }
        if args.only_ignored {
            // What is left out here cannot be run: there is nothing to ask for.
            tests.clear();
        }
        let subjects: BTreeMap<String, Running> = self
            .subjects
            .into_iter()
            .map(|(name, maker)| (name, Running { maker, made: OnceCell::new() }))
            .collect();
        say(&format!("\nrunning {} tests", tests.len()));
        let (began, count) = (Instant::now(), tests.len());
        let results = futures_util::stream::iter(tests)
            .map(|(name, subject, case)| {
                let subject = &subjects[&subject];
                async move {
                    let began = Instant::now();
                    let verdict = subject.test(case).await;
                    report(&name, &verdict, began.elapsed());
                    (name, verdict)
                }
            })
            .buffer_unordered(args.threads.unwrap_or(THREADS).max(1))
            .collect::<Vec<_>>();
        let interrupted = tokio::select! {
            results = results => Ok(results),
            _ = tokio::signal::ctrl_c() => Err(()),
        };
        let mut failures: Vec<(String, String)> = Vec::new();
        for (name, subject) in &subjects {
            if let Err(e) = subject.end().await {
                failures.push((format!("{name}::teardown"), format!("{e:#}")));
            }
        }
        let Ok(results) = interrupted else {
            say("\ninterrupted");
            return ExitCode::from(130);
        };
        let mut ignored = 0;
        for (name, verdict) in results {
            match verdict {
                Verdict::Passed => {}
                Verdict::Ignored(_) => ignored += 1,
                Verdict::Failed(why) => failures.push((name, why)),
            }
        }
        for (name, why) in &failures {
            say(&format!("\n---- {name} ----\n{why}"));
        }
        say(&format!(
            "\ntest result: {}. {} passed; {} failed; {ignored} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
            if failures.is_empty() { "ok" } else { "FAILED" },
            count.saturating_sub(ignored + failures.len()),
            failures.len(),
            all - count,
            began.elapsed().as_secs_f64(),
        ));
        if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
    }
}

impl Running {
    async fn test(&self, case: Case) -> Verdict {
        let made = self.made.get_or_init(|| async {
            match (self.maker)().await {
                Ok(subject) => Ok(Arc::new(Shared::new(subject))),
                Err(e) if e.is::<Skip>() => Err(format!("skip:{e}")),
                Err(e) => Err(format!("{e:#}")),
            }
        });
        let shared = match made.await {
            Ok(shared) => Arc::clone(shared),
            Err(why) => {
                return match why.strip_prefix("skip:") {
                    Some(why) => Verdict::Ignored(why.into()),
                    None => Verdict::Failed(format!("the subject could not be made: {why}")),
                };
            }
        };
        if let Some(why) = case.unmet(&shared.subject) {
            return Verdict::Ignored(why.into());
        }
        let ctx = Ctx::new(shared);
        // A task of its own: a panic in it is a failure, not the end of the run.
        let mut task = tokio::spawn((case.run)(ctx.clone()));
        let result = match tokio::time::timeout(CASE_LIMIT, &mut task).await {
            Ok(Ok(result)) => result,
            Ok(Err(e)) => Err(anyhow!("{e}")),
            Err(_) => {
                task.abort();
                Err(anyhow!("not done after {} s", CASE_LIMIT.as_secs()))
            }
        };
        match (result, ctx.clean().await) {
            (Ok(()), Ok(())) => Verdict::Passed,
            (Ok(()), Err(e)) => Verdict::Failed(format!("clean-up: {e:#}")),
            (Err(e), Ok(())) => Verdict::Failed(format!("{e:#}")),
            (Err(e), Err(also)) => Verdict::Failed(format!("{e:#}\nand clean-up: {also:#}")),
        }
    }

    /// Removes what is left, and closes the backend.
    async fn end(&self) -> Result<()> {
        if let Some(Ok(shared)) = self.made.get() {
            let removed = shared.teardown().await;
            shared.subject.backend.close().await?;
            removed?;
        }
        Ok(())
    }
}

impl Args {
    fn parse(words: impl Iterator<Item = String>) -> Self {
        let mut args = Self::default();
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) if key.starts_with("--") => {
                    (key.to_owned(), Some(value.to_owned()))
                }
                _ => (word, None),
            };
            let mut value = || value.clone().or_else(|| words.next());
            match key.as_str() {
                "--exact" => args.exact = true,
                "--list" => args.list = true,
                "--ignored" => args.only_ignored = true,
                "--skip" => args.skip.extend(value()),
                "--test-threads" => args.threads = value().and_then(|n| n.parse().ok()),
                "--format" | "--color" | "--logfile" | "-Z" | "--report-time" => drop(value()),
                flag if flag.starts_with('-') => {}
                _ => args.filters.push(key),
            }
        }
        args
    }

    fn wants(&self, name: &str) -> bool {
        let hit = |f: &String| if self.exact { name == f } else { name.contains(f.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(hit)) && !self.skip.iter().any(hit)
    }
}

fn report(name: &str, verdict: &Verdict, took: Duration) {
    let word = match verdict {
        Verdict::Passed => format!("ok ({:.2}s)", took.as_secs_f64()),
        Verdict::Ignored(why) => format!("ignored, {why}"),
        Verdict::Failed(why) => format!("FAILED: {}", why.lines().next().unwrap_or_default()),
    };
    say(&format!("test {name} ... {word}"));
}

/// Test results go to stdout, as libtest's do. A closed one is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
