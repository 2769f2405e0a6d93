//! What the chores print, and the sum of what the test runners print.

use std::io::Write;
use std::time::Duration;

/// Prints a line. A closed stdout is no reason to stop half-way.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// What test runners counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    /// Left out by the runner, each with its reason in the output.
    pub ignored: u64,
}

impl Counts {
    /// Adds what a line says, if it is libtest's result:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub fn read(&mut self, line: &str) {
        let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// One stage that ran.
struct Stage {
    name: String,
    counts: Counts,
    took: Duration,
}

/// Everything that ran and what did not.
#[derive(Default)]
pub struct Report {
    stages: Vec<Stage>,
    left_out: Vec<String>,
}

impl Report {
    /// A stage is over.
    pub fn stage(&mut self, name: &str, counts: Counts, took: Duration) {
        let word = if counts.failed == 0 { "ok" } else { "FAILED" };
        line(&format!("--- {name}: {word}, {:.1} s", took.as_secs_f64()));
        self.stages.push(Stage { name: name.to_owned(), counts, took });
    }

    /// Something was not run.
    pub fn left_out(&mut self, what: &str) {
        line(&format!("--- not run: {what}"));
        self.left_out.push(what.to_owned());
    }

    /// Prints the table and the closing line; whether all of it passed.
    pub fn close(&self, must_be_whole: bool) -> bool {
        let mut sum = Counts::default();
        line("\nseconds   passed   failed  ignored  stage");
        for Stage { name, counts, took } in &self.stages {
            let Counts { passed, failed, ignored } = counts;
            let took = took.as_secs_f64();
            line(&format!("{took:7.1} {passed:8} {failed:8} {ignored:8}  {name}"));
            sum.add(*counts);
        }
        for what in &self.left_out {
            line(&format!("not run: {what}"));
        }
        if must_be_whole {
            sum.failed += self.left_out.len() as u64;
        }
        line(&format!("\n{} passed, {} failed", sum.passed, sum.failed));
        sum.failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test a ... test result: ok. 9 passed; 9 failed",
            "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 7 filtered out",
        ] {
            counts.read(line);
        }
        assert_eq!(counts, Counts { passed: 5, failed: 4, ignored: 1 });
    }
}
