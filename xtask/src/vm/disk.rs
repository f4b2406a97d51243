//! Machines that start a clean Debian from a disk: its systemd is process 1, and tries the package.

use std::{fs::File, process::Command};

use super::{
    image::Guest,
    kernel::{Installed, Kernel},
    machine::Machine,
};
use crate::{command::run, package};

/// Scenarios of the packaged unit, as the guest's init has them.
pub const SCENARIOS: &str = "systemd::";
/// The oldest lets capabilities do least. The unit is the same on both: the other is for the whole matrix.
const KERNELS: [&str; 2] = [OLDEST, "6.12"];
pub const OLDEST: &str = "6.1";
/// Most of it is never written.
const DISK_BYTES: u64 = 1 << 30;

/// A machine with a disk that nobody has used before; none where the kernel is not one of those.
///
/// # Errors
///
/// If there is no clean root, or a program is missing.
pub fn machine(
    kernel: &'static Kernel,
    installed: &Installed,
    guest: &Guest<'_>,
    filter: &[String],
) -> anyhow::Result<Option<Machine>> {
    if !KERNELS.contains(&kernel.version) {
        return Ok(None);
    }
    let disk = installed.folder()?.join("systemd.disk");
    File::create(&disk)?.set_len(DISK_BYTES)?;
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(package::clean_root()?).arg(&disk))?;
    let machine = Machine::for_kind("systemd", kernel, installed, guest, filter)?;
    Ok(Some(Machine { disk: Some(disk), ..machine }))
}
