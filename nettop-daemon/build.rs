//! Builds the eBPF object for the BPF target, so that every cargo command of this package embeds the right one, and notes
//! the commit.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

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
    println!("cargo::rustc-env=NETTOP_COMMIT={}", commit(root).unwrap_or_else(|| "unknown".into()));
    let rustflags: Vec<String> = FLAGS.iter().map(|flag| format!("-C{flag}")).collect();
    // The object is the same for every profile and target of the daemon, and takes a minute: all builds have one folder.
    let target_dir = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("ebpf");
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root)
        .args(["build", "--locked", "--release", "--package", "nettop-ebpf", "--target", TARGET])
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
    // A copy: another build may replace it there while this one embeds it.
    let object = out_dir.join("nettop-ebpf");
    fs::copy(root.join(target_dir).join(TARGET).join("release/nettop-ebpf"), &object)
        .map_err(|error| format!("cannot copy the eBPF object: {error}"))?;
    println!("cargo::rustc-env=NETTOP_EBPF={}", object.display());
    Ok(())
}

/// The commit that is checked out, if git knows one. What was changed since is not seen here.
fn commit(root: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(root).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Written whenever the commit changes, by whatever way, and at no other time. A file that is missing would have this
    // script run each time.
    let log = root.join(git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
