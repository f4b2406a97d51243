//! Formatting, lints, documentation, tidiness and units. Every step runs; what failed is listed at the end.

use anyhow::bail;

use crate::{
    build::{EBPF_FLAGS, EBPF_TARGET},
    command::{cargo, run},
    setup, tidy, units,
};

/// Runs every check.
///
/// # Errors
///
/// With the names of those that failed.
pub fn run_all() -> anyhow::Result<()> {
    setup::run()?;
    setup::check_tools()?;
    let user_side = ["--locked", "--workspace", "--exclude", "nettop-ebpf"];
    let mut clippy = cargo();
    clippy.arg("clippy").args(user_side).args(["--all-targets", "--", "-D", "warnings"]);
    let mut ebpf = cargo();
    ebpf.args(["clippy", "--locked", "--release", "--package", "nettop-ebpf", "--target", EBPF_TARGET]);
    ebpf.args(["-Z", "build-std=core", "--target-dir", "target/ebpf", "--", "-D", "warnings"]);
    ebpf.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", EBPF_FLAGS);
    let mut doc = cargo();
    doc.arg("doc").args(user_side).args(["--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings");
    let steps = [
        ("rustfmt", run(cargo().args(["fmt", "--all", "--check"]))),
        ("clippy", run(&mut clippy)),
        ("clippy of the eBPF side", run(&mut ebpf)),
        ("documentation", run(&mut doc)),
        ("tidiness", tidy::run()),
        ("systemd units", units::run()),
    ];
    let mut failed = Vec::new();
    for (name, result) in steps {
        if let Err(error) = result {
            eprintln!("xtask: {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("these checks failed: {}", failed.join(", ")) }
}
