//! `cargo xtask package`: the Debian package, and what is in it beside the program.

mod root;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

pub use self::root::clean_root;
use crate::{
    build,
    command::{output, path, root, run, run_quietly},
    setup,
};

/// As in nettop-daemon's metadata.
const MAINTAINER: &str = "nettopd maintainers <nettopd@example.org>";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Less than any that was released.
const PREVIOUS: &str = "0.0.1";

/// Builds the package, has lintian look at it, and tells where it is.
///
/// # Errors
///
/// What set-up, cargo, cargo-deb or lintian says.
pub fn run_debian() -> anyhow::Result<()> {
    let package = debian(&build::nettopd()?, &[])?;
    println!("{}", package.display());
    Ok(())
}

/// The package alone, which nobody but the tests will install.
///
/// # Errors
///
/// What set-up, cargo-deb or lintian says.
pub fn for_machines(nettopd: &Path) -> anyhow::Result<PathBuf> {
    debian(nettopd, &["--fast"])
}

/// The package, and the same with the number of a previous version, for upgrades.
///
/// # Errors
///
/// What set-up, cargo-deb or lintian says.
pub fn for_tests(nettopd: &Path) -> anyhow::Result<[PathBuf; 2]> {
    // Packed in a fifth of the time.
    let package = debian(nettopd, &["--fast"])?;
    let unpacked = package.with_file_name("previous");
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(&package).arg(&unpacked))?;
    let control = unpacked.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?.replace(&format!("Version: {VERSION}-"), &format!("Version: {PREVIOUS}-"));
    fs::write(control, text)?;
    let previous = package.with_file_name(format!("nettopd_{PREVIOUS}-1.deb"));
    run_quietly(
        &format!("packaging nettopd {PREVIOUS}"),
        Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "--build"]).arg(&unpacked).arg(&previous),
    )?;
    Ok([package, previous])
}

/// Manual pages and completions, as the program itself writes them. Returns their folder.
fn contents(nettopd: &Path) -> anyhow::Result<PathBuf> {
    let folder = root().join("target/package");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join("completions"))?;
    run(Command::new(nettopd).arg("man").arg(folder.join("man")))?;
    for (shell, name) in [("bash", "nettopd"), ("zsh", "_nettopd"), ("fish", "nettopd.fish")] {
        let script = output(Command::new(nettopd).args(["completions", shell]))?;
        fs::write(folder.join("completions").join(name), script)?;
    }
    fs::copy(root().join("CHANGELOG.md"), folder.join("upstream"))?;
    run(Command::new("gzip").args(["-9", "--no-name"]).arg(folder.join("upstream")))?;
    Ok(folder)
}

/// Packages what is built already, and has lintian look at it.
fn debian(nettopd: &Path, options: &[&str]) -> anyhow::Result<PathBuf> {
    setup::cargo_deb()?;
    let contents = contents(nettopd)?;
    let date = output(Command::new("date").arg("-R"))?;
    let changelog = format!(
        "nettopd ({VERSION}-1) unstable; urgency=medium\n\n  * Changes are in changelog.gz.\n\n -- {MAINTAINER}  {date}"
    );
    fs::write(contents.join("changelog"), changelog)?;
    let package = contents.join(format!("nettopd_{VERSION}-1.deb"));
    let mut deb = Command::new(setup::cargo_deb_path());
    deb.current_dir(root()).env("PATH", path()).env_remove("CARGO_TARGET_DIR");
    deb.args(["--locked", "--no-build", "--package", "nettop-daemon", "--output"]).arg(&package).args(options);
    run_quietly(&format!("packaging nettopd {VERSION}"), &mut deb)?;
    lint(&package)?;
    Ok(package)
}

/// Lintian's errors and warnings fail; what is overridden has its reason in packaging/debian/lintian-overrides.
fn lint(package: &Path) -> anyhow::Result<()> {
    setup::install(&[("lintian", "lintian")])?;
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--tag-display-limit", "0", "--allow-root"]).arg(package);
    run(&mut lintian).context("the package is not as Debian wants it")
}
