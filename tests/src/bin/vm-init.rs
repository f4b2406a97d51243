//! Process 1 of a guest of `cargo xtask vm`: mounts, loads modules, runs the scenarios under one back end, turns off.

#![expect(clippy::print_stdout, reason = "the host reads the console")]

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, killpg},
    },
    unistd::Pid,
};

/// An emulated machine is slow, a test that hangs is slower.
const LIMIT: Duration = Duration::from_secs(180);
/// How a scenario says that this kernel lacks what it needs.
const SKIPPED: &str = "skipped: ";

/// Scenarios in which nothing depends on the back end: the first machine of a kernel runs them for all.
const ONCE: [&str; 19] = [
    "check::",
    "connections::a_connection_older",
    "connections::a_flood",
    "connections::conversations_of_udp",
    "connections::no_more_lines",
    "connections::what_comes_to_nothing",
    "connections::what_is_sent_again",
    "crowds::",
    "drops::",
    "meters::",
    "packets::",
    "service::a_configuration",
    "service::a_reload",
    "service::a_wrong_configuration",
    "sockets::",
    "trace::a_command_ends",
    "trace::a_flood",
    "trace::functions_are_told",
    "troubles::",
];
/// Scenarios about packets and the size of tables. Tracepoints and trampolines have the same programs for those; under
/// kprobes these keep shadows as well.
const OF_PACKETS: [&str; 3] = ["bounds::", "devices::", "shared::"];
/// Among them those whose owners are found by use.
const EVERYWHERE: [&str; 1] = ["troubles::a_listener_whose_maker_has_ended_is_its_heirs"];

/// How nettopd is used and asked, and what becomes of its history, is the same on every kernel. A guest has no Debian root.
const HERE_ONLY: [&str; 6] = ["api::", "archive::", "history", "package::", "systemd::", "usage::"];
/// All scenarios.
const SCENARIOS: &str = "/usr/bin/scenarios";

/// Whether a scenario's name begins with one of these.
fn is_of(test: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| test.starts_with(beginning))
}

/// Whether it proves nothing under this back end that it has not proved under the kernel's first.
fn is_run_by_the_first(test: &str, backend: Option<&str>) -> bool {
    let is_same = is_of(test, &ONCE) || backend == Some("fentry") && is_of(test, &OF_PACKETS);
    is_same && !EVERYWHERE.contains(&test)
}

fn main() {
    if let Err(error) = run() {
        println!("vm: note init failed: {error:#}");
    }
    // The console is a slow device: let it print.
    nix::unistd::sync();
    std::thread::sleep(Duration::from_millis(200));
    let _ = reboot(RebootMode::RB_POWER_OFF);
    // Without power management the kernel stops instead; a restart ends QEMU as well.
    let _ = reboot(RebootMode::RB_AUTOBOOT);
}

fn run() -> anyhow::Result<()> {
    mount_all()?;
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("PATH", "/usr/bin") };
    load_modules()?;
    Command::new("ip").args(["link", "set", "lo", "up"]).status().context("cannot run ip")?;
    println!("vm: note runs {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    // What the kernel's command line has behind its `--`.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(part) = arguments.iter().find_map(|word| word.strip_prefix("story=")) {
        return story(part);
    }
    let words = |name: &'static str| arguments.iter().filter_map(move |word| word.strip_prefix(name));
    let filters: Vec<&str> = words("filter=").collect();
    let backend = words("backend=").next();
    let is_first = words("first").next().is_some();
    let is_wanted = |test: &&String| filters.is_empty() || filters.iter().any(|filter| test.contains(filter));
    for test in list_tests(backend.is_none())?.iter().filter(is_wanted) {
        if !is_first && is_run_by_the_first(test, backend) {
            println!("vm: test {test} once 0");
            continue;
        }
        let mut run = run_test(backend, test)?;
        if run.has_failed() {
            // An emulated machine stands still at times, and not every scenario bears that. What fails twice has failed;
            // what does not is named.
            println!("{}", run.text);
            run = run_test(backend, test)?;
            if !run.has_failed() {
                println!("vm: note passed only when tried again: {test}");
            }
        }
        if run.outcome != "pass" {
            println!("{}", run.text);
        }
        println!("vm: test {test} {} {}", run.outcome, run.ms);
    }
    println!("vm: end");
    Ok(())
}

fn mount_all() -> anyhow::Result<()> {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {at}"))?;
    }
    // Absent where the kernel has no tracing; nothing here depends on it.
    let _ = mount(Some("tracefs"), "/sys/kernel/tracing", Some("tracefs"), MsFlags::empty(), None::<&str>);
    Ok(())
}

fn load_modules() -> anyhow::Result<()> {
    for name in fs::read_to_string("/modules/order")?.lines() {
        let module = File::open(Path::new("/modules").join(name))?;
        if let Err(error) = finit_module(&module, c"", ModuleInitFlags::empty()) {
            println!("vm: note module {name} is not loaded: {error}");
        }
    }
    Ok(())
}

/// A machine whose history is on a disk: it is loaded until it is reset from outside, or asked who it was.
fn story(part: &str) -> anyhow::Result<()> {
    fs::create_dir_all("/var/lib/nettopd")?;
    let none: Option<&str> = None;
    mount(Some("/dev/vda"), "/var/lib/nettopd", Some("ext4"), MsFlags::empty(), none)
        .context("cannot mount the disk")?;
    if part == "ask" {
        // As anybody would type it.
        Command::new("nettopd").args(["history", "--last-boot"]).status().context("cannot run nettopd")?;
        println!("vm: end");
        return Ok(());
    }
    Command::new("nettopd").arg("2").stdout(Stdio::null()).spawn().context("cannot run nettopd")?;
    std::thread::sleep(Duration::from_secs(10));
    let runaway = nettop_tests::Process::start(None, |_| {
        nettop_tests::set_name(b"runaway");
        let run = || -> std::io::Result<()> {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            let mut buffer = [0; 4000];
            loop {
                socket.send_to(&buffer, socket.local_addr()?)?;
                socket.recv(&mut buffer)?;
            }
        };
        let _ = run();
        Default::default()
    });
    std::thread::sleep(Duration::from_secs(35));
    println!("vm: loaded");
    // The end comes from outside.
    std::thread::sleep(LIMIT);
    drop(runaway);
    Ok(())
}

/// Every scenario. Below the floor only those that are made for it, and are ignored elsewhere.
fn list_tests(below_the_floor: bool) -> anyhow::Result<Vec<String>> {
    let list = |more: &[&str]| -> anyhow::Result<Vec<String>> {
        let output = Command::new(SCENARIOS).args(["--list", "--format", "terse"]).args(more).output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(ToOwned::to_owned).collect())
    };
    let ignored = list(&["--ignored"])?;
    if below_the_floor {
        return Ok(ignored);
    }
    Ok(list(&[])?.into_iter().filter(|test| !ignored.contains(test) && !is_of(test, &HERE_ONLY)).collect())
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

fn run_test(backend: Option<&str>, test: &str) -> anyhow::Result<Run> {
    let said = File::options().create(true).truncate(true).read(true).write(true).open("/tmp/said")?;
    let start = Instant::now();
    let mut command = Command::new(SCENARIOS);
    command.args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads=1"]);
    command.env("NETTOPD_BIN", "/usr/bin/nettopd").env("NETTOP_VM", "1").current_dir("/tmp");
    command.envs(backend.map(|backend| ("NETTOPD_BACKEND", backend)));
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
    // A group of its own, so that a hanging scenario goes with all its processes.
    let mut child = command.process_group(0).spawn()?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > LIMIT {
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
