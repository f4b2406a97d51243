//! Building nettopd, and what is done with the result: running it, testing it, timing it.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

use crate::{
    command::{cargo, output, root, run},
    package, setup,
};

/// Target and flags of the eBPF side, as nettop-daemon's build script has them.
pub const EBPF_TARGET: &str = "bpfel-unknown-none";
pub const EBPF_FLAGS: &str = "-Clinker=bpf-linker\x1f-Ctarget-cpu=v3\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf";

const SCENARIOS: [&str; 5] = ["test", "--locked", "--release", "--package", "nettop-tests"];

/// Builds the daemon and returns where it is.
///
/// # Errors
///
/// What set-up or cargo says.
pub fn nettopd() -> anyhow::Result<PathBuf> {
    setup::run()?;
    run(cargo().args(["build", "--locked", "--release", "--package", "nettop-daemon"]))?;
    Ok(root().join("target/release/nettopd"))
}

/// Builds the daemon so that it needs no library, and returns where it is, and for which target.
///
/// # Errors
///
/// What set-up or cargo says.
pub fn static_nettopd() -> anyhow::Result<(PathBuf, String)> {
    setup::run()?;
    let musl = setup::Musl::set_up()?;
    let mut build = cargo();
    build.args(["build", "--locked", "--release", "--package", "nettop-daemon"]);
    musl.apply(&mut build);
    run(&mut build)?;
    Ok((root().join("target").join(&musl.target).join("release/nettopd"), musl.target))
}

/// Builds the daemon and runs it. Returns its exit code.
///
/// # Errors
///
/// What building says, or if nettopd was ended by a signal.
pub fn run_nettopd(args: &[String]) -> anyhow::Result<u8> {
    let status = Command::new(nettopd()?).args(args).status().context("cannot run nettopd")?;
    let code = status.code().with_context(|| format!("nettopd ended by {status}"))?;
    Ok(u8::try_from(code).unwrap_or(1))
}

/// Unit tests, then the scenarios against the release build; both even if the first fail.
///
/// # Errors
///
/// If anything failed.
pub fn test(filter: &[String]) -> anyhow::Result<()> {
    setup::test_tools()?;
    let nettopd = nettopd()?;
    let mut unit = cargo();
    unit.args(["test", "--locked", "--workspace", "--exclude", "nettop-ebpf", "--exclude", "nettop-tests", "--"])
        .args(filter);
    let unit = run(&mut unit);
    let mut scenarios = cargo();
    scenarios.args(SCENARIOS).args(["--no-fail-fast", "--"]);
    // Each scenario watches the whole machine: one at a time.
    scenarios.arg("--test-threads=1").args(filter).env("NETTOPD_BIN", &nettopd);
    if wants("archive::", filter)? {
        scenarios.env("NETTOP_ARCHIVE", package::archive()?);
    }
    let [package, previous] = package::for_tests(&nettopd)?;
    scenarios.env("NETTOP_PACKAGE", package).env("NETTOP_PREVIOUS", previous);
    scenarios.env("NETTOP_ROOT", package::clean_root()?);
    let skips = root().join("target/skips");
    std::fs::write(&skips, "")?;
    scenarios.env("NETTOP_SKIPS", &skips);
    let scenarios = run(&mut scenarios);
    for skip in std::fs::read_to_string(&skips)?.lines() {
        eprintln!("xtask: skipped on this kernel: {skip}");
    }
    for result in [&unit, &scenarios] {
        if let Err(error) = result {
            eprintln!("xtask: {error:#}");
        }
    }
    if unit.is_err() || scenarios.is_err() {
        bail!("tests failed");
    }
    Ok(())
}

/// Whether the filter leaves any scenario of a file.
fn wants(file: &str, filter: &[String]) -> anyhow::Result<bool> {
    let list = ["--test", "scenarios", "--", "--list", "--format", "terse"];
    let left = output(cargo().args(SCENARIOS).args(list).args(filter))?;
    Ok(left.lines().any(|line| line.starts_with(file)))
}

/// Times nettopd next to empty programs and to the peers that are installed.
///
/// # Errors
///
/// What building or the benchmark says.
pub fn bench(args: &[String]) -> anyhow::Result<()> {
    let nettopd = nettopd()?;
    let target_dir = root().join("target/ebpf");
    let mut empty = cargo();
    empty.args(["build", "--locked", "--release", "--package", "nettop-ebpf", "--bin", "empty"]);
    empty.args(["--target", EBPF_TARGET, "-Z", "build-std=core", "--target-dir"]).arg(&target_dir);
    empty.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", EBPF_FLAGS);
    run(&mut empty)?;
    let mut bench = cargo();
    bench.args(["run", "--locked", "--release", "--package", "nettop-tests", "--bin", "bench", "--"]).args(args);
    bench.env("NETTOPD_BIN", nettopd).env("NETTOP_EMPTY", target_dir.join(EBPF_TARGET).join("release/empty"));
    run(&mut bench)
}
