//! The program with all scenarios: lists them, runs one at a time, and says how it went.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// How a scenario says that this kernel lacks what it needs.
const SKIPPED: &str = "skipped: ";

/// How scenarios are run in this guest.
pub struct Scenarios<'a> {
    pub program: PathBuf,
    pub environment: Vec<(&'a str, &'a str)>,
    /// Whatever takes longer hangs.
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

    /// Runs a scenario and prints how it went.
    pub fn run_and_tell(&self, test: &str) -> anyhow::Result<()> {
        let mut run = self.run(test)?;
        if run.has_failed() {
            // An emulated machine stands still at times, and not every scenario bears that. What fails twice has failed;
            // what does not is named.
            println!("{}", run.text);
            run = self.run(test)?;
            if !run.has_failed() {
                println!("vm: note passed only when tried again: {test}");
            }
        }
        if run.outcome != "pass" {
            println!("{}", run.text);
        }
        println!("vm: test {test} {} {}", run.outcome, run.ms);
        Ok(())
    }

    fn run(&self, test: &str) -> anyhow::Result<Run> {
        let said = File::options().create(true).truncate(true).read(true).write(true).open("/tmp/said")?;
        let start = Instant::now();
        let mut command = Command::new(&self.program);
        command.args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads=1"]);
        command.env("NETTOP_VM", "1").envs(self.environment.iter().copied()).current_dir("/tmp");
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
        // A group of its own, so that a hanging scenario goes with all its processes.
        let mut child = command.process_group(0).spawn()?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if start.elapsed() > self.limit {
                let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let ms = start.elapsed().as_millis();
        let mut text = String::new();
        (&said).rewind()?;
        (&said).read_to_string(&mut text)?;
        let skipped = text.lines().find_map(|line| line.split_once(SKIPPED).map(|(_, reason)| reason.to_owned()));
        let outcome = match status {
            None => "timeout",
            Some(status) if !status.success() => "fail",
            Some(_) if skipped.is_some() => "skip",
            Some(_) => "pass",
        };
        Ok(Run { outcome, ms, text: skipped.unwrap_or(text) })
    }
}

/// How a test went.
struct Run {
    outcome: &'static str,
    ms: u128,
    /// What it printed, or why it was skipped.
    text: String,
}

impl Run {
    fn has_failed(&self) -> bool {
        matches!(self.outcome, "fail" | "timeout")
    }
}
