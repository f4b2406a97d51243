//! Installs what building needs and rustup's default lacks: the standard library's source, and bpf-linker.
//!
//! Each step does nothing where its result is there already.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::command::{cargo, output, path, root, run_quietly};

/// The Debian suite that carries the newest rustc's source.
const SUITE: &str = "trixie-backports";
const BPF_LINKER: &str = "0.13";

/// Makes the machine able to build both sides.
///
/// # Errors
///
/// One line with the remedy.
pub fn run() -> anyhow::Result<()> {
    let rustc = Rustc::query().context("cannot ask rustc for its version; install Rust from https://rustup.rs")?;
    rust_src(&rustc)?;
    bpf_linker(&rustc)
}

/// Installs Debian packages for commands that tests use and the machine lacks.
///
/// # Errors
///
/// One line with the remedy.
pub fn test_tools() -> anyhow::Result<()> {
    let tools = [("ip", "iproute2"), ("setpriv", "util-linux")];
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
    sysroot: PathBuf,
    version: String,
    llvm: String,
}

impl Rustc {
    fn query() -> anyhow::Result<Self> {
        let verbose = output(Command::new("rustc").arg("-vV"))?;
        let field = |name: &str| {
            let line = verbose.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned()).with_context(|| format!("rustc does not tell its {name}"))
        };
        let llvm = field("LLVM version:")?;
        Ok(Self {
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
    let mut rustup = Command::new("timeout");
    rustup.args(["60", "rustup", "component", "add", "rust-src"]);
    let added = run_quietly("adding rust-src by rustup", &mut rustup);
    if added.is_ok() && library.join("core/Cargo.toml").exists() {
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
    let work = root().join("target/setup/rust-src");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(work.join("lists/partial"))?;
    let sources = work.join("debian.sources");
    fs::write(&sources, debian_sources()?)?;
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(&work).args(["-o", &format!("Dir::Etc::sourcelist={}", sources.display())]);
        command.args(["-o", "Dir::Etc::sourceparts=/dev/null"]);
        command.args(["-o", &format!("Dir::State::lists={}", work.join("lists").display())]).args(args);
        // Downloads as root are handed to a user who may not reach this folder.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    };
    run_quietly(&format!("reading the package list of {SUITE}"), &mut apt(&["update"]))?;
    let package = format!("rust-src={}+*", rustc.version);
    run_quietly("downloading rust-src", &mut apt(&["download", &package]))?;
    let deb = fs::read_dir(&work)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded nothing")?;
    run_quietly("unpacking rust-src", Command::new("dpkg-deb").arg("-x").arg(&deb).arg(work.join("files")))?;
    let unpacked = work.join(format!("files/usr/src/rustc-{}/library", rustc.version));
    let parent = library.parent().context("the sysroot has no parent")?;
    fs::create_dir_all(parent)?;
    // Copied beside its place and renamed: an interrupted copy is not taken for the whole.
    let beside = parent.join("library.partial");
    run_quietly("copying rust-src", Command::new("cp").args(["-rT"]).arg(&unpacked).arg(&beside))?;
    fs::rename(&beside, library)?;
    Ok(())
}

/// A source list for the suite, on the archive that this machine uses already.
fn debian_sources() -> anyhow::Result<String> {
    let mut texts = Vec::from_iter(fs::read_to_string("/etc/apt/sources.list"));
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        texts.extend(fs::read_to_string(entry.path()));
    }
    let Some(uri) = texts.iter().find_map(|text| archive(text)) else {
        bail!("no Debian archive is configured in /etc/apt");
    };
    Ok(format!(
        "Types: deb\nURIs: {uri}\nSuites: {SUITE}\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    ))
}

/// The URI of the main Debian archive in a source list of either form.
fn archive(sources: &str) -> Option<String> {
    // Others publish for Debian below longer paths.
    let is_archive = |uri: &&str| {
        let path = uri.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        path.is_some_and(|(_, path)| path.trim_end_matches('/') == "debian")
    };
    sources
        .lines()
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .find_map(|line| line.split_whitespace().find(is_archive))
        .map(ToOwned::to_owned)
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

#[cfg(test)]
mod tests {
    use super::archive;

    #[test]
    fn the_archive_is_found_in_both_forms_of_source_lists() {
        let deb822 = "Types: deb\n# http://x/debian\nURIs: http://mirror.example/debian\nSuites: stable\n";
        assert_eq!(archive(deb822).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(
            archive("deb [signed-by=/k] http://mirror.example/debian/ stable main\n").as_deref(),
            Some("http://mirror.example/debian/")
        );
        assert_eq!(archive("URIs: http://mirror.example/debian-security\n"), None);
        assert_eq!(archive("deb http://vendor.example/linux/debian stable main\n"), None);
    }
}
