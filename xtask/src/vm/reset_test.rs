//! `cargo xtask vm --reset`: a machine that is loaded until it is reset hard; after its next start one command names the
//! process.

use std::{fs::File, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, bail};

use super::{
    console::{Console, END},
    image,
    kernel::MATRIX,
    qemu::{self, Accelerator},
};
use crate::{
    build::{self, Built},
    command::{self, root},
    setup,
};

const KERNEL: &str = "6.12";
const GUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// Builds what is needed, and runs the test.
///
/// # Errors
///
/// If QEMU or another tool is missing and cannot be installed, cargo cannot build what is needed, or [`run`] fails.
pub fn build_and_run() -> anyhow::Result<()> {
    setup::vm_tools()?;
    run(&build::all()?)
}

/// Boots twice with the same disk, and checks what the second reports on the first.
///
/// # Errors
///
/// If a machine does not come as far as it should, or the process is not named.
pub fn run(built: &Built) -> anyhow::Result<()> {
    let kernel = MATRIX.iter().find(|kernel| kernel.version == KERNEL).context("the kernel is not in the matrix")?;
    let installed = kernel.install().with_context(|| format!("cannot fetch Linux {KERNEL}"))?;
    let folder = root().join("target/vm/reset");
    std::fs::create_dir_all(&folder)?;
    let (initrd, disk) = (folder.join("initrd"), folder.join("disk"));
    let guest = image::Guest { init: &built.init, nettopd: &built.nettopd, scenarios: None, package: None };
    image::write(&initrd, &guest, &installed)?;
    File::create(&disk)?.set_len(64 << 20)?;
    command::run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk))?;

    let accelerator = Accelerator::find(&installed.image, &initrd);
    eprintln!("xtask: a machine is loaded");
    let boot = |words| boot(accelerator, &installed.image, &initrd, &disk, words);
    let loaded = boot("reset=load")?;
    loaded.until("vm: loaded", GUEST_TIMEOUT)?;
    // No shutdown: as when somebody pulls the plug.
    drop(loaded);
    eprintln!("xtask: it was reset, and starts again");
    let printed = boot("reset=ask")?.until(END, GUEST_TIMEOUT)?;
    println!("{}", printed.join("\n"));
    let hog = printed.iter().skip_while(|line| !line.contains("XMIT_KB")).nth(1).context("no table")?;
    if !hog.contains("runaway") || !printed.iter().any(|line| line.contains("nettopd did not end in order")) {
        bail!("`nettopd history --last-boot` does not name the process");
    }
    Ok(())
}

fn boot(accelerator: Accelerator, kernel: &Path, initrd: &Path, disk: &Path, words: &str) -> anyhow::Result<Console> {
    let mut qemu = qemu::command(accelerator, 1024);
    qemu.arg("-no-reboot");
    qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=writethrough", disk.display()));
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    qemu.arg("-append").arg(format!("{} rdinit=/init -- {words}", qemu::KERNEL_ARGUMENTS));
    Console::start(&mut qemu, None)
}
