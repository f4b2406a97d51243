//! One virtual machine: started, listened to, and stopped when it hangs.

use std::{
    fs::File,
    process::Command,
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use super::{
    console::{Console, END},
    machine::Machine,
    qemu::{self, Accelerator, KERNEL_ARGUMENTS, MEMORY_MIB},
};

/// The guest prints something at least this often: it ends longer tests itself.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(700);
/// On a slow machine, where other guests, builds and scenarios run beside it.
const GUEST_TIMEOUT: Duration = Duration::from_secs(4800);
/// The scenarios have the console for themselves.
const CONSOLE: &str = "systemd.getty_auto=no";
/// Lines that mean the guest is broken.
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
    /// Why it was skipped; the kernel may print lines before it.
    pub fn last_line(&self) -> &str {
        self.output.trim().lines().last().unwrap_or_default()
    }
}

/// Results of a guest, or of a machine's guests.
#[derive(Default)]
pub struct Report {
    pub results: Vec<Result>,
    /// Other lines for the reader, as figures.
    pub notes: Vec<String>,
    /// Why it did not come to its end.
    pub broken: Option<String>,
    /// How long it ran, and what QEMU took of a CPU for it.
    pub wall_s: u64,
    pub cpu_s: u64,
}

impl Report {
    /// With the report of another guest of the machine.
    pub fn join(mut self, other: Self) -> Self {
        self.results.extend(other.results);
        let new: Vec<String> = other.notes.into_iter().filter(|note| !self.notes.contains(note)).collect();
        self.notes.extend(new);
        self.broken = self.broken.or(other.broken);
        self.wall_s += other.wall_s;
        self.cpu_s += other.cpu_s;
        self
    }
}

/// The same command in a network namespace of its own, after others that set it up.
fn in_namespace(command: &Command, setup: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "sh", "-e", "-c"]).arg(format!("{setup}exec \"$@\"")).arg("sh");
    unshare.arg(command.get_program()).args(command.get_args());
    unshare
}

/// Boots and listens until the guest is off. Its output goes to the machine's log.
///
/// # Errors
///
/// If QEMU cannot be started.
pub fn run(machine: &Machine, guest: usize, accelerator: Accelerator) -> anyhow::Result<Report> {
    let mut qemu = qemu::command(accelerator, MEMORY_MIB);
    match &machine.disk {
        Some(disk) => qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display())),
        None => qemu.arg("-no-reboot"),
    };
    qemu.args(&machine.devices);
    qemu.arg("-kernel").arg(&machine.image).arg("-initrd").arg(&machine.initrd);
    let mut arguments = machine.arguments.join(" ");
    let mut log = machine.log.clone();
    if machine.guests > 1 {
        arguments += &format!(" part={guest}/{}", machine.guests);
        log = log.with_extension(format!("{}.log", guest + 1));
    }
    qemu.arg("-append").arg(format!("{KERNEL_ARGUMENTS} {CONSOLE} rdinit=/init -- {arguments}"));
    if let Some(network) = &machine.network {
        qemu = in_namespace(&qemu, network);
    }
    let console = Console::start(&mut qemu, Some(File::create(log)?))?;
    // As many times as its scenarios may take longer.
    let silence = if machine.disk.is_some() { 2 * SILENCE_TIMEOUT } else { SILENCE_TIMEOUT };
    let start = Instant::now();
    let mut report = Report { broken: Some("it ended too soon".into()), ..Report::default() };
    let mut output = String::new();
    loop {
        match console.lines.recv_timeout(silence) {
            Ok(line) => {
                if FATAL.iter().any(|fatal| line.contains(fatal)) {
                    report.broken = Some(line);
                    break;
                }
                if line == END {
                    report.broken = None;
                    report.cpu_s = cpu_s(console.pid()).unwrap_or_default();
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
                report.broken = Some(format!("it printed nothing for {} s", silence.as_secs()));
                break;
            }
        }
        if start.elapsed() > GUEST_TIMEOUT {
            report.broken = Some(format!("it ran for more than {} s", GUEST_TIMEOUT.as_secs()));
            break;
        }
    }
    report.wall_s = start.elapsed().as_secs();
    if report.broken.is_some() {
        report.notes.push(format!("it printed last:\n{output}"));
    }
    Ok(report)
}

/// Seconds of a CPU that a process took.
fn cpu_s(pid: u32) -> Option<u64> {
    /// Of `/proc/PID/stat`, on every architecture.
    const TICKS_PER_S: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // utime and stime, behind a name that may hold anything.
    let mut ticks = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (ticks.next()?.parse().ok()?, ticks.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_S)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_one_line() {
        let result = parse("balance::tcp pass 1200", "printed\n").unwrap();
        assert_eq!((result.test.as_str(), result.outcome, result.ms), ("balance::tcp", Outcome::Pass, 1200));
        assert!(parse("balance::tcp pass", "").is_none());
        assert_eq!(parse("drops::tcp once 0", "").unwrap().outcome, Outcome::Once);
        assert_eq!(parse("balance::tcp timeout 1", "").unwrap().outcome, Outcome::Fail);
    }
}
