//! A guest with a clean Debian root on its disk: hands over to systemd there, and is started by it again to run the
//! scenarios.

use std::{
    convert::Infallible,
    fs,
    io::Write as _,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};

use crate::{
    boot::load_modules,
    lists::{OF_THE_DISK, is_of, is_wanted},
    scenarios::Scenarios,
};

const DISK: &str = "/disk";
/// Of the memory file system that systemd takes over: nothing but Debian is on the disk.
const CARRIED: &str = "/run/scenarios";
/// The unit has times of its own, and they add up.
const SCENARIO_TIMEOUT: Duration = Duration::from_secs(720);
/// Those that were run before the machine was rebooted.
const DONE: &str = "/var/lib/scenarios/done";

/// Carries scenarios and package over to the disk's root, and becomes the systemd that is there.
pub fn hand_over(arguments: &[String]) -> anyhow::Result<Infallible> {
    let none: Option<&str> = None;
    mount(Some("devtmpfs"), "/dev", Some("devtmpfs"), MsFlags::empty(), none).context("cannot mount /dev")?;
    load_modules()?;
    fs::create_dir(DISK)?;
    mount(Some("/dev/vda"), DISK, Some("ext4"), MsFlags::empty(), none).context("cannot mount the disk")?;
    let disk = Path::new(DISK);
    mount(Some("tmpfs"), &disk.join("run"), Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .context("cannot mount /run")?;
    let carried = Path::new(DISK).join(CARRIED.trim_start_matches('/'));
    fs::create_dir_all(&carried)?;
    for (from, to) in [("/init", "init"), ("/package.deb", "package.deb"), ("/usr/bin/scenarios", "scenarios")] {
        fs::copy(from, carried.join(to)).with_context(|| format!("cannot carry {from} over"))?;
    }
    let units = disk.join("run/systemd/system");
    fs::create_dir_all(units.join("multi-user.target.wants"))?;
    let unit = format!(
        "[Service]\nExecStart={CARRIED}/init {}\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\n",
        arguments.join(" ")
    );
    fs::write(units.join("scenarios.service"), unit)?;
    symlink("../scenarios.service", units.join("multi-user.target.wants/scenarios.service"))?;
    mount(Some("/dev"), &disk.join("dev"), none, MsFlags::MS_MOVE, none).context("cannot move /dev")?;
    std::env::set_current_dir(disk)?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).context("cannot move the root")?;
    nix::unistd::chroot(".")?;
    // systemd mounts the rest.
    Err(Command::new("/lib/systemd/systemd").env_clear().exec()).context("cannot run systemd")
}

/// Runs the scenarios under the systemd that is process 1.
pub fn run_scenarios(filters: &[&str]) -> anyhow::Result<()> {
    let package = format!("{CARRIED}/package.deb");
    let environment = vec![("NETTOP_MACHINE", "this"), ("NETTOP_PACKAGE", package.as_str())];
    let scenarios = Scenarios {
        program: Path::new(CARRIED).join("scenarios"),
        environment,
        printed: "/tmp/printed".into(),
        limit: SCENARIO_TIMEOUT,
    };
    let done = fs::read_to_string(DONE).unwrap_or_default();
    for test in scenarios.list()?.iter().filter(|test| is_of(test, &OF_THE_DISK) && is_wanted(test, filters)) {
        if done.lines().any(|name| name == test) {
            continue;
        }
        // A scenario that reboots the machine does not return here, and is run again after that.
        scenarios.run_and_report(test)?;
        fs::create_dir_all(Path::new(DONE).parent().context("no folder")?)?;
        writeln!(fs::File::options().create(true).append(true).open(DONE)?, "{test}")?;
    }
    println!("vm: end");
    Ok(())
}
