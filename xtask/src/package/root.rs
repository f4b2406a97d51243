//! A clean Debian root for trying the package in, kept below target/.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;

use crate::{
    command::{root, run_quietly},
    debian, setup,
};

/// What a server has: the package's dependencies, and a client for the history.
const PACKAGES: &str = "systemd-sysv,dbus,procps,sqlite3";
/// Then Debian's own updates are fetched.
const ROOT_LIFETIME: Duration = Duration::from_secs(14 * 86_400);

/// The folder of a minimal Debian of this machine's release, whose libraries the program is linked with.
///
/// # Errors
///
/// If the machine is not Debian, or its archive does not answer.
pub fn clean_root() -> anyhow::Result<PathBuf> {
    let suite = codename()?;
    let work = root().join("target/root");
    let folder = work.join("files");
    let mark = work.join("made");
    let made_of = format!("{suite} {PACKAGES}\n");
    let age = fs::metadata(&mark).and_then(|mark| mark.modified()).ok();
    let is_young =
        age.and_then(|made| SystemTime::now().duration_since(made).ok()).is_some_and(|age| age < ROOT_LIFETIME);
    if is_young && fs::read_to_string(&mark)? == made_of {
        return Ok(folder);
    }
    setup::package_tools()?;
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let sources = work.join("debian.sources");
    fs::write(&sources, debian::sources(&suite)?)?;
    let mut make = Command::new("mmdebstrap");
    make.args(["--variant=minbase", "--format=directory", &format!("--include={PACKAGES}")]);
    make.args(["--aptopt=APT::Install-Recommends false", &suite]).arg(&folder).arg(&sources);
    run_quietly("making a clean Debian root", &mut make)?;
    fs::write(mark, made_of)?;
    Ok(folder)
}

fn codename() -> anyhow::Result<String> {
    let release = fs::read_to_string("/etc/os-release")?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    codename.map(ToOwned::to_owned).context("/etc/os-release names no Debian release")
}
