//! Steps of a proof that run in parallel: each prints its beginning and end, and all are listed at the end, after what
//! failed.

use std::{
    fmt::{Display, Formatter},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;

/// A failure's output is shown up to this many lines: its log has the rest.
const SHOWN_LINES: usize = 40;

/// How many tests a step ran, by outcome.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Tests {
    pub passed: usize,
    pub skipped: usize,
    pub failed: Vec<Failure>,
}

/// A test that failed.
#[derive(PartialEq, Eq, Debug)]
pub struct Failure {
    pub test: String,
    pub output: String,
}

impl Tests {
    /// Adds up the `test result:` lines of test programs; what they ignore is skipped.
    pub fn parse(output: &str) -> Self {
        let mut sum = Self::default();
        let mut lines = output.lines();
        while let Some(line) = lines.next() {
            if let Some(test) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
                // Two empty lines end it, but output may have them as well: the next heading does for certain.
                let ends = |line: &&str| !line.starts_with("---- ") && *line != "failures:";
                let output: Vec<&str> = lines.clone().take_while(ends).collect();
                sum.failed.push(Failure { test: test.to_owned(), output: output.join("\n") });
            } else if line.starts_with("test result:") {
                let count = |what: &str| {
                    let words = line.split_whitespace().zip(line.split_whitespace().skip(1));
                    let mut found =
                        words.filter(|(_, word)| *word == what).filter_map(|(number, _)| number.parse().ok());
                    found.next().unwrap_or(0)
                };
                sum.passed += count("passed;");
                sum.skipped += count("ignored;");
            }
        }
        sum
    }

    pub fn add(&mut self, more: Self) {
        self.passed += more.passed;
        self.skipped += more.skipped;
        self.failed.extend(more.failed);
    }
}

impl Display for Failure {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(to, "--- {} failed", self.test)?;
        // The reason comes first when a test panics, and last when a kernel adds more.
        let lines: Vec<&str> = self.output.trim().lines().collect();
        let cut = lines.len().saturating_sub(SHOWN_LINES);
        let (first, last) = lines.split_at(lines.len().min(SHOWN_LINES / 2));
        let last = last.get(cut..).unwrap_or_default();
        first.iter().try_for_each(|line| writeln!(to, "{line}"))?;
        if cut > 0 {
            writeln!(to, "[{cut} lines more]")?;
        }
        last.iter().try_for_each(|line| writeln!(to, "{line}"))
    }
}

impl Display for Tests {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped)
    }
}

/// A step that has ended.
struct Step {
    name: String,
    from: Duration,
    took: Duration,
    tests: Option<Tests>,
    /// What went wrong.
    error: Option<String>,
}

/// All steps of one command.
pub struct Steps {
    begin: Instant,
    ended: Mutex<Vec<Step>>,
}

impl Steps {
    pub fn begin() -> Self {
        Self { begin: Instant::now(), ended: Mutex::default() }
    }

    /// Runs a step. Nothing is returned if it failed.
    pub fn run<T>(&self, name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> Option<T> {
        self.time(name, || work().map(|result| (result, None)))
    }

    /// Runs a step made of tests, which fails by an error, or by a test that failed.
    pub fn test(&self, name: &str, work: impl FnOnce() -> anyhow::Result<Tests>) {
        self.time(name, || work().map(|tests| ((), Some(tests))));
    }

    fn time<T>(&self, name: &str, work: impl FnOnce() -> anyhow::Result<(T, Option<Tests>)>) -> Option<T> {
        eprintln!("xtask: {name} …");
        let from = self.begin.elapsed();
        let result = work();
        let took = self.begin.elapsed().saturating_sub(from);
        let (result, tests, error) = match result {
            Ok((result, tests)) => {
                let failed = tests.as_ref().map_or(0, |tests| tests.failed.len());
                (Some(result), tests, (failed > 0).then(|| format!("{failed} tests failed")))
            }
            Err(error) => (None, None, Some(format!("{error:#}"))),
        };
        eprintln!("xtask: {name}: {} after {} s", error.as_deref().unwrap_or("done"), took.as_secs());
        let step = Step { name: name.to_owned(), from, took, tests, error };
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(step);
        result
    }

    /// Lists all steps.
    ///
    /// # Errors
    ///
    /// With the names of those that failed.
    pub fn finish(self) -> anyhow::Result<()> {
        let took = self.begin.elapsed();
        let mut steps = self.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        steps.sort_by_key(|step| step.from);
        for step in &steps {
            for failure in step.tests.iter().flat_map(|tests| &tests.failed) {
                print!("{}: {failure}", step.name);
            }
            if let (None, Some(error)) = (&step.tests, &step.error) {
                println!("{}: {error}", step.name);
            }
        }
        println!("{:>6} {:>6}  step", "from", "took");
        for step in &steps {
            let tests = step.tests.as_ref().map_or_else(String::new, |tests| format!(": {tests}"));
            let failed = step.error.as_ref().map_or("", |_| ", FAILED");
            println!("{:>4} s {:>4} s  {}{tests}{failed}", step.from.as_secs(), step.took.as_secs(), step.name);
        }
        let failed: Vec<String> =
            steps.iter().filter(|step| step.error.is_some()).map(|step| step.name.clone()).collect();
        let mut all = Tests::default();
        steps.into_iter().filter_map(|step| step.tests).for_each(|tests| all.add(tests));
        println!("{all}, in {} min {} s", took.as_secs() / 60, took.as_secs() % 60);
        if failed.is_empty() { Ok(()) } else { bail!("these failed: {}", failed.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, Steps, Tests};

    fn failure(output: String) -> Failure {
        Failure { test: "b".into(), output }
    }

    #[test]
    fn results_of_several_programs_are_added_up() {
        let said = "running 3 tests\ntest a ... ok\n\
                    test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
                    test b ... FAILED\n\nfailures:\n\n---- b stdout ----\nit said 1\n\nfailures:\n    b\n\
                    test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.2s\n";
        let failed = vec![failure("it said 1\n".into())];
        assert_eq!(Tests::parse(said), Tests { passed: 5, failed, skipped: 1 });
        assert_eq!(Tests::parse(""), Tests::default());
    }

    #[test]
    fn a_long_failure_shows_its_begin_and_its_end() {
        assert_eq!(failure("said\n".into()).to_string(), "--- b failed\nsaid\n");
        let lines: Vec<String> = (1..=45).map(|n| n.to_string()).collect();
        let shown = failure(lines.join("\n")).to_string();
        assert!(shown.contains("\n20\n[5 lines more]\n26\n"), "{shown}");
        assert!(shown.ends_with("\n45\n"), "{shown}");
    }

    #[test]
    fn one_that_failed_fails_all() {
        let steps = Steps::begin();
        assert_eq!(steps.run("good", || Ok(1)), Some(1));
        steps.test("good tests", || Ok(Tests { passed: 1, skipped: 1, ..Tests::default() }));
        assert!(steps.finish().is_ok());

        let steps = Steps::begin();
        assert_eq!(steps.run("bad", || Err::<u8, _>(anyhow::anyhow!("no"))), None);
        steps.test("bad tests", || Ok(Tests { passed: 1, failed: vec![failure("no".into())], skipped: 0 }));
        assert_eq!(steps.finish().unwrap_err().to_string(), "these failed: bad, bad tests");
    }
}
