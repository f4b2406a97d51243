//! `cargo xtask package`: the Debian package, the archive for other systems, and what is in them beside the program.

mod archive;
mod root;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

pub use self::root::clean_root;
use crate::{
    build::{self, Profile},
    command::{output, path, root, run, run_quietly},
    setup,
};

/// cargo-deb, too, takes the first author.
const MAINTAINER: &str = env!("CARGO_PKG_AUTHORS");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What each packaging makes again, as nettop-daemon's metadata has it.
const CONTENTS: &str = "target/package/contents";
/// Less than any that was released.
const PREVIOUS: &str = "0.0.1";

/// Builds the Debian package and runs lintian, or builds the archive. Prints where it is.
///
/// # Errors
///
/// If the program cannot be built or packed, or lintian finds something in the Debian package: see [`for_machines`].
pub fn run_one(is_static: bool) -> anyhow::Result<()> {
    let package =
        if is_static { archive(Profile::Dist)? } else { debian(&build::nettopd(Profile::Dist)?, Profile::Dist, &[])? };
    println!("{}", package.display());
    Ok(())
}

/// Builds the program that needs no library, and packs it.
///
/// # Errors
///
/// As [`build::static_nettopd`], and if a file of the archive is missing or cannot be made, or tar fails.
pub fn archive(profile: Profile) -> anyhow::Result<PathBuf> {
    let (nettopd, target) = build::static_nettopd(profile)?;
    let system = target.replace("-unknown", "");
    let package = place(&format!("nettopd-{VERSION}-{system}"), ".tar.gz")?;
    // Not where the Debian package has its own: both may be made at once.
    archive::pack(&nettopd, &contents(&nettopd, &format!("{CONTENTS}-static"))?, &package)?;
    Ok(package)
}

/// Sets up what packages are made with and tried in.
///
/// # Errors
///
/// If cargo cannot build cargo-deb, or a clean root cannot be made, as where no Debian archive answers.
pub fn prepare() -> anyhow::Result<()> {
    setup::cargo_deb()?;
    clean_root().map(drop)
}

/// The package alone, which only the tests install.
///
/// # Errors
///
/// If cargo-deb or lintian is missing and cannot be installed, or the package cannot be made. If lintian finds
/// something: correct it, or give the reason in packaging/debian/lintian-overrides.
pub fn for_machines(nettopd: &Path) -> anyhow::Result<PathBuf> {
    debian(nettopd, Profile::Release, &["--fast"])
}

/// The package, and the same with the number of a previous version, for upgrades.
///
/// # Errors
///
/// As [`for_machines`], and if dpkg-deb cannot unpack the package, or make it again.
pub fn for_tests(nettopd: &Path) -> anyhow::Result<[PathBuf; 2]> {
    // Packed in a fifth of the time.
    let package = debian(nettopd, Profile::Release, &["--fast"])?;
    let work = root().join(CONTENTS);
    let unpacked = work.join("previous");
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(&package).arg(&unpacked))?;
    let control = unpacked.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?.replace(&format!("Version: {VERSION}-"), &format!("Version: {PREVIOUS}-"));
    fs::write(control, text)?;
    let previous = work.join(format!("nettopd_{PREVIOUS}-1.deb"));
    run_quietly(
        &format!("packaging nettopd {PREVIOUS}"),
        Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "--build"]).arg(&unpacked).arg(&previous),
    )?;
    Ok([package, previous])
}

/// Where a package goes. Those of its kind that were made before are removed.
fn place(name: &str, kind: &str) -> anyhow::Result<PathBuf> {
    let folder = root().join("target/package");
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(kind) {
            fs::remove_file(path)?;
        }
    }
    Ok(folder.join(format!("{name}{kind}")))
}

/// Manual pages and completions, as the program itself writes them. Returns their folder.
fn contents(nettopd: &Path, folder: &str) -> anyhow::Result<PathBuf> {
    let folder = root().join(folder);
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

/// Packages what is built already, and runs lintian.
fn debian(nettopd: &Path, profile: Profile, options: &[&str]) -> anyhow::Result<PathBuf> {
    setup::cargo_deb()?;
    let contents = contents(nettopd, CONTENTS)?;
    let date = output(Command::new("date").arg("-R"))?;
    let changelog = format!(
        "nettopd ({VERSION}-1) unstable; urgency=medium\n\n  * Changes are in changelog.gz.\n\n -- {MAINTAINER}  {date}"
    );
    fs::write(contents.join("changelog"), changelog)?;
    let package = place(&format!("nettopd_{VERSION}-1"), ".deb")?;
    let mut deb = Command::new(setup::cargo_deb_path());
    deb.current_dir(root()).env("PATH", path()).env_remove("CARGO_TARGET_DIR");
    deb.args(["--locked", "--no-build", "--profile", profile.name(), "--package", "nettop-daemon", "--output"]);
    deb.arg(&package).args(options);
    run_quietly(&format!("packaging nettopd {VERSION}"), &mut deb)?;
    lint(&package)?;
    Ok(package)
}

/// Lintian's errors and warnings fail; what is overridden has its reason in packaging/debian/lintian-overrides.
fn lint(package: &Path) -> anyhow::Result<()> {
    setup::package_tools()?;
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--tag-display-limit", "0", "--allow-root"]).arg(package);
    run(&mut lintian).context("the package is not as Debian wants it")
}
