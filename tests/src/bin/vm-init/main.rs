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
const LIMIT: Duration = Duration::from_secs(300);

/// Scenarios in which nothing depends on the back end: the first machine of a kernel runs them for all.
const ONCE: [&str; 25] = [
    "check::",
    "connections::a_connection_older",
    "connections::conversations_of_udp",
    "connections::no_more_lines",
    "connections::what_comes_to_nothing",
    "connections::what_is_sent_again",
    "drop_places::",
    "drops::",
    "forwarded::",
    "meters::",
    "names::",
    "packets::",
    "places::",
    "retirement::",
    "service::a_capability",
    "service::a_configuration",
    "service::a_reload",
    "service::a_wrong_configuration",
    "service::it_is_ready",
    "service::without_capabilities",
    "socketless::",
    "sockets::",
    "trace::usage::a_command_ends",
    "trace::functions_are_shown",
    "troubles::",
];
/// Scenarios about packets and the size of tables. Tracepoints and trampolines have the same programs for those; under
/// kprobes these keep shadows as well.
const OF_PACKETS: [&str; 3] = ["bounds::", "devices::", "shared::"];
/// Scenarios of calls: under kprobes they come from system calls, as under tracepoints.
const OF_CALLS: [&str; 1] = ["trace::"];
/// Scenarios of who uses a socket and what calls move: a back end runs them even if it did on an older kernel.
const OF_USE: [&str; 5] = ["connections::", "layers::", "owners::", "paths::", "reconnect::"];
/// Scenarios of what differs between kernels: functions, reasons, structs.
const OF_KERNEL: [&str; 10] = [
    "check::",
    "drop_places::",
    "drops::",
    "forwarded::",
    "frames::",
    "names::",
    "senders::",
    "socketless::",
    "trace::",
    "troubles::",
];
/// Of [`ONCE`], those whose owners are found by use: every machine runs them.
const EVERYWHERE: [&str; 1] = ["troubles::a_listener_whose_maker_has_ended_is_its_holders"];

/// How nettopd is used, asked and installed, and what becomes of its history, is the same on every kernel. Others take too
/// much for an emulated machine.
const HERE_ONLY: [&str; 17] = [
    "addresses::",
    "api::",
    "archive::",
    "bounds::thousands",
    "churn::",
    "connections::a_flood",
    "crowds::",
    "history",
    "limits::",
    "names::more",
    "output::",
    "package::",
    "packets::a_flood",
    "packets::a_reader",
    "retirement::devices_",
    "trace::a_flood",
    "usage::",
];
/// Those of the packaged unit: they need a systemd that is process 1.
const OF_THE_DISK: [&str; 1] = ["systemd::"];

/// Those of network cards: ignored elsewhere.
const OF_THE_CARDS: [&str; 1] = ["cards::"];

/// Files whose scenarios look at what their own processes and namespaces did: they share a nettopd, and run with one of
/// their own on the host.
const SHARING: [&str; 14] = [
    "balance::",
    "devices::",
    "drop_places::",
    "drops::",
    "forwarded::",
    "frames::",
    "layers::",
    "owners::",
    "paths::",
    "reconnect::",
    "senders::",
    "shared::",
    "socketless::",
    "troubles::",
];
/// Among them those that need nettopd to begin later than something else, or to be another; that hand an inode number on;
/// or after which its documents are long.
const ALONE: [&str; 12] = [
    "balance::namespaces::a_namespace_that_takes_a_dead_ones",
    "drops::names_of_functions",
    "forwarded::pairs_that_find_no_room",
    "frames::frames_are_counted",
    "layers::a_kernel_thread",
    "owners::a_connection_older",
    "owners::a_reused_pid",
    "owners::a_recovery_probe",
    "owners::hundreds",
    "owners::two_instances",
    "owners::what_waits_in_an_older",
    "troubles::connections_that_a_full_listener",
];

/// Whether a scenario's name begins with one of these.
fn is_of(test: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| test.starts_with(beginning))
}

/// How much a machine runs of what others run as well.
#[derive(Clone, Copy)]
enum Scope {
    All,
    /// What depends on the kernel's functions, reasons and structs.
    Kernel,
    /// [`OF_USE`].
    Use,
}

impl Scope {
    fn of(argument: Option<&str>) -> Self {
        match argument {
            Some("kernel") => Self::Kernel,
            Some("use") => Self::Use,
            _ => Self::All,
        }
    }

