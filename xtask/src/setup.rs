//! Installs what building needs and rustup's default lacks: the standard library's source, and bpf-linker.
//!
//! Each step does nothing where its result is there already.

mod musl;
pub mod qemu;

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
pub use musl::Musl;

use crate::{
    command::{cargo, output, path, root, run_quietly},
    debian::Suite,
};

/// The Debian suite that carries the newest rustc's source.
const SUITE: &str = "trixie-backports";
const BPF_LINKER: &str = "0.13";
const CARGO_DEB: &str = "3.8";

/// Makes the machine able to build both sides.
///
/// # Errors
///
/// If rustc is missing, or if rust-src or bpf-linker is missing and cannot be installed. The error has the remedy.
pub fn run() -> anyhow::Result<()> {
    let rustc = Rustc::query().context("cannot ask rustc for its version; install Rust from https://rustup.rs")?;
    rust_src(&rustc)?;
    bpf_linker(&rustc)
}

/// Installs Debian packages for commands that tests use and the machine lacks.
///
/// # Errors
///
/// If a command is missing and apt-get cannot install its package. The error names what to install by hand.
pub fn test_tools() -> anyhow::Result<()> {
    install(&[
        ("curl", "curl"),
        ("ip", "iproute2"),
        ("lsof", "lsof"),
        ("nft", "nftables"),
        ("setpriv", "util-linux"),
        ("sqlite3", "sqlite3"),
        ("ss", "iproute2"),
        ("strace", "strace"),
        ("tc", "iproute2"),
        ("tcpdump", "tcpdump"),
    ])
}

/// Installs what checks need.
///
/// # Errors
///
/// If systemd-analyze is missing and apt-get cannot install it. The error names what to install by hand.
pub fn check_tools() -> anyhow::Result<()> {
    install(&[("systemd-analyze", "systemd")])
}

/// Installs what packages are checked with and tried in.
///
/// # Errors
///
/// If lintian or mmdebstrap is missing and apt-get cannot install it. The error names what to install by hand.
pub fn package_tools() -> anyhow::Result<()> {
    install(&[("lintian", "lintian"), ("mmdebstrap", "mmdebstrap")])
}

/// Installs what virtual machines need.
///
/// # Errors
///
/// If a command is missing and apt-get cannot install its package, or no QEMU has all network cards. The error names
/// what to install by hand.
pub fn vm_tools() -> anyhow::Result<()> {
    test_tools()?;
    install(&[("qemu-system-x86_64", "qemu-system-x86"), ("wg", "wireguard-tools"), ("xz", "xz-utils")])?;
    qemu::set_up()
}

/// Builds cargo-deb into target/, where the user's own programs are not touched.
///
/// # Errors
///
/// If cargo cannot download or build it. What cargo printed is shown.
pub fn cargo_deb() -> anyhow::Result<()> {
    let installed = output(Command::new(cargo_deb_path()).arg("--version")).unwrap_or_default();
    if installed.split_whitespace().last().is_some_and(|version| version.starts_with(CARGO_DEB)) {
        return Ok(());
    }
    let work = root().join("target/setup/cargo-deb");
    let mut install = cargo();
    // Half the time of an optimized build; its own work takes seconds.
    install.args(["install", "cargo-deb", "--version", &format!("^{CARGO_DEB}"), "--locked", "--force", "--debug"]);
    install.args(["--no-default-features", "--root"]).arg(&work).env("CARGO_TARGET_DIR", work.join("target"));
    run_quietly("building cargo-deb, about a minute", &mut install)
}

/// Where [`cargo_deb`] puts it.
pub fn cargo_deb_path() -> PathBuf {
    root().join("target/setup/cargo-deb/bin/cargo-deb")
}

/// Runs rustup, which may wait for its server without end.
fn rustup(args: &[&str]) -> anyhow::Result<()> {
    run_quietly(&format!("rustup {}", args.join(" ")), Command::new("timeout").args(["60", "rustup"]).args(args))
}

/// Installs the Debian packages of those commands that are missing.
///
/// # Errors
///
/// If a command is missing and apt-get cannot install its package. The error names what to install by hand.
pub fn install(tools: &[(&str, &str)]) -> anyhow::Result<()> {
    // Debian's installer runs once at a time.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let missing: Vec<&str> = tools.iter().filter(|(tool, _)| !is_on_path(tool)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let remedy = || format!("install {} by hand", missing.join(", "));
    run_quietly("updating the package lists", Command::new("apt-get").arg("update")).with_context(remedy)?;
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
    run_quietly(&format!("installing {}", missing.join(", ")), &mut install).with_context(remedy)
}

