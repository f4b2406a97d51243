//! Process 1 of a guest of `cargo xtask vm`: mounts, loads modules, runs the scenarios under one back end, turns off.
//! Where there is a disk to start from, process 1 is its systemd, and this a service.

#![expect(clippy::print_stdout, reason = "the host reads the console")]

mod disk;

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
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
const ONCE: [&str; 17] = [
    "check::",
    "connections::a_connection_older",
    "connections::a_flood",
    "connections::conversations_of_udp",
    "connections::no_more_lines",
    "connections::what_comes_to_nothing",
    "crowds::",
    "drops::",
    "meters::",
    "packets::",
    "service::a_configuration",
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

/// One scenario.
struct Test {
    binary: PathBuf,
    name: String,
    /// With the file it is in.
    full_name: String,
}

impl Test {
    /// Whether it proves nothing under this back end that it has not proved under the kernel's first.
    fn is_run_by_the_first(&self, backend: Option<&str>) -> bool {
        let is_of = |files: &[&str]| files.iter().any(|file| self.full_name.starts_with(file));
        let is_same = is_of(&ONCE) || backend == Some("fentry") && is_of(&OF_PACKETS);
        is_same && !EVERYWHERE.contains(&self.full_name.as_str())
    }
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
    // What the kernel's command line has behind its `--`.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words = |name: &'static str| arguments.iter().filter_map(move |word| word.strip_prefix(name));
    let filters: Vec<&str> = words("filter=").collect();
    if std::process::id() != 1 {
        println!("vm: note runs {} with systemd", release()?);
        return disk::run_scenarios(&filters);
    }
    if words("disk").next().is_some() {
        match disk::hand_over(&arguments)? {}
    }
    mount_all()?;
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("PATH", "/usr/bin") };
    load_modules()?;
    Command::new("ip").args(["link", "set", "lo", "up"]).status().context("cannot run ip")?;
    println!("vm: note runs {}", release()?);
    if let Some(part) = words("story=").next() {
        return story(part);
    }
    let backend = words("backend=").next();
    let is_first = words("first").next().is_some();
    let mut environment = vec![("NETTOPD_BIN", "/usr/bin/nettopd")];
    environment.extend(backend.map(|backend| ("NETTOPD_BACKEND", backend)));
    for test in list_tests(Path::new("/tests"), backend.is_none())? {
        if !is_wanted(&test, &filters) {
            continue;
        }
        if !is_first && test.is_run_by_the_first(backend) {
            println!("vm: test {} once 0", test.full_name);
            continue;
        }
        run_and_tell(&test, &environment, LIMIT)?;
    }
    println!("vm: end");
    Ok(())
}

fn release() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}

fn is_wanted(test: &Test, filters: &[&str]) -> bool {
    filters.is_empty() || filters.iter().any(|filter| test.full_name.contains(filter))
}

/// Runs a scenario and prints how it went.
fn run_and_tell(test: &Test, environment: &[(&str, &str)], limit: Duration) -> anyhow::Result<()> {
    let mut run = run_test(environment, limit, test)?;
    if run.has_failed() {
        // An emulated machine stands still at times, and not every scenario bears that. What fails twice has failed; what
        // does not is named.
        println!("{}", run.text);
        run = run_test(environment, limit, test)?;
        if !run.has_failed() {
            println!("vm: note passed only when tried again: {}", test.full_name);
        }
    }
    if run.outcome != "pass" {
        println!("{}", run.text);
    }
    println!("vm: test {} {} {}", test.full_name, run.outcome, run.ms);
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

/// Every scenario with its binary. Below the floor only those that are made for it, and are ignored elsewhere.
fn list_tests(folder: &Path, below_the_floor: bool) -> anyhow::Result<Vec<Test>> {
    let mut binaries: Vec<PathBuf> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    binaries.sort();
    let mut tests = Vec::new();
    for binary in binaries {
        let list = |more: &[&str]| -> anyhow::Result<Vec<String>> {
            let output = Command::new(&binary).args(["--list", "--format", "terse"]).args(more).output()?;
            let text = String::from_utf8(output.stdout)?;
            Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(ToOwned::to_owned).collect())
        };
        let ignored = list(&["--ignored"])?;
        let names = if below_the_floor {
            ignored
        } else {
            Vec::from_iter(list(&[])?.into_iter().filter(|name| !ignored.contains(name)))
        };
        let file = binary.file_name().and_then(|name| name.to_str()).unwrap_or("?");
        tests.extend(names.into_iter().map(|name| Test {
            binary: binary.clone(),
            full_name: format!("{file}::{name}"),
            name,
        }));
    }
    Ok(tests)
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

fn run_test(environment: &[(&str, &str)], limit: Duration, test: &Test) -> anyhow::Result<Run> {
    let said = File::options().create(true).truncate(true).read(true).write(true).open("/tmp/said")?;
    let start = Instant::now();
    let mut command = Command::new(&test.binary);
    command.args(["--exact", &test.name, "--nocapture", "--include-ignored", "--test-threads=1"]);
    command.env("NETTOP_VM", "1").envs(environment.iter().copied()).current_dir("/tmp");
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
    // A group of its own, so that a hanging scenario goes with all its processes.
    let mut child = command.process_group(0).spawn()?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > limit {
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
