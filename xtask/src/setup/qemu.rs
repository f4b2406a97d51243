//! The QEMU of virtual machines: the installed one if it has all their network cards, else a newer one of Debian's
//! backports, unpacked below target/setup.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, bail};

use crate::{
    command::{output, root},
    debian::Suite,
};

const INSTALLED: &str = "qemu-system-x86_64";
/// Came with QEMU 8.0.
const NEWEST_CARD: &str = "igb";
/// What it needs besides has the same versions as the installed one's. The program comes last: where it is, all is.
const PACKAGES: [&str; 3] = ["seabios", "qemu-system-data", "qemu-system-x86"];

/// The program; [`set_up`] finds it.
static PROGRAM: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Makes sure that there is a QEMU with all cards. One that is too old has to be installed: a newer one uses its
/// libraries.
///
/// # Errors
///
/// If the installed QEMU lacks a card, and Debian's backports do not answer or have none that runs. The error names
/// what to install by hand.
pub fn set_up() -> anyhow::Result<()> {
    let mut program = PROGRAM.lock().unwrap_or_else(PoisonError::into_inner);
    if program.is_none() {
        *program = Some(find().with_context(|| format!("install a QEMU with {NEWEST_CARD} (8.0 or later) by hand"))?);
    }
    Ok(())
}

/// The program that [`set_up`] found.
pub fn program() -> PathBuf {
    PROGRAM.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_else(|| INSTALLED.into())
}

fn find() -> anyhow::Result<PathBuf> {
    let work = root().join("target/setup/qemu");
    // It looks for its data in `../share`.
    let unpacked = work.join("files/usr/bin").join(INSTALLED);
    if let Some(found) = [Path::new(INSTALLED), &unpacked].into_iter().find(|program| has_all_cards(program)) {
        return Ok(found.into());
    }
    let suite = Suite::open(&format!("{}-backports", codename()?), &work)?;
    for package in PACKAGES {
        suite.unpack(package)?;
    }
    if !has_all_cards(&unpacked) {
        bail!("{} does not run, or has no {NEWEST_CARD}", unpacked.display());
    }
    Ok(unpacked)
}

fn has_all_cards(program: &Path) -> bool {
    // An unknown one is no failure.
    let help = output(Command::new(program).args(["-device", &format!("{NEWEST_CARD},help")]));
    help.is_ok_and(|help| help.contains("mac="))
}

/// Of the suite that this machine follows.
fn codename() -> anyhow::Result<String> {
    let release = fs::read_to_string("/etc/os-release")?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(codename.context("/etc/os-release has no VERSION_CODENAME")?.trim_matches('"').to_owned())
}
