//! What a pass over all tasks costs, which the history makes once each interval.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork, pause},
};

const TASKS: usize = 5000;
const INTERVALS: u64 = 10;

/// Measures the thread that reads, with so many sleeping processes more.
pub fn run(nettopd: &str) -> anyhow::Result<()> {
    let without = ns_per_interval(nettopd)?;
    let sleepers = Sleepers::start()?;
    let with = ns_per_interval(nettopd)?;
    println!(
        "usage of {TASKS} processes: {:.1} ms of CPU an interval, {:.1} ms without them (goal 10)",
        millis(with),
        millis(without)
    );
    drop(sleepers);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// CPU time of the thread that reads, in an interval.
fn ns_per_interval(nettopd: &str) -> anyhow::Result<u64> {
    let folder = Folder::new()?;
    let mut command = Command::new(nettopd);
    command.arg("--history").arg(folder.0.join("history.db")).args(["--format", "ndjson", "-n", "0.5"]);
    let mut nettopd = Running(command.stdout(Stdio::piped()).spawn()?);
    let mut reports = BufReader::new(nettopd.0.stdout.take().context("nettopd has no output")?);
    let mut wait = |number: u64| -> anyhow::Result<()> {
        for _ in 0..number {
            reports.read_line(&mut String::new())?;
        }
        Ok(())
    };
    wait(3)?;
    let before = cpu_ns(nettopd.0.id())?;
    wait(INTERVALS)?;
    Ok((cpu_ns(nettopd.0.id())? - before) / INTERVALS)
}

fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == "nettopd-usage" {
            let schedstat = fs::read_to_string(task.join("schedstat"))?;
            return Ok(schedstat.split(' ').next().context("an empty schedstat")?.parse()?);
        }
    }
    anyhow::bail!("nettopd has no thread that reads usage")
}

/// Removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("nettopd-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processes that do nothing, ended when dropped.
struct Sleepers(Vec<Pid>);

impl Sleepers {
    fn start() -> anyhow::Result<Self> {
        let mut all = Self(Vec::with_capacity(TASKS));
        for _ in 0..TASKS {
            // SAFETY: this process has one thread; the child never returns.
            match unsafe { fork() }? {
                ForkResult::Parent { child } => all.0.push(child),
                ForkResult::Child => loop {
                    pause();
                },
            }
        }
        Ok(all)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        for pid in &self.0 {
            let _ = waitpid(*pid, None);
        }
    }
}
