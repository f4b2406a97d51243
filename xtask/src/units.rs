//! The packaged unit and its drop-ins: systemd reports nothing about them, and they expose no more than they may.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, bail};

use crate::command::root;

/// Tenths of a point that `systemd-analyze security` may give the unit alone, and with each drop-in.
const UNIT_EXPOSURE_TENTHS: u32 = 20;
const DROP_IN_EXPOSURE_TENTHS: [(&str, u32); 3] =
    [("privileged-containers.conf", 25), ("privileged-identity.conf", 23), ("privileged-namespaces.conf", 27)];

/// Checks the unit alone and with each drop-in.
///
/// # Errors
///
/// If `systemd-analyze` is missing, or finds a mistake or more exposure than is allowed.
pub fn run() -> anyhow::Result<()> {
    let packaging = root().join("packaging");
    let folder = root().join("target/units");
    let _ = fs::remove_dir_all(&folder);
    let drop_ins = folder.join("nettopd.service.d");
    fs::create_dir_all(&drop_ins)?;
    let unit = folder.join("nettopd.service");
    copy(&packaging.join("nettopd.service"), &unit)?;
    analyze(&unit, UNIT_EXPOSURE_TENTHS)?;
    for (name, most) in DROP_IN_EXPOSURE_TENTHS {
        let drop_in = drop_ins.join(name);
        copy(&packaging.join(name), &drop_in)?;
        analyze(&unit, most).with_context(|| format!("with {name}"))?;
        fs::remove_file(&drop_in)?;
    }
    let users = packaging.join("nettopd.sysusers");
    output_of(Command::new("systemd-sysusers").arg("--dry-run").arg(users)).map(|_| ())
}

/// systemd misses programs that are not installed yet.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    fs::write(to, text.replace("/usr/bin/nettopd", "/bin/true"))?;
    Ok(())
}

fn analyze(unit: &Path, most: u32) -> anyhow::Result<()> {
    let printed = output_of(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit))?;
    if !printed.is_empty() {
        bail!("systemd-analyze verify is not silent: {printed}");
    }
    let mut security = Command::new("systemd-analyze");
    output_of(security.args(["security", "--offline=true", &format!("--threshold={most}")]).arg(unit)).map(|_| ())
}

/// Output of a command, if it succeeds.
fn output_of(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).trim().to_owned();
    if !output.status.success() {
        bail!("{:?} failed: {printed}", command.get_program());
    }
    Ok(printed)
}
