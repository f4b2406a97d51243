//! A machine with network cards of several makers, each on a cable to a virtio card: scenarios put the two ends into
//! namespaces.

use std::fmt::Write as _;

use super::{
    image::Guest,
    kernel::{Installed, Kernel},
    machine::Machine,
};

/// Its scenarios.
pub const SCENARIOS: &str = "cards::";
/// Cards do not change much from kernel to kernel.
const KERNELS: [&str; 1] = ["6.12"];
/// They wait most of the time.
const GUESTS: usize = 3;
const VIRTIO: &str = "virtio-net-pci,romfile=";
/// By number.
const CABLES: [Cable; 10] = [
    hub(VIRTIO),
    hub("e1000,romfile="),
    hub("e1000e,romfile="),
    hub("vmxnet3,romfile="),
    hub("rtl8139,romfile="),
    hub("usb-net"),
    Cable { ends: [VIRTIO; 2], queues: Some(1) },
    Cable { ends: ["virtio-net-pci,romfile=,mq=on,vectors=6"; 2], queues: Some(2) },
    // One gets no super-packets, the other sends none.
    Cable {
        ends: [
            "virtio-net-pci,romfile=,guest_tso4=off,guest_tso6=off,mrg_rxbuf=off",
            "virtio-net-pci,romfile=,host_tso4=off,host_tso6=off",
        ],
        queues: Some(1),
    },
    hub("igb,romfile="),
];

/// Two cards, as QEMU calls them, and what joins them: taps on a bridge pass super-packets whole, with virtio's header; a
/// hub has no such header, and a virtio card on it no offloads.
struct Cable {
    ends: [&'static str; 2],
    /// Of each tap; none for a hub.
    queues: Option<u8>,
}

const fn hub(model: &'static str) -> Cable {
    Cable { ends: [model, VIRTIO], queues: None }
}

/// The machine; none where the kernel is not one of those.
///
/// # Errors
///
/// If a program of the guest or one of its libraries is missing, or the initrd cannot be written.
pub fn machine(
    kernel: &'static Kernel,
    installed: &Installed,
    guest: &Guest<'_>,
    filter: &[String],
) -> anyhow::Result<Option<Machine>> {
    if !KERNELS.contains(&kernel.version) {
        return Ok(None);
    }
    let machine = Machine::for_kind("cards", kernel, &installed.with_cards(), guest, filter)?;
    let guests = if filter.iter().all(|filter| filter == SCENARIOS) { GUESTS } else { 1 };
    Ok(Some(Machine { devices: devices(), network: Some(network()), guests, ..machine }))
}

/// Arguments of QEMU.
fn devices() -> Vec<String> {
    let mut arguments = vec!["-device".into(), "qemu-xhci".into()];
    // An igb has to be among the first 14: the addresses of its functions lie behind its own (`pcie_sriov_pf_init`).
    for (cable, Cable { ends, queues }) in CABLES.iter().enumerate().rev() {
        for (end, card) in (1..).zip(ends) {
            let id = format!("c{cable}e{end}");
            arguments.push("-netdev".into());
            arguments.push(match queues {
                None => format!("hubport,id={id},hubid={cable}"),
                Some(queues) => format!("tap,id={id},ifname={id},queues={queues},script=no,downscript=no"),
            });
            arguments.push("-device".into());
            arguments.push(format!("{card},netdev={id},mac=52:54:00:00:0{cable}:0{end}"));
        }
    }
    arguments
}

/// Commands that make the taps, which carry frames of any MTU, and nothing of their own.
fn network() -> String {
    let mut commands = "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6\n".to_owned();
    for (cable, Cable { queues, .. }) in CABLES.iter().enumerate() {
        let Some(queues) = queues else { continue };
        let options = if *queues > 1 { " multi_queue" } else { "" };
        let _ = writeln!(commands, "ip link add b{cable} up type bridge mcast_snooping 0");
        for end in [1, 2] {
            let tap = format!("c{cable}e{end}");
            let _ = writeln!(commands, "ip tuntap add {tap} mode tap vnet_hdr{options}");
            let _ = writeln!(commands, "ip link set {tap} mtu 9000 master b{cable} up");
        }
    }
    commands
}
