//! Formatting, lints, documentation, tidiness and units. Every step runs; what failed is listed at the end.

use crate::{
    build::{EBPF_FLAGS, EBPF_TARGET},
    command::{cargo, in_background, run},
    layers, setup,
    steps::Steps,
    tidy, units,
};

/// Runs every check.
///
/// # Errors
///
/// With the names of those that failed.
pub fn run_all() -> anyhow::Result<()> {
    setup::run()?;
    setup::check_tools()?;
    let steps = Steps::begin();
    run_steps(&steps);
    steps.finish()
}

/// Runs every check as a step. What they need is set up.
pub fn run_steps(steps: &Steps) {
    // With the profile of all tests, whose build scripts and macros are not built again.
    let user_side = ["--locked", "--release", "--workspace", "--exclude", "nettop-ebpf"];
    let mut clippy = cargo();
    clippy.arg("clippy").args(user_side).args(["--all-targets", "--", "-D", "warnings"]);
    let mut ebpf = cargo();
    ebpf.args(["clippy", "--locked", "--profile", "dist", "--package", "nettop-ebpf", "--target", EBPF_TARGET]);
    ebpf.args(["-Z", "build-std=core", "--target-dir", "target/ebpf", "--", "-D", "warnings"]);
    ebpf.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", EBPF_FLAGS);
    let mut doc = cargo();
    doc.arg("doc").args(user_side).args(["--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings");
    steps.run("rustfmt", || run(cargo().args(["fmt", "--all", "--check"])));
    steps.run("tidiness", tidy::run);
    steps.run("layers", layers::run);
    steps.run("systemd units", units::run);
    steps.run("clippy", || run(&mut in_background(&clippy)));
    steps.run("clippy of the eBPF side", || run(&mut in_background(&ebpf)));
    steps.run("documentation", || run(&mut in_background(&doc)));
}
