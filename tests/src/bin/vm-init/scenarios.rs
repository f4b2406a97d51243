//! The program with all scenarios: lists them, runs one at a time, and prints its result.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::hanging;

/// Prefix of a skip: the kernel lacks what a scenario needs.
const SKIPPED: &str = "skipped: ";

/// How scenarios are run in this guest.
pub struct Scenarios<'a> {
    pub program: PathBuf,
    pub environment: Vec<(&'a str, &'a str)>,
    /// File for their output.
    pub printed: PathBuf,
    /// What takes longer hangs.
    pub limit: Duration,
}

impl Scenarios<'_> {
    /// Names, with the file each is in.
    pub fn list(&self) -> anyhow::Result<Vec<String>> {
        let ignored = self.ignored()?;
        Ok(self.names(&[])?.into_iter().filter(|test| !ignored.contains(test)).collect())
    }

    /// Of those that need a machine of their own.
    pub fn ignored(&self) -> anyhow::Result<Vec<String>> {
        self.names(&["--ignored"])
    }

    fn names(&self, more: &[&str]) -> anyhow::Result<Vec<String>> {
        let output = Command::new(&self.program).args(["--list", "--format", "terse"]).args(more).output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(ToOwned::to_owned).collect())
    }

    /// Runs a scenario in a process of its own and prints how it went.
    pub fn run_and_report(&self, test: &str) -> anyhow::Result<()> {
        self.run(test)?.report(test);
        Ok(())
    }

    /// Runs scenarios in one process, where they share a nettopd, and prints how each went as soon as it is known.
    pub fn run_together(&self, tests: &[&str]) -> anyhow::Result<()> {
        let mut left = tests;
        while !left.is_empty() {
            let ended = self.run_process(left)?;
            // If the process hung or crashed, the rest get another.
            left = &left[ended..];
        }
        Ok(())
    }

    /// Returns how many have ended: one at least.
    fn run_process(&self, tests: &[&str]) -> anyhow::Result<usize> {
        let (mut child, printed) = self.spawn(tests, &[("NETTOP_SHARED", "1")])?;
        let mut start = Instant::now();
        let mut ended = 0;
        loop {
            let status = child.try_wait()?;
            let text = read(&printed)?;
            let results = read_results(&text, tests);
            for (test, run) in tests.iter().zip(&results).skip(ended) {
                run.report(test);
                start = Instant::now();
            }
            ended = results.len();
            let hangs = start.elapsed() > self.limit;
            if status.is_none() && !hangs {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            let text = if hangs { text + &hanging::processes_of(child.id()) } else { text };
            // With the nettopd that they shared.
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            child.wait()?;
            if let Some(test) = tests.get(ended) {
                let ms = start.elapsed().as_millis();
                Run { outcome: if hangs { "timeout" } else { "fail" }, ms, text }.report(test);
                ended += 1;
            }
            return Ok(ended);
        }
    }

    fn run(&self, test: &str) -> anyhow::Result<Run> {
        let start = Instant::now();
        let (mut child, printed) = self.spawn(&[test], &[])?;
        let mut hanging = String::new();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if start.elapsed() > self.limit {
                hanging = hanging::processes_of(child.id());
                let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let ms = start.elapsed().as_millis();
        let text = read(&printed)? + &hanging;
        let reason = skip_reason(&text);
        let outcome = match status {
            None => "timeout",
            Some(status) if !status.success() => "fail",
            Some(_) if reason.is_some() => "skip",
            Some(_) => "pass",
        };
        Ok(Run { outcome, ms, text: reason.unwrap_or(text) })
    }

    /// Starts a process for these, one after the other, and returns the file with their output.
    fn spawn(&self, tests: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<(Child, File)> {
        let _ = fs::remove_file(&self.printed);
        // Each write goes to the end, wherever it is read meanwhile.
        let printed = File::options().create(true).read(true).append(true).open(&self.printed)?;
        let mut command = Command::new(&self.program);
        command.args(["--nocapture", "--include-ignored", "--test-threads=1", "--exact"]).args(tests);
        // Times are an unstable option of a stable test program.
        command.args(["-Zunstable-options", "--report-time"]).env("RUSTC_BOOTSTRAP", "1");
        command.env("NETTOP_VM", "1").envs(self.environment.iter().copied()).envs(environment.iter().copied());
        command.current_dir("/tmp").stdin(Stdio::null()).stdout(printed.try_clone()?).stderr(printed.try_clone()?);
        // A group of its own, so that a hanging scenario goes with all its processes.
        Ok((command.process_group(0).spawn()?, printed))
    }
}

fn read(printed: &File) -> anyhow::Result<String> {
    let (mut printed, mut bytes) = (printed, Vec::new());
    printed.rewind()?;
    printed.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn skip_reason(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.split_once(SKIPPED).map(|(_, reason)| reason.to_owned()))
}

/// Results of those of `tests` that have ended, from the test program's output: it runs them in order.
fn read_results(text: &str, tests: &[&str]) -> Vec<Run> {
    let mut rest = text;
    let mut results = Vec::new();
    for test in tests {
        let Some((_, printed)) = rest.split_once(&format!("test {test} ... ")) else { break };
        let mut from = 0;
        let ended = printed.split_inclusive('\n').find_map(|line| {
            let end = from + line.len();
            let result = ["ok", "FAILED"].into_iter().zip(["pass", "fail"]).find_map(|(word, outcome)| {
                let seconds = line.strip_prefix(word)?.strip_prefix(" <")?.strip_suffix("s>\n")?;
                Some((outcome, Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?))
            });
            let before = from;
            from = end;
            result.map(|(outcome, took)| (outcome, took, before, end))
        });
        let Some((outcome, took, before, end)) = ended else { break };
        let text = &printed[..before];
        let reason = if outcome == "pass" { skip_reason(text) } else { None };
        let outcome = if reason.is_some() { "skip" } else { outcome };
        results.push(Run { outcome, ms: took.as_millis(), text: reason.unwrap_or_else(|| text.to_owned()) });
        rest = &printed[end..];
    }
    results
}

/// How a test went.
struct Run {
    outcome: &'static str,
    ms: u128,
    /// What it printed, or why it was skipped.
    text: String,
}

impl Run {
    fn report(&self, test: &str) {
        if self.outcome != "pass" {
            println!("{}", self.text);
        }
        println!("vm: test {test} {} {}", self.outcome, self.ms);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

    use super::{Scenarios, read_results};

    #[test]
    fn results_of_one_process_are_separated() {
        let tests = ["a::b", "a::c", "a::d", "a::e"];
        let text = "\nrunning 4 tests\ntest a::b ... ok <0.250s>\ntest a::c ... printed\nok <1.0s\nFAILED <1.500s>\n\
                    test a::d ... \nskipped: no D\nok <0.001s>\ntest a::e ... ok <";
        let results = read_results(text, &tests);
        let read: Vec<_> = results.iter().map(|run| (run.outcome, run.ms, run.text.as_str())).collect();
        assert_eq!(read, [("pass", 250, ""), ("fail", 1500, "printed\nok <1.0s\n"), ("skip", 1, "no D")]);
        assert!(read_results("thread panicked", &tests).is_empty());
    }
    #[test]
    fn one_that_hangs_or_crashes_is_reported_and_the_rest_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("scenarios");
        // Its last arguments are names, and two options behind them.
        let script = "#!/bin/sh\nshift 4\nfor test; do case $test in\n-*) exit;;\nhangs) echo test hangs ... ; sleep 60;;\n\
                      crashes) echo test crashes ... ; exit 1;;\n*) echo \"test $test ... ok <0.100s>\";;\nesac; done\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let printed = folder.path().join("printed");
        let with_time = Scenarios { program, environment: Vec::new(), printed, limit: Duration::from_secs(60) };
        assert_eq!(with_time.run_process(&["a", "b"]).unwrap(), 2);
        assert_eq!(with_time.run_process(&["a", "crashes", "b"]).unwrap(), 2);
        with_time.run_together(&["crashes", "a", "crashes", "b"]).unwrap();
        let without_time = Scenarios { limit: Duration::ZERO, ..with_time };
        assert_eq!(without_time.run_process(&["hangs", "a"]).unwrap(), 1);
    }
}