fn is_on_path(tool: &str) -> bool {
    env::split_paths(&path()).any(|folder| folder.join(tool).is_file())
}

/// The compiler that everything has to fit.
struct Rustc {
    arch: String,
    sysroot: PathBuf,
    version: String,
    llvm: String,
}

impl Rustc {
    fn query() -> anyhow::Result<Self> {
        let verbose = output(Command::new("rustc").arg("-vV"))?;
        let field = |name: &str| {
            let line = verbose.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned()).with_context(|| format!("rustc does not print its {name}"))
        };
        let (host, llvm) = (field("host:")?, field("LLVM version:")?);
        Ok(Self {
            arch: host.split('-').next().unwrap_or_default().to_owned(),
            sysroot: output(Command::new("rustc").args(["--print", "sysroot"]))?.trim().into(),
            version: field("release:")?,
            llvm: llvm.split('.').next().unwrap_or_default().to_owned(),
        })
    }
}

/// The eBPF target has no prebuilt core: it is built from source.
fn rust_src(rustc: &Rustc) -> anyhow::Result<()> {
    let library = rustc.sysroot.join("lib/rustlib/src/rust/library");
    if library.join("core/Cargo.toml").exists() {
        return Ok(());
    }
    if rustup(&["component", "add", "rust-src"]).is_ok() && library.join("core/Cargo.toml").exists() {
        return Ok(());
    }
    eprintln!("xtask: rustup cannot add rust-src here, trying Debian's package");
    rust_src_from_debian(rustc, &library).with_context(|| {
        format!(
            "rust-src {} is missing; run `rustup component add rust-src`, or put the library at {}",
            rustc.version,
            library.display()
        )
    })
}

fn rust_src_from_debian(rustc: &Rustc, library: &Path) -> anyhow::Result<()> {
    let suite = Suite::open(SUITE, &root().join("target/setup/rust-src"))?;
    let files = suite.unpack(&format!("rust-src={}+*", rustc.version))?;
    let unpacked = files.join(format!("usr/src/rustc-{}/library", rustc.version));
    let parent = library.parent().context("the sysroot has no parent")?;
    fs::create_dir_all(parent)?;
    // Copied beside its place and renamed: an interrupted copy is not taken for the whole.
    let beside = parent.join("library.partial");
    run_quietly("copying rust-src", Command::new("cp").args(["-rT"]).arg(&unpacked).arg(&beside))?;
    fs::rename(&beside, library)?;
    Ok(())
}

/// bpf-linker is built against the very LLVM that rustc brings, so no system LLVM is needed.
fn bpf_linker(rustc: &Rustc) -> anyhow::Result<()> {
    // One that was linked with another rustc's LLVM does not even start.
    let installed = output(Command::new("bpf-linker").env("PATH", path()).arg("--version")).unwrap_or_default();
    if installed.split_whitespace().nth(1).is_some_and(|version| version.starts_with(BPF_LINKER)) {
        return Ok(());
    }
    let sysroot_lib = rustc.sysroot.join("lib");
    let prefix = format!("libLLVM.so.{}", rustc.llvm);
    let llvm = fs::read_dir(&sysroot_lib)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .with_context(|| format!("{} has no {prefix}; use a rustc from rustup", sysroot_lib.display()))?;
    let work = root().join("target/setup/llvm");
    fs::create_dir_all(work.join("lib"))?;
    let link = work.join("lib/libLLVM.so");
    let _ = fs::remove_file(&link);
    symlink(&llvm, &link)?;
    let mut install = cargo();
    install.args(["install", "bpf-linker", "--version", &format!("^{BPF_LINKER}"), "--locked", "--force"]);
    install.args(["--no-default-features", "--features", &format!("llvm-{}", rustc.llvm)]);
    install.env("LLVM_PREFIX", &work).env("CARGO_TARGET_DIR", root().join("target/setup/bpf-linker"));
    install
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", format!("-C link-arg=-Wl,-rpath,{}", sysroot_lib.display()));
    run_quietly("building bpf-linker, about a minute", &mut install)
        .context("bpf-linker is missing; it needs a C compiler (gcc)")
}
