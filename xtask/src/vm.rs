//! `cargo xtask vm`: the scenarios on other kernels, under QEMU, one machine for each back end, and one for the package.

mod coverage;
mod disk;
mod guest;
mod image;
mod kernel;
mod story;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, atomic::AtomicUsize, atomic::Ordering},
};

use anyhow::{Context as _, bail};

use self::{
    guest::{Outcome, Report},
    kernel::{Kernel, MATRIX},
};
use crate::{
    build,
    command::{cargo, output, root},
    package, setup,
};

pub use story::run_story;

/// Scenarios of the packaged unit, as the guest's init has them.
const OF_THE_DISK: &str = "systemd::";

/// A kernel and the back end that is forced in it; none where the kernel is refused.
pub struct Machine {
    kernel: &'static Kernel,
    backend: Option<&'static str>,
    image: PathBuf,
    initrd: PathBuf,
    /// With a Debian root, from which it starts, and starts anew when it is told to.
    disk: Option<PathBuf>,
    log: PathBuf,
    /// For the guest's init.
    arguments: Vec<String>,
}

/// Runs the scenarios that match `filter` on `kernels`, or on all. The whole matrix has to give docs/coverage.md's table.
///
/// # Errors
///
/// If a kernel is unknown, cannot be had, or anything failed on any.
pub fn run(kernels: &[String], filter: &[String]) -> anyhow::Result<()> {
    let wanted = wanted(kernels)?;
    setup::vm_tools()?;
    let nettopd = build::nettopd()?;
    let (init, scenarios) = build_tests()?;
    let [of_the_kernel, of_the_disk] = parts(&scenarios, filter)?;
    let package = of_the_disk.then(|| package::for_machines(&nettopd)).transpose()?;
    let mut machines = Vec::new();
    for kernel in wanted {
        let installed = kernel.install().with_context(|| format!("cannot fetch Linux {}", kernel.version))?;
        let folder = installed.image.parent().context("an image without a folder")?;
        let guest = |package| image::Guest { init: &init, nettopd: &nettopd, scenarios: Some(&scenarios), package };
        if of_the_kernel {
            let initrd = folder.join("initrd");
            image::write(&initrd, &guest(None), &installed)?;
            machines.extend(kernel.machines(folder, &installed.image, &initrd, filter));
        }
        if package.is_some() {
            machines.extend(disk::machine(kernel, &installed, &guest(package.as_deref()), filter)?);
        }
    }
    if machines.is_empty() {
        bail!("no machine with these kernels runs such scenarios");
    }
    let reports = run_all(&machines).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let runs: Vec<(&Machine, &Report)> = machines.iter().zip(&reports).collect();
    let mut failed = false;
    for (machine, report) in &runs {
        failed |= !print(machine, report);
    }
    if failed {
        bail!("the matrix failed; what each machine said is in target/vm/*/*.log");
    }
    if kernels.is_empty() && filter.is_empty() { coverage::hold(&runs) } else { Ok(()) }
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

/// As many guests at once as the machine has CPUs: each is emulated by one thread.
fn run_all(machines: &[Machine]) -> Vec<anyhow::Result<Report>> {
    let next = AtomicUsize::new(0);
    let reports: Vec<_> = machines.iter().map(|_| Mutex::new(None)).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(machine), Some(slot)) = (machines.get(number), reports.get(number)) else { break };
                    eprintln!("xtask: booting {}", machine.name());
                    let report = guest::run(machine);
                    eprintln!("xtask: {} is off", machine.name());
                    if let Ok(mut slot) = slot.lock() {
                        *slot = Some(report);
                    }
                }
            });
        }
    });
    let missing = || Err(anyhow::anyhow!("a virtual machine was not run"));
    reports.into_iter().map(|report| report.into_inner().ok().flatten().unwrap_or_else(missing)).collect()
}

