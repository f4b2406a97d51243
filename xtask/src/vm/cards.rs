//! A machine with network cards of several makers, each on a cable to a virtio card: scenarios put the two ends into
//! namespaces.

use super::{
    image::{self, Guest},
    kernel::{Installed, Kernel},
    machine::{Machine, filters},
};

/// Cards do not change much from kernel to kernel.
const KERNELS: [&str; 1] = ["6.12"];
/// As QEMU calls them, by the number of their cable.
const MODELS: [&str; 5] = ["virtio-net-pci", "e1000", "e1000e", "vmxnet3", "rtl8139"];
/// They start no firmware.
const WITHOUT_ROM: &str = ",romfile=";

/// The machine; none where the kernel is not one of those.
///
/// # Errors
///
/// If a program is missing.
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
    let initrd = folder.join("cards.initrd");
    image::write(&initrd, guest, &installed.with_cards())?;
    let mut arguments = filters(filter);
    arguments.push("cards".into());
    Ok(Some(Machine {
        kernel,
        backend: None,
        image: installed.image.clone(),
        initrd,
        disk: None,
        devices: devices(),
        log: folder.join("cards.log"),
        arguments,
        guests: 1,
    }))
}

/// Arguments of QEMU.
fn devices() -> Vec<String> {
    let mut arguments = Vec::new();
    for (cable, model) in MODELS.iter().enumerate() {
        for (end, model) in [(1, *model), (2, "virtio-net-pci")] {
            arguments.push("-netdev".into());
            arguments.push(format!("hubport,id=c{cable}e{end},hubid={cable}"));
            arguments.push("-device".into());
            arguments.push(format!("{model},netdev=c{cable}e{end},mac=52:54:00:00:0{cable}:0{end}{WITHOUT_ROM}"));
        }
    }
    arguments
}
