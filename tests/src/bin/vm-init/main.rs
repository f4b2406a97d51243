//! Process 1 of a guest of `cargo xtask vm`: mounts, loads modules, runs the scenarios under one back end, turns off.
//! Where there is a disk to start from, process 1 is its systemd, and this a service.

#![expect(clippy::print_stdout, reason = "the host reads the console")]

mod disk;
mod scenarios;

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
};
use scenarios::Scenarios;

/// An emulated machine is slow, a test that hangs is slower.
const LIMIT: Duration = Duration::from_secs(180);

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

/// How nettopd is used, asked and installed, and what becomes of its history, is the same on every kernel.
const HERE_ONLY: [&str; 5] = ["api::", "archive::", "history", "package::", "usage::"];
/// Those of the packaged unit: they need a systemd that is process 1.
const OF_THE_DISK: [&str; 1] = ["systemd::"];

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
    let scenarios = Scenarios { program: "/usr/bin/scenarios".into(), environment, limit: LIMIT };
    // Below the floor only those that are made for it, and are ignored elsewhere.
    let all = if backend.is_none() { scenarios.ignored()? } else { scenarios.list()? };
    for test in
        all.iter().filter(|test| is_wanted(test, &filters) && !is_of(test, &HERE_ONLY) && !is_of(test, &OF_THE_DISK))
    {
        if !is_first && is_run_by_the_first(test, backend) {
            println!("vm: test {test} once 0");
            continue;
        }
        scenarios.run_and_tell(test)?;
    }
    println!("vm: end");
    Ok(())
}

fn release() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}

fn is_wanted(test: &str, filters: &[&str]) -> bool {
    filters.is_empty() || filters.iter().any(|filter| test.contains(filter))
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
