//! Builds the eBPF object for the BPF target, so that every cargo command of this package embeds the right one.

#![forbid(unsafe_code)]

#[path = "build/debug_info.rs"]
mod debug_info;
#[path = "build/reads.rs"]
mod reads;

use std::{env, fs, path::PathBuf, process::Command};

const TARGET: &str = "bpfel-unknown-none";
/// Atomics that return a value need instruction set v3; `--btf` makes bpf-linker emit type information.
const FLAGS: [&str; 4] = ["linker=bpf-linker", "target-cpu=v3", "debuginfo=2", "link-arg=--btf"];

fn main() {
    if let Err(error) = build() {
        println!("cargo::error={error}");
    }
}

fn build() -> Result<(), String> {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let root = manifest_dir.parent().ok_or("the package has no parent folder")?;
    for path in ["nettop-ebpf", "nettop-common", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    let rustflags: Vec<String> = FLAGS.iter().map(|flag| format!("-C{flag}")).collect();
    // All profiles and targets share one object, which takes a minute to build: all builds use one folder.
    let target_dir = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("ebpf");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // With less optimization than the profile has, functions return structures, which BPF cannot.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PROFILE_")) {
        cargo.env_remove(name);
    }
    let output = cargo
        .current_dir(root)
        .args(["build", "--locked", "--profile", "dist", "--package", "nettop-ebpf", "--target", TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir)
        // The BPF target has no prebuilt core, and building it is an unstable option of a stable toolchain.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"))
        .env_remove("RUSTC")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
        .map_err(|error| format!("cannot run cargo for the eBPF side: {error}"))?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        for line in log.lines() {
            println!("cargo::warning={line}");
        }
        return Err(
            "the eBPF side did not build; `cargo xtask build` installs bpf-linker and rust-src if they are missing"
                .into(),
        );
    }
    let built = root.join(target_dir).join(TARGET).join("dist/nettop-ebpf");
    let elf = fs::read(built).map_err(|error| format!("cannot read the eBPF object: {error}"))?;
    let elf = debug_info::removed_from(&elf)?;
    let object = out_dir.join("nettop-ebpf");
    fs::write(&object, &elf).map_err(|error| format!("cannot write the eBPF object: {error}"))?;
    println!("cargo::rustc-env=NETTOP_EBPF={}", object.display());
    let reads: Vec<_> =
        reads::globals_read(&elf)?.into_iter().map(|(program, globals)| (program, Vec::from_iter(globals))).collect();
    let table = format!("const READS: &[(&str, &[&str])] = &{};", format!("{reads:?}").replace("\", [", "\", &["));
    fs::write(out_dir.join("reads.rs"), table).map_err(|error| format!("cannot write what programs read: {error}"))
}
