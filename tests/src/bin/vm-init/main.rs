//! Process 1 of a guest of `cargo xtask vm`: mounts, loads modules, runs the scenarios under one back end, turns off.
//! Where there is a disk to start from, process 1 is its systemd, and this a service.

#![expect(clippy::print_stdout, reason = "the host reads the console")]

mod boot;
mod deal;
mod disk;
mod hanging;
mod lists;
mod reset;
mod scenarios;

use std::{fs, time::Duration};

use anyhow::Context as _;
use deal::deal;
use lists::{ALONE, HERE_ONLY, LONG, OF_THE_CARDS, OF_THE_DISK, SHARING, Scope, is_of, is_run_elsewhere, is_wanted};
use nix::sys::reboot::{RebootMode, reboot};
use scenarios::Scenarios;

/// An emulated machine is slow, a test that hangs is slower.
const SCENARIO_TIMEOUT: Duration = Duration::from_secs(600);

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
    boot::mount_all()?;
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("PATH", "/usr/bin") };
    // Each namespace would have seven tunnels, which are made, read and listed again and again.
    let _ = fs::write("/proc/sys/net/core/fb_tunnels_only_for_init_net", "1");
    boot::load_modules()?;
    nettop_tests::set_up_lo();
    println!("vm: note runs {}", release()?);
    if let Some(part) = words("reset=").next() {
        let end_s = words("end=").next().and_then(|end_s| end_s.parse().ok());
        return reset::run(part, words("hog=").next(), end_s);
    }
    let backend = words("backend=").next();
    let first = words("first=").next();
    let scope = Scope::of(words("scope=").next());
    let mut environment = vec![("NETTOPD_BIN", "/usr/bin/nettopd")];
    environment.extend(backend.map(|backend| ("NETTOPD_BACKEND", backend)));
    let scenarios = Scenarios {
        program: "/usr/bin/scenarios".into(),
        environment,
        printed: "/tmp/printed".into(),
        limit: SCENARIO_TIMEOUT,
    };
    let part = words("part=").next().map_or(Ok([0, 1]), parse_part)?;
    if has("cards") {
        let is_mine = |test: &&String| is_of(test, &OF_THE_CARDS) && is_wanted(test, &filters);
        let all = scenarios.ignored()?;
        let mine: Vec<&str> = all.iter().filter(is_mine).map(String::as_str).collect();
        scenarios.run_together(&deal(&[], &mine, part).1)?;
        println!("vm: end");
        return Ok(());
    }
    // Below the floor only those that are made for it, and are ignored elsewhere.
    let all = if backend.is_none() { scenarios.ignored()? } else { scenarios.list()? };
    let long = if has("long") { &[][..] } else { &LONG };
    let elsewhere = [&HERE_ONLY[..], long, &OF_THE_DISK, &OF_THE_CARDS].concat();
    let is_mine = |test: &&String| is_wanted(test, &filters) && !is_of(test, &elsewhere);
    let mine = all.iter().filter(is_mine).map(String::as_str);
    let (once, run): (Vec<&str>, Vec<&str>) = mine.partition(|test| is_run_elsewhere(test, backend, first, scope));
    for test in deal(&[], &once, part).1 {
        println!("vm: test {test} once 0");
    }
    let (together, alone): (Vec<&str>, Vec<&str>) =
        run.into_iter().partition(|test| backend.is_some() && is_of(test, &SHARING) && !is_of(test, &ALONE));
    let (together, alone) = deal(&together, &alone, part);
    // Documents report all that was: a new nettopd for each file keeps them short.
    for file in together.chunk_by(|a, b| deal::file(a) == deal::file(b)) {
        scenarios.run_together(file)?;
    }
    for test in alone {
        scenarios.run_and_report(test)?;
    }
    println!("vm: end");
    Ok(())
}

/// Reads `0/2`: the first of two guests.
fn parse_part(part: &str) -> anyhow::Result<[usize; 2]> {
    let (part, parts) = part.split_once('/').context("not a part")?;
    Ok([part.parse()?, parts.parse()?])
}

fn release() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}
