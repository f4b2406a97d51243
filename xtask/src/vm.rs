//! `cargo xtask vm`: the scenarios on other kernels, under QEMU, one machine for each back end, and one for the package.

mod cards;
mod console;
mod coverage;
mod disk;
mod guest;
mod image;
mod kernel;
mod machine;
mod pool;
mod qemu;
pub mod reset_test;

use std::{path::Path, process::Command};

use anyhow::{Context as _, bail};

use self::{
    guest::{Outcome, Report},
    kernel::{Installed, Kernel, MATRIX},
    machine::Machine,
    qemu::Accelerator,
};
use crate::{
    build::{self, Built},
    command::output,
    package, setup,
    steps::{Failure, Steps, Tests},
};

/// So many of the slowest are named.
const SHOWN_SLOWEST_SCENARIOS: usize = 4;

/// Runs the scenarios that match `filter` on `kernels`, or on all. The whole matrix has to give docs/coverage.md's table.
///
/// # Errors
///
/// If a kernel is unknown or not available, or anything failed.
pub fn run(kernels: &[String], filter: &[String]) -> anyhow::Result<()> {
    let steps = Steps::begin();
    let wanted = wanted(kernels)?;
    setup::vm_tools()?;
    let built = build::all()?;
    let package = parts(&built.scenarios, filter)?.disk.then(|| package::for_machines(&built.nettopd)).transpose()?;
    steps.test("machines", || {
        let (tests, runs) = run_some(&built, package.as_deref(), &wanted, filter, |machine| Some(machine.with_long()))?;
        if tests.failed.is_empty() && kernels.is_empty() && filter.is_empty() {
            coverage::hold(&runs)?;
        }
        Ok(tests)
    });
    steps.finish()
}

/// Runs the scenarios on all kernels: on each with the back end that it chooses, and with each back end on the oldest
/// kernel that has it. Newer kernels run what may differ there. [`run`] takes every kernel and back end, and all
/// that depends on them.
///
/// # Errors
///
/// If a kernel cannot be had, or a machine did not come to its end.
pub fn run_matrix(built: &Built, package: &Path) -> anyhow::Result<Tests> {
    let choose = |mut machine: Machine| {
        let is_needed = machine.is_first() || machine.backend.is_none_or(|backend| !machine.kernel.repeats(backend));
        let repeats_package = machine.disk.is_some() && machine.kernel.version != disk::OLDEST;
        machine.shorten();
        (is_needed && !repeats_package).then_some(machine)
    };
    run_some(built, Some(package), &wanted(&[])?, &[], choose).map(|(tests, _)| tests)
}

/// Fetches all kernels.
///
/// # Errors
///
/// If a kernel is in no archive any more, or the archive does not answer.
pub fn install() -> anyhow::Result<()> {
    MATRIX.iter().try_for_each(|kernel| install_one(kernel).map(drop))
}

fn install_one(kernel: &Kernel) -> anyhow::Result<Installed> {
    kernel.install().with_context(|| format!("cannot fetch Linux {}", kernel.version))
}

