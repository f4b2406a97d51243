//! One virtual machine: started, listened to, and stopped when it hangs.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::Machine;

/// The guest says something at least this often: it ends tests that take longer itself.
const SILENCE: Duration = Duration::from_secs(240);
const LIMIT: Duration = Duration::from_secs(1500);
/// The scenarios have the console for themselves.
const CONSOLE: &str = "systemd.getty_auto=no";
/// Lines after which nothing good comes.
const FATAL: [&str; 3] = ["Kernel panic", "rcu: RCU grace-period kthread stack dump", "watchdog: BUG: soft lockup"];

/// How one test went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Pass,
    Fail,
    Skip,
    /// Left to the first machine of the kernel, since it does not depend on the back end.
    Once,
}

/// One `vm: test NAME OUTCOME MS` line.
pub struct Result {
    pub test: String,
    pub outcome: Outcome,
    pub ms: u64,
    /// What the test printed, or why it was skipped.
    pub output: String,
}

impl Result {
    /// Why it was skipped; the kernel may have said something before.
    pub fn last_line(&self) -> &str {
        self.output.trim().lines().last().unwrap_or_default()
    }
}

/// All that a guest said.
pub struct Report {
    pub results: Vec<Result>,
    /// Other lines for the reader, as figures.
    pub notes: Vec<String>,
    /// Why it did not come to its end.
    pub broken: Option<String>,
}

/// Boots and listens until the guest is off. All it says goes to the machine's log.
///
/// # Errors
///
/// If QEMU cannot be started.
pub fn run(machine: &Machine) -> anyhow::Result<Report> {
    let mut qemu = Command::new("qemu-system-x86_64");
    // With a thread per CPU, one may run into a breakpoint that another has just taken out of the kernel's code
    // ("Oops: int3" where a tracepoint is switched on).
    // QEMU emulates `rep stosb` and `rep movsb` byte by byte: without these features the kernel clears pages, a quarter of
    // all its time else, and copies by words.
    qemu.args(["-accel", "tcg,thread=single", "-cpu", "max,-erms,-fsrm", "-smp", "2", "-m", "1536"]);
    qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-nic", "none"]);
    match &machine.disk {
        Some(disk) => qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display())),
        None => qemu.arg("-no-reboot"),
    };
    qemu.arg("-kernel").arg(&machine.image).arg("-initrd").arg(&machine.initrd);
    let arguments = machine.arguments.join(" ");
    qemu.arg("-append");
    qemu.arg(format!(
        "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off rcupdate.rcu_expedited=1 {CONSOLE} rdinit=/init -- {arguments}"
    ));
    let mut child = Stopped(qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run QEMU")?);
    let stdout = child.0.stdout.take().context("QEMU has no output")?;
    let mut log = File::create(&machine.log)?;
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(std::result::Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let _ = writeln!(log, "{line}");
            if send.send(line).is_err() {
                break;
            }
        }
    });
    // As many times as its scenarios may take longer.
    let silence = if machine.disk.is_some() { 2 * SILENCE } else { SILENCE };
    let start = Instant::now();
    let mut report = Report { results: Vec::new(), notes: Vec::new(), broken: Some("it ended too soon".into()) };
    let mut output = String::new();
    loop {
        match lines.recv_timeout(silence) {
            Ok(line) => {
                if FATAL.iter().any(|fatal| line.contains(fatal)) {
                    report.broken = Some(line);
                    return Ok(report);
                }
                if line == "vm: end" {
                    report.broken = None;
                } else if let Some(note) = line.strip_prefix("vm: note ") {
                    report.notes.push(note.to_owned());
                } else if let Some(result) = line.strip_prefix("vm: test ").and_then(|line| parse(line, &output)) {
                    output.clear();
                    report.results.push(result);
                } else {
                    output += &line;
                    output.push('\n');
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                report.broken = Some(format!("it said nothing for {} s", silence.as_secs()));
                break;
            }
        }
        if start.elapsed() > LIMIT {
            report.broken = Some(format!("it ran for more than {} s", LIMIT.as_secs()));
            break;
        }
    }
    if report.broken.is_some() {
        report.notes.push(format!("its last words:\n{output}"));
    }
    Ok(report)
}

fn parse(line: &str, output: &str) -> Option<Result> {
    let mut words = line.split(' ');
    let test = words.next()?.to_owned();
    let outcome = match words.next()? {
        "pass" => Outcome::Pass,
        "skip" => Outcome::Skip,
        "once" => Outcome::Once,
        _ => Outcome::Fail,
    };
    Some(Result { test, outcome, ms: words.next()?.parse().ok()?, output: output.to_owned() })
}

/// Ended when dropped.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_one_line() {
        let result = parse("balance::tcp pass 1200", "said\n").unwrap();
        assert_eq!((result.test.as_str(), result.outcome, result.ms), ("balance::tcp", Outcome::Pass, 1200));
        assert!(parse("balance::tcp pass", "").is_none());
        assert_eq!(parse("drops::tcp once 0", "").unwrap().outcome, Outcome::Once);
        assert_eq!(parse("balance::tcp timeout 1", "").unwrap().outcome, Outcome::Fail);
    }
}
