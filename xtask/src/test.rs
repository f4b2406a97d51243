//! `cargo xtask test` and `cargo xtask all`: unit tests, scenarios here and in virtual machines, and checks, side by side.
//!
//! Most scenarios wait most of the time, and machines keep CPUs busy: machines give way, so both can run at once.

use std::{
    fs,
    panic::resume_unwind,
    path::PathBuf,
    process::Command,
    thread::{self, ScopedJoinHandle},
};

use anyhow::bail;

use crate::{
    build::{self, Built},
    check,
    command::{cargo, in_background, output, root, run_logged},
    package, setup,
    steps::{Steps, Tests},
    vm,
};

/// Scenarios that may run beside others: what they try is in files, cgroups or namespaces of its own.
const APART: [&str; 2] = ["history", PACKAGE];
/// They need the Debian packages and a clean root.
const PACKAGE: &str = "package::";
/// They need the package as well, where they run here.
const BOOTED: &str = "systemd::";
/// They need the static program, which is built while others run.
const ARCHIVE: &str = "archive::";
/// So many of the slowest are named.
const SHOWN_SLOWEST_TESTS: usize = 5;

/// All tests, with checks or without, and with other kernels or without.
///
/// # Errors
///
/// If a step fails. What went wrong is printed; the error names the steps.
pub fn all(is_checked: bool, has_machines: bool) -> anyhow::Result<()> {
    let steps = Steps::begin();
    if steps.run("set-up", || set_up(is_checked, has_machines)).is_some() {
        thread::scope(|scope| {
            let steps = &steps;
            let tools = scope.spawn(|| steps.run("cargo-deb and a clean root", package::prepare));
            let kernels = has_machines.then(|| scope.spawn(|| steps.run("kernels", vm::install)));
            // First: what comes after it has most of it in common, and cargo builds one thing at a time in target/release.
            let built = steps.run("build", build::all);
            let background = scope.spawn(move || {
                steps.test("unit tests", unit_tests);
                if is_checked {
                    check::run_steps(steps);
                }
                steps.run("static program", archive)
            });
            let has_tools = join(tools).is_some();
            let here = built.filter(|_| has_tools).and_then(|built| {
                let has_kernels = || kernels.is_some_and(|kernels| join(kernels).is_some());
                scenarios(steps, built, has_kernels)
            });
            let archive = join(background);
            if let (Some(here), Some(archive)) = (here, archive) {
                let is_of_archive = |test: &str| test.starts_with(ARCHIVE);
                here.step(steps, "scenarios of the archive", is_of_archive, &[("NETTOP_ARCHIVE", archive)]);
            }
        });
    }
    steps.finish()
}