/// Prints what failed, and a line of figures. Returns whether all is well.
fn print(machine: &Machine, report: &Report) -> bool {
    let name = machine.name();
    let of = |outcome| report.results.iter().filter(move |result| result.outcome == outcome);
    for failure in of(Outcome::Fail) {
        println!("--- {name}: {} failed\n{}", failure.test, failure.output);
    }
    for skip in of(Outcome::Skip) {
        println!("{name}: {} skipped: {}", skip.test, skip.last_line());
    }
    let count = |outcome| of(outcome).count();
    let [passed, failed, skipped, once] = [Outcome::Pass, Outcome::Fail, Outcome::Skip, Outcome::Once].map(count);
    let seconds = report.results.iter().map(|result| result.ms).sum::<u64>() / 1000;
    println!("{name:<22} {passed:>3} passed {failed:>3} failed {skipped:>3} skipped {seconds:>5} s");
    for note in &report.notes {
        println!("{name:<22} {note}");
    }
    if let Some(broken) = &report.broken {
        println!("{name:<22} broken: {broken}");
    }
    // A machine that ran nothing, and left nothing to the first, proves nothing.
    report.broken.is_none() && failed == 0 && passed + once > 0
}

impl Machine {
    fn name(&self) -> String {
        let kind = if self.disk.is_some() { Some("systemd") } else { self.backend };
        let kind = kind.map_or_else(String::new, |kind| format!(" {kind}"));
        format!("Linux {}{kind}", self.kernel.version)
    }

    /// Whether it runs what does not depend on back ends.
    fn is_first(&self) -> bool {
        self.arguments.iter().any(|argument| argument == "first")
    }
}

impl Kernel {
    /// One machine for each back end. What does not depend on those runs in the first.
    fn machines(&'static self, folder: &Path, image: &Path, initrd: &Path, filter: &[String]) -> Vec<Machine> {
        let machine = |backend: Option<&'static str>, is_first: bool| {
            let mut arguments = filters(filter);
            arguments.extend(backend.map(|backend| format!("backend={backend}")));
            if is_first {
                arguments.push("first".into());
            }
            let log = folder.join(format!("{}.log", backend.unwrap_or("none")));
            Machine { kernel: self, backend, image: image.into(), initrd: initrd.into(), disk: None, log, arguments }
        };
        if self.backends.is_empty() {
            return vec![machine(None, true)];
        }
        let forced = self.backends.iter().enumerate();
        forced.map(|(number, backend)| machine(Some(backend), number == 0)).collect()
    }
}

/// For the guest's init.
fn filters(filter: &[String]) -> Vec<String> {
    filter.iter().map(|filter| format!("filter={filter}")).collect()
}

/// Builds the guest's init and the scenarios, and returns where they are.
fn build_tests() -> anyhow::Result<(PathBuf, PathBuf)> {
    let package = ["--locked", "--release", "--package", "nettop-tests"];
    crate::command::run(cargo().arg("build").args(package).args(["--bin", "vm-init"]))?;
    let mut tests = cargo();
    tests.arg("test").args(package).args(["--test", "scenarios", "--no-run", "--message-format", "json"]);
    let messages = output(&mut tests)?;
    let scenarios = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().filter(|_| message["profile"]["test"] == true).map(PathBuf::from)
    });
    let init = root().join("target/release/vm-init");
    Ok((init, scenarios.context("cargo names no program of scenarios")?))
}

/// Whether anything is wanted of those that run against nettopd alone, and of those against the package under systemd: a
/// machine that runs nothing need not start.
fn parts(scenarios: &Path, filter: &[String]) -> anyhow::Result<[bool; 2]> {
    let list = output(Command::new(scenarios).args(["--list", "--format", "terse"]))?;
    let is_wanted = |test: &&str| filter.is_empty() || filter.iter().any(|filter| test.contains(filter));
    let wanted = || list.lines().filter(is_wanted);
    let parts =
        [wanted().any(|test| !test.starts_with(OF_THE_DISK)), wanted().any(|test| test.starts_with(OF_THE_DISK))];
    if parts == [false; 2] {
        bail!("no scenario has {} in its name", filter.join(" or "));
    }
    Ok(parts)
}