    fn has(self, test: &str) -> bool {
        match self {
            Self::All => true,
            Self::Kernel => is_of(test, &OF_USE) || is_of(test, &OF_KERNEL),
            Self::Use => is_of(test, &OF_USE),
        }
    }
}

/// Whether another machine runs it: one with another kernel, or with another back end of this one, where it proves the same.
fn is_run_elsewhere(test: &str, backend: Option<&str>, first: Option<&str>, scope: Scope) -> bool {
    let is_same = match backend {
        _ if !scope.has(test) => true,
        _ if backend == first => false,
        _ if is_of(test, &ONCE) => true,
        Some("fentry") => is_of(test, &OF_PACKETS),
        Some("kprobe") => first == Some("tracepoint") && is_of(test, &OF_CALLS),
        _ => false,
    };
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
    let has = |name: &str| arguments.iter().any(|word| word == name);
    let filters: Vec<&str> = words("filter=").collect();
    if has("probe") {
        println!("vm: end");
        return Ok(());
    }
    if std::process::id() != 1 {
        println!("vm: note runs {} with systemd", release()?);
        return disk::run_scenarios(&filters);
    }
    if has("systemd") {
        match disk::hand_over(&arguments)? {}
    }
    mount_all()?;
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("PATH", "/usr/bin") };
    // Each namespace would have seven tunnels, which are made, read and listed again and again.
    let _ = fs::write("/proc/sys/net/core/fb_tunnels_only_for_init_net", "1");
    load_modules()?;
    Command::new("ip").args(["link", "set", "lo", "up"]).status().context("cannot run ip")?;
    nettop_tests::retransmit_late();
    println!("vm: note runs {}", release()?);
    if let Some(part) = words("reset=").next() {
        return reset_test(part);
    }
    let backend = words("backend=").next();
    let first = words("first=").next();
    let scope = Scope::of(words("scope=").next());
    let mut environment = vec![("NETTOPD_BIN", "/usr/bin/nettopd")];
    environment.extend(backend.map(|backend| ("NETTOPD_BACKEND", backend)));
    let scenarios =
        Scenarios { program: "/usr/bin/scenarios".into(), environment, said: "/tmp/said".into(), limit: LIMIT };
    let part = words("part=").next().map(parse_part).transpose()?;
    let is_dealt = |number: usize| part.is_none_or(|(part, parts)| number % parts == part);
    if has("cards") {
        let is_mine = |test: &&String| is_of(test, &OF_THE_CARDS) && is_wanted(test, &filters);
        let all = scenarios.ignored()?;
        let mine = all.iter().filter(is_mine).enumerate().filter(|(number, _)| is_dealt(*number));
        scenarios.run_together(&mine.map(|(_, test)| test.as_str()).collect::<Vec<_>>())?;
        println!("vm: end");
        return Ok(());
    }
    // Below the floor only those that are made for it, and are ignored elsewhere.
    let all = if backend.is_none() { scenarios.ignored()? } else { scenarios.list()? };
    let is_mine = |test: &&String| {
        is_wanted(test, &filters) && !is_of(test, &[&HERE_ONLY[..], &OF_THE_DISK, &OF_THE_CARDS].concat())
    };
    let mine =
        all.iter().filter(is_mine).enumerate().filter(|(number, _)| is_dealt(*number)).map(|(_, test)| test.as_str());
    let (once, run): (Vec<&str>, Vec<&str>) = mine.partition(|test| is_run_elsewhere(test, backend, first, scope));
    for test in once {
        println!("vm: test {test} once 0");
    }
    let (together, alone): (Vec<&str>, Vec<&str>) =
        run.into_iter().partition(|test| backend.is_some() && is_of(test, &SHARING) && !is_of(test, &ALONE));
    // Documents report all that was: a new nettopd for each file keeps them short.
    for file in together.chunk_by(|a, b| a.split("::").next() == b.split("::").next()) {
        scenarios.run_together(file)?;
    }
    for test in alone {
        scenarios.run_and_report(test)?;
    }
    println!("vm: end");
    Ok(())
}

/// Reads `0/2`: the first of two guests, to which scenarios are dealt out in turn.
fn parse_part(part: &str) -> anyhow::Result<(usize, usize)> {
    let (part, parts) = part.split_once('/').context("not a part")?;
    Ok((part.parse()?, parts.parse()?))
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
fn reset_test(part: &str) -> anyhow::Result<()> {
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