/// Boots machines for what is wanted, and prints their results.
fn run_some(
    built: &Built,
    package: Option<&Path>,
    kernels: &[&'static Kernel],
    filter: &[String],
    choose: impl Fn(Machine) -> Option<Machine>,
) -> anyhow::Result<(Tests, Vec<(Machine, Report)>)> {
    let parts = parts(&built.scenarios, filter)?;
    let mut machines = Vec::new();
    for kernel in kernels {
        let installed = install_one(kernel)?;
        let folder = installed.folder()?;
        let (init, nettopd) = (&built.init, &built.nettopd);
        let guest = |package| image::Guest { init, nettopd, scenarios: Some(&built.scenarios), package };
        if parts.kernel {
            let initrd = folder.join("initrd");
            image::write(&initrd, &guest(None), &installed)?;
            machines.extend(kernel.machines(folder, &installed.image, &initrd, filter));
        }
        if package.is_some() && parts.disk {
            machines.extend(disk::machine(kernel, &installed, &guest(package), filter)?);
        }
        if parts.cards {
            machines.extend(cards::machine(kernel, &installed, &guest(None), filter)?);
        }
    }
    let machines: Vec<Machine> = machines.into_iter().filter_map(choose).collect();
    let Some(newest) = machines.last() else { bail!("no machine with these kernels runs such scenarios") };
    let accelerator = Accelerator::find(&newest.image, &newest.initrd);
    let reports = pool::run_all(&machines, accelerator).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let runs: Vec<(Machine, Report)> = machines.into_iter().zip(reports).collect();
    let mut tests = Tests::default();
    let mut broken = Vec::new();
    for (machine, report) in &runs {
        tests.add(print(machine, report));
        // A machine that ran nothing, and left nothing to the first, proves nothing.
        if report.broken.is_some() || report.results.iter().all(|result| result.outcome == Outcome::Skip) {
            broken.push(machine.name());
        }
    }
    if !broken.is_empty() {
        tests.failed.iter().for_each(|failure| print!("{failure}"));
        bail!("not all was run ({tests}) on {}; what machines printed is in target/vm/*/*.log", broken.join(", "));
    }
    Ok((tests, runs))
}

fn wanted(kernels: &[String]) -> anyhow::Result<Vec<&'static Kernel>> {
    for name in kernels {
        if !MATRIX.iter().any(|kernel| kernel.version == name) {
            let known: Vec<_> = MATRIX.iter().map(|kernel| kernel.version).collect();
            bail!("no kernel {name} in the matrix; there are {}", known.join(", "));
        }
    }
    let is_wanted = |kernel: &&Kernel| kernels.is_empty() || kernels.iter().any(|name| name == kernel.version);
    Ok(MATRIX.iter().filter(is_wanted).collect())
}

/// Prints what was skipped, and a line of figures. Returns how its tests went.
fn print(machine: &Machine, report: &Report) -> Tests {
    let name = machine.name();
    let of = |outcome| report.results.iter().filter(move |result| result.outcome == outcome);
    for skip in of(Outcome::Skip) {
        println!("{name}: {} skipped: {}", skip.test, skip.last_line());
    }
    let failure =
        |result: &guest::Result| Failure { test: format!("{name}: {}", result.test), output: result.output.clone() };
    let failed = of(Outcome::Fail).map(failure).collect();
    let tests = Tests { passed: of(Outcome::Pass).count(), failed, skipped: of(Outcome::Skip).count() };
    println!("{name:<22} {tests}; {} s in {} guests, {} s of a CPU", report.wall_s, machine.guests, report.cpu_s);
    let mut slowest: Vec<_> = report.results.iter().collect();
    slowest.sort_by_key(|result| std::cmp::Reverse(result.ms));
    let slowest: Vec<String> = slowest
        .iter()
        .take(SHOWN_SLOWEST_SCENARIOS)
        .map(|result| format!("{} {} s", result.test, result.ms / 1000))
        .collect();
    println!("{name:<22} slowest: {}", slowest.join(", "));
    for note in &report.notes {
        println!("{name:<22} {note}");
    }
    if let Some(broken) = &report.broken {
        println!("{name:<22} broken: {broken}");
    }
    tests
}

/// Which kinds of machine have something to run: one that has nothing need not start.
#[derive(Clone, Copy)]
struct Parts {
    /// Scenarios of nettopd alone.
    kernel: bool,
    /// Of the package under systemd.
    disk: bool,
    cards: bool,
}

fn parts(scenarios: &Path, filter: &[String]) -> anyhow::Result<Parts> {
    let list = output(Command::new(scenarios).args(["--list", "--format", "terse"]))?;
    let is_wanted = |test: &&str| filter.is_empty() || filter.iter().any(|filter| test.contains(filter));
    let wanted: Vec<&str> = list.lines().filter(is_wanted).collect();
    if wanted.is_empty() {
        bail!("no scenario has {} in its name", filter.join(" or "));
    }
    let has = |kind: &str| wanted.iter().any(|test| test.starts_with(kind));
    let is_special = |test: &&str| test.starts_with(disk::SCENARIOS) || test.starts_with(cards::SCENARIOS);
    Ok(Parts { kernel: !wanted.iter().all(is_special), disk: has(disk::SCENARIOS), cards: has(cards::SCENARIOS) })
}
