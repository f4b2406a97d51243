//! Machines that start a clean Debian from a disk: its systemd is process 1, and tries the package.

use std::{fs::File, process::Command};

use super::{
    image::{self, Guest},
    kernel::{Installed, Kernel},
    machine::{Machine, filters},
};
use crate::{command::run, package};

/// Scenarios of the packaged unit, as the guest's init has them.
pub const SCENARIOS: &str = "systemd::";
/// Between these lie the last changes in what a kernel lets capabilities do, and in the hooks that are chosen.
const KERNELS: [&str; 1] = ["6.1"];
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
    let folder = installed.folder()?;
    let (initrd, disk) = (folder.join("systemd.initrd"), folder.join("systemd.disk"));
    image::write(&initrd, guest, installed)?;
    File::create(&disk)?.set_len(DISK_BYTES)?;
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(package::clean_root()?).arg(&disk))?;
    let mut arguments = filters(filter);
    arguments.push("disk".into());
    let log = folder.join("systemd.log");
    let image = installed.image.clone();
    Ok(Some(Machine {
        kernel,
        backend: None,
        image,
        initrd,
        disk: Some(disk),
        devices: Vec::new(),
        network: None,
        log,
        arguments,
        guests: 1,
    }))
}