/// A step's result; its panic is the caller's.
fn join<T>(step: ScopedJoinHandle<'_, T>) -> T {
    step.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// All but those of the archive. Returns what runs them here.
fn scenarios(steps: &Steps, built: Built, has_kernels: impl FnOnce() -> bool) -> Option<Here> {
    let packages = steps.run("packages", || package::for_tests(&built.nettopd))?;
    let here = steps.run("list of scenarios", || {
        let mut here = Here::new(built)?;
        here.add_packages(&packages)?;
        Ok(here)
    })?;
    let is_apart = |test: &str| APART.iter().any(|begin| test.starts_with(begin));
    thread::scope(|scope| {
        let here = &here;
        scope.spawn(move || {
            here.step(steps, "scenarios", |test| !is_apart(test) && !test.starts_with(ARCHIVE), &[]);
            // After them: small tables hold the rows of the whole machine.
            here.step(steps, "scenarios apart", is_apart, &[]);
        });
        if has_kernels() {
            scope.spawn(|| steps.run("machine that is reset", || vm::reset_test::run(&here.built)));
            steps.test("machines", || vm::run_matrix(&here.built, &packages[0]));
        }
    });
    Some(here)
}

/// All at once: Debian's installer runs once at a time.
fn set_up(is_checked: bool, has_machines: bool) -> anyhow::Result<()> {
    setup::run()?;
    setup::test_tools()?;
    setup::package_tools()?;
    if is_checked {
        setup::check_tools()?;
    }
    if has_machines { setup::vm_tools() } else { Ok(()) }
}

/// The scenarios here that match a filter.
///
/// # Errors
///
/// If no scenario matches, what is needed cannot be installed or built, or a scenario fails.
pub fn some(filter: &[String]) -> anyhow::Result<()> {
    let steps = Steps::begin();
    setup::test_tools()?;
    let mut here = Here::new(build::all()?)?;
    let is_wanted = |test: &str| filter.iter().any(|filter| test.contains(filter));
    let needs = |kind: &str| here.tests.iter().any(|test| test.starts_with(kind) && is_wanted(test));
    let (needs_package, needs_archive) = (needs(PACKAGE) || needs(BOOTED) || needs(ARCHIVE), needs(ARCHIVE));
    if !here.tests.iter().any(|test| is_wanted(test)) {
        bail!("no scenario has {} in its name; unit tests are run by `cargo test --release`", filter.join(" or "));
    }
    if needs_package {
        here.add_packages(&package::for_tests(&here.built.nettopd)?)?;
    }
    let archive = if needs_archive { vec![("NETTOP_ARCHIVE", archive()?)] } else { Vec::new() };
    here.step(&steps, "scenarios", is_wanted, &archive);
    steps.finish()
}

/// What is tested in it does not depend on optimization.
fn archive() -> anyhow::Result<PathBuf> {
    package::archive(build::Profile::Unoptimized)
}

fn unit_tests() -> anyhow::Result<Tests> {
    let mut unit = cargo();
    // Everything but the scenarios.
    let targets = ["--workspace", "--exclude", "nettop-ebpf", "--lib", "--bins"];
    unit.args(["test", "--locked", "--release", "--no-fail-fast"]).args(targets);
    finish(run_logged("unit-tests", &mut in_background(&unit))?)
}

/// Counts a program's tests. Prints its output if it failed for another reason than a test.
fn finish((status, printed): (std::process::ExitStatus, String)) -> anyhow::Result<Tests> {
    let tests = Tests::parse(&printed);
    if !status.success() && tests.failed.is_empty() {
        println!("{printed}");
        bail!("the tests ended with {status}");
    }
    Ok(tests)
}

/// The scenarios on this machine's kernel.
struct Here {
    built: Built,
    environment: Vec<(&'static str, PathBuf)>,
    tests: Vec<String>,
}

impl Here {
    fn new(built: Built) -> anyhow::Result<Self> {
        let environment = vec![("NETTOPD_BIN", built.nettopd.clone())];
        let list = output(Command::new(&built.scenarios).args(["--list", "--format", "terse"]))?;
        let tests = list.lines().filter_map(|line| line.strip_suffix(": test")).map(ToOwned::to_owned).collect();
        Ok(Self { built, environment, tests })
    }

    fn add_packages(&mut self, [package, previous]: &[PathBuf; 2]) -> anyhow::Result<()> {
        self.environment.push(("NETTOP_PACKAGE", package.clone()));
        self.environment.push(("NETTOP_PREVIOUS", previous.clone()));
        self.environment.push(("NETTOP_ROOT", package::clean_root()?));
        Ok(())
    }

    /// Runs those that are wanted as a step.
    fn step(&self, steps: &Steps, name: &str, is_wanted: impl Fn(&str) -> bool, more: &[(&str, PathBuf)]) {
        steps.test(name, || self.run(&name.replace(' ', "-"), is_wanted, more));
    }

    fn run(&self, name: &str, is_wanted: impl Fn(&str) -> bool, more: &[(&str, PathBuf)]) -> anyhow::Result<Tests> {
        let wanted: Vec<&String> = self.tests.iter().filter(|test| is_wanted(test)).collect();
        if wanted.is_empty() {
            return Ok(Tests::default());
        }
        let skips = root().join(format!("target/skips-{name}"));
        fs::write(&skips, "")?;
        let mut scenarios = Command::new(&self.built.scenarios);
        // Each watches the whole machine: one at a time. Times are an unstable option of a stable test program.
        scenarios.args(["--test-threads=1", "-Zunstable-options", "--report-time", "--exact"]).args(wanted);
        scenarios.current_dir(root().join("tests")).env("RUSTC_BOOTSTRAP", "1").env("NETTOP_SKIPS", &skips);
        scenarios.envs(self.environment.iter().cloned()).envs(more.iter().cloned());
        let (status, printed) = run_logged(name, &mut scenarios)?;
        let mut times: Vec<(f64, &str)> = printed.lines().filter_map(time).collect();
        times.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (seconds, test) in times.iter().take(SHOWN_SLOWEST_TESTS) {
            println!("{name}: {seconds:>5.1} s {test}");
        }
        let skipped = fs::read_to_string(&skips)?;
        for skip in skipped.lines() {
            println!("{name}: skipped on this kernel: {skip}");
        }
        let mut tests = finish((status, printed))?;
        // They print it and pass.
        let skips = skipped.lines().count().min(tests.passed);
        tests.passed -= skips;
        tests.skipped += skips;
        Ok(tests)
    }
}

/// Seconds and name in `test NAME ... ok <1.234s>`.
fn time(line: &str) -> Option<(f64, &str)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let seconds = rest.split_once('<')?.1.strip_suffix("s>")?;
    Some((seconds.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn a_tests_time_is_read() {
        assert_eq!(time("test a::b ... ok <0.250s>"), Some((0.25, "a::b")));
        assert_eq!(time("test a::b ... FAILED <1.000s>"), Some((1.0, "a::b")));
        assert_eq!(time("test a::b ... ignored"), None);
        assert_eq!(time("test result: ok. 1 passed;"), None);
    }
}
