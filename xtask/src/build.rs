//! Building, running and timing nettopd and its tests.

use std::{path::PathBuf, process::Command};

use anyhow::Context as _;

use crate::{
    command::{cargo, in_background, output, root, run},
    setup,
};

/// Target and flags of the eBPF side, as nettop-kernel's build script has them.
pub const EBPF_TARGET: &str = "bpfel-unknown-none";
pub const EBPF_FLAGS: &str = "-Clinker=bpf-linker\x1f-Ctarget-cpu=v3\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf";

/// How a program is optimized.
#[derive(Clone, Copy)]
pub enum Profile {
    /// Not at all. Where only its files and libraries are tried.
    Unoptimized,
    Release,
    /// As it is packaged.
    Dist,
}

impl Profile {
    /// As cargo calls it.
    pub const fn name(self) -> &'static str {
        self.names().0
    }

    /// With the folder of what it builds.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Unoptimized => ("unoptimized", "unoptimized"),
            Self::Release => ("release", "release"),
            Self::Dist => ("dist", "dist"),
        }
    }

    fn build(self) -> Command {
        let mut build = cargo();
        build.args(["build", "--locked", "--profile", self.name(), "--package", "nettop-daemon"]);
        build
    }

    fn nettopd(self, target: &str) -> PathBuf {
        root().join("target").join(target).join(self.names().1).join("nettopd")
    }
}

/// Builds the daemon and returns where it is.
///
/// # Errors
///
/// If rust-src or bpf-linker is missing and cannot be installed: the error has the remedy. Also if cargo fails: it
/// prints the reason.
pub fn nettopd(profile: Profile) -> anyhow::Result<PathBuf> {
    setup::run()?;
    run(&mut profile.build())?;
    Ok(profile.nettopd(""))
}

/// Builds the daemon so that it needs no library, and returns where it is, and for which target.
///
/// # Errors
///
/// As [`nettopd`], and if musl-gcc is missing and cannot be installed, or the target's standard library cannot be had.
pub fn static_nettopd(profile: Profile) -> anyhow::Result<(PathBuf, String)> {
    setup::run()?;
    let musl = setup::Musl::set_up()?;
    let mut build = profile.build();
    musl.apply(&mut build);
    run(&mut in_background(&build))?;
    Ok((profile.nettopd(&musl.target), musl.target))
}

/// Builds the daemon and runs it. Returns its exit code.
///
/// # Errors
///
/// As [`nettopd`], and if nettopd cannot be started, or a signal ends it.
pub fn run_nettopd(args: &[String]) -> anyhow::Result<u8> {
    let status = Command::new(nettopd(Profile::Release)?).args(args).status().context("cannot run nettopd")?;
    let code = status.code().with_context(|| format!("nettopd ended by {status}"))?;
    Ok(u8::try_from(code).unwrap_or(1))
}

/// What the scenarios are run from.
#[derive(Clone)]
pub struct Built {
    pub nettopd: PathBuf,
    /// Process 1 of virtual machines.
    pub init: PathBuf,
    pub scenarios: PathBuf,
}

/// Builds the daemon and its tests in one run of cargo. Built separately, the two enable different features of shared
/// crates, which are then built twice.
///
/// # Errors
///
/// As [`nettopd`], and if cargo cannot build the tests, or does not name their program.
pub fn all() -> anyhow::Result<Built> {
    setup::run()?;
    let build = || {
        let mut build = Profile::Release.build();
        build.args(["--package", "nettop-tests", "--bin", "nettopd", "--bin", "vm-init", "--test", "scenarios"]);
        build
    };
    run(&mut build())?;
    let messages = output(build().args(["--message-format", "json"]))?;
    let scenarios = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().filter(|_| message["profile"]["test"] == true).map(PathBuf::from)
    });
    let init = root().join("target/release/vm-init");
    let nettopd = Profile::Release.nettopd("");
    Ok(Built { nettopd, init, scenarios: scenarios.context("cargo names no program of scenarios")? })
}

/// Times nettopd next to empty programs and to the peers that are installed.
///
/// # Errors
///
/// As [`nettopd`], and if cargo cannot build the empty programs or the benchmark, or the benchmark fails. It needs
/// root.
pub fn bench(args: &[String]) -> anyhow::Result<()> {
    let nettopd = nettopd(Profile::Dist)?;
    let target_dir = root().join("target/ebpf");
    let mut empty = cargo();
    empty.args(["build", "--locked", "--profile", "dist", "--package", "nettop-ebpf", "--bin", "empty"]);
    empty.args(["--target", EBPF_TARGET, "-Z", "build-std=core", "--target-dir"]).arg(&target_dir);
    empty.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", EBPF_FLAGS);
    run(&mut empty)?;
    let mut bench = cargo();
    bench.args(["run", "--locked", "--release", "--package", "nettop-tests", "--bin", "bench", "--"]).args(args);
    bench.env("NETTOPD_BIN", nettopd).env("NETTOP_EMPTY", target_dir.join(EBPF_TARGET).join("dist/empty"));
    run(&mut bench)
}
