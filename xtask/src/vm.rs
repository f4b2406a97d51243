//! `cargo xtask vm`: the scenarios on other kernels, under QEMU, with each back end forced in turn.

mod guest;
mod image;
mod kernel;

use std::{
    path::PathBuf,
    sync::{Mutex, atomic::AtomicUsize, atomic::Ordering},
};

use anyhow::{Context as _, bail};

use self::{
    guest::{Outcome, Report},
    kernel::{Installed, Kernel, MATRIX},
};
use crate::{
    build,
    command::{cargo, output, root},
    setup,
};

/// Runs the scenarios that match `filter` on `kernels`, or on all.
///
/// # Errors
///
/// If a kernel is unknown, cannot be had, or anything failed on any.
pub fn run(kernels: &[String], filter: &[String]) -> anyhow::Result<()> {
    let wanted = wanted(kernels)?;
    setup::vm_tools()?;
    let nettopd = build::nettopd()?;
    let (init, tests) = build_tests()?;
    let mut machines = Vec::new();
    for kernel in wanted {
        let installed = kernel.install().with_context(|| format!("cannot fetch Linux {}", kernel.version))?;
        let folder = installed.image.parent().context("an image without a folder")?.to_owned();
        let initrd = folder.join("initrd");
        let backends = kernel.backends.iter().map(|backend| format!("backend {backend}\n")).collect::<String>();
        let filters = filter.iter().map(|filter| format!("filter {filter}\n")).collect::<String>();
        let plan = backends + &filters;
        let guest = image::Guest { init: &init, nettopd: &nettopd, tests: &tests, plan: &plan };
        image::write(&initrd, &guest, &installed)?;
        machines.push((kernel, installed, initrd, folder.join("log")));
    }
    let reports = run_all(&machines);
    let mut failed = false;
    for ((kernel, ..), report) in machines.iter().zip(reports) {
        failed |= !print(kernel, &report?);
    }
    if failed { bail!("the matrix failed; what each kernel said is in target/vm/*/log") } else { Ok(()) }
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

/// As many guests at once as the machine has CPUs: scenarios mostly wait.
fn run_all(machines: &[(&Kernel, Installed, PathBuf, PathBuf)]) -> Vec<anyhow::Result<Report>> {
    let next = AtomicUsize::new(0);
    let reports: Vec<_> = machines.iter().map(|_| Mutex::new(None)).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((kernel, installed, initrd, log)) = machines.get(next.fetch_add(1, Ordering::Relaxed)) {
                    eprintln!("xtask: booting Linux {}", kernel.version);
                    let report = guest::run(&installed.image, initrd, log);
                    eprintln!("xtask: Linux {} is off", kernel.version);
                    let place = machines.iter().position(|machine| std::ptr::eq(machine.0, *kernel));
                    if let Some(mut slot) = place.and_then(|place| reports[place].lock().ok()) {
                        *slot = Some(report);
                    }
                }
            });
        }
    });
    let missing = || Err(anyhow::anyhow!("a virtual machine was not run"));
    reports.into_iter().map(|report| report.into_inner().ok().flatten().unwrap_or_else(missing)).collect()
}

/// Prints what failed, and a line for each back end. Returns whether all is well.
fn print(kernel: &Kernel, report: &Report) -> bool {
    let mut well = report.broken.is_none();
    let failures = report.results.iter().filter(|result| result.outcome == Outcome::Fail);
    for failure in failures {
        well = false;
        println!("--- Linux {}, {}: {} failed\n{}", kernel.version, failure.backend, failure.test, failure.output);
    }
    let backends = if kernel.backends.is_empty() { &["none"] } else { kernel.backends };
    for backend in backends {
        let of_backend = || report.results.iter().filter(|result| result.backend == **backend);
        let count = |outcome| of_backend().filter(|result| result.outcome == outcome).count();
        let (passed, failed, skipped) = (count(Outcome::Pass), count(Outcome::Fail), count(Outcome::Skip));
        let seconds = of_backend().map(|result| result.ms).sum::<u64>() / 1000;
        println!(
            "Linux {:<5} {backend:<10} {passed:>3} passed {failed:>3} failed {skipped:>3} skipped {seconds:>5} s",
            kernel.version
        );
        // A back end that ran nothing proves nothing.
        well &= passed > 0;
    }
    for note in &report.notes {
        println!("Linux {:<5} {note}", kernel.version);
    }
    if let Some(broken) = &report.broken {
        println!("Linux {:<5} broken: {broken}", kernel.version);
    }
    well
}

/// Builds the guest's init and every scenario, and returns where they are.
fn build_tests() -> anyhow::Result<(PathBuf, Vec<PathBuf>)> {
    crate::command::run(cargo().args([
        "build",
        "--locked",
        "--release",
        "--package",
        "nettop-tests",
        "--bin",
        "vm-init",
    ]))?;
    let mut tests = cargo();
    tests.args(["test", "--locked", "--release", "--package", "nettop-tests", "--test", "*"]);
    tests.args(["--no-run", "--message-format", "json"]);
    let messages = output(&mut tests)?;
    let executables = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_test = message["profile"]["test"].as_bool() == Some(true);
        message["executable"].as_str().filter(|_| is_test).map(PathBuf::from)
    });
    Ok((root().join("target/release/vm-init"), executables.collect()))
}
