//! Asks rtnetlink for the links of the calling thread's namespace, and ethtool for the rest.

use std::{ffi::CString, fs, sync::LazyLock};

use anyhow::Context as _;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nettop_common::row::GSO_MAX_SIZE;

use super::device::{Counters, Device, LinkLayer};
use crate::sys::{escape::escape, ethtool::Ethtool};

/// The links of a namespace.
pub struct Links {
    pub devices: Vec<(u32, Device)>,
    /// Whether no device came or went meanwhile: a change makes the kernel skip some, or report them twice
    /// (`nl_dump_check_consistent`).
    pub is_whole: bool,
}

impl Links {
    /// Those of a namespace that is gone.
    pub const fn none() -> Self {
        Self { devices: Vec::new(), is_whole: true }
    }
}

/// Asks rtnetlink for all links of the calling thread's namespace.
///
/// # Errors
///
/// If descriptors are exhausted, a system call filter forbids sockets, or rtnetlink refuses or does not answer.
pub fn dump() -> anyhow::Result<Links> {
    /// If devices come and go all the time, take what is there.
    const MAX_TRIES: usize = 4;
    let mut links = dump_once()?;
    for _ in 1..MAX_TRIES {
        if links.is_whole {
            break;
        }
        links = dump_once()?;
    }
    Ok(links)
}

fn dump_once() -> anyhow::Result<Links> {
    let mut socket = Socket::new(NETLINK_ROUTE).context("cannot open a rtnetlink socket")?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::from(RouteNetlinkMessage::GetLink(LinkMessage::default())),
    );
    request.header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    request.finalize();
    let mut buffer = vec![0; request.buffer_len()];
    request.serialize(&mut buffer);
    socket.send(&buffer, 0).context("cannot ask rtnetlink for links")?;
    let ethtool = Ethtool::new().context("cannot ask for the features of devices")?;
    let (mut devices, mut is_whole) = (Vec::new(), true);
    loop {
        let (answer, _) = socket.recv_from_full().context("rtnetlink did not answer")?;
        let mut rest = answer.as_slice();
        while let Ok(message) = NetlinkBuffer::new_checked(rest) {
            is_whole &= message.flags() & NLM_F_DUMP_INTR == 0;
            let len = (message.length() as usize).next_multiple_of(4).max(size_of::<u32>());
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map(|message| message.payload) {
                Ok(NetlinkPayload::Done(_)) => return Ok(Links { devices, is_whole }),
                Ok(NetlinkPayload::Error(error)) => {
                    return Err(error.to_io()).context("rtnetlink refused to list links");
                }
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link))) => {
                    devices.extend(device(&link, &ethtool));
                }
                Ok(_) => {}
                Err(error) => tracing::debug!("a link message cannot be read: {error}"),
            }
            rest = rest.get(len..).unwrap_or_default();
        }
    }
}

fn device(link: &LinkMessage, ethtool: &Ethtool) -> Option<(u32, Device)> {
    let mut device = Device::default();
    let (mut name, mut stats) = (None, None);
    let mut gso_max_bytes = [None; 2];
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(it) => name = Some(it),
            LinkAttribute::Stats64(it) => stats = Some(it),
            LinkAttribute::LinkInfo(infos) => device.identity.kind = kind(infos),
            LinkAttribute::Address(it) => device.identity.address.clone_from(it),
            LinkAttribute::Link(it) => device.identity.link = Some(*it),
            LinkAttribute::LinkNetNsId(_) => device.setup.is_link_elsewhere = true,
            LinkAttribute::Controller(it) => device.setup.master = Some(*it),
            LinkAttribute::Mtu(it) => device.setup.mtu_bytes = *it,
            LinkAttribute::GsoIpv4MaxSize(it) => gso_max_bytes[0] = Some(*it),
            LinkAttribute::GsoMaxSize(it) => gso_max_bytes[1] = Some(*it),
            LinkAttribute::Xdp(it) => device.setup.has_xdp = it.iter().any(is_in_driver),
            _ => {}
        }
    }
    // Before 6.3 IPv4 has no limit of its own, and keeps to the default.
    device.setup.gso_max_bytes = gso_max_bytes.map(|bytes| bytes.unwrap_or(GSO_MAX_SIZE));
    device.setup.link_layer = match link.header.link_layer_type {
        LinkLayerType::Ether => LinkLayer::Ethernet,
        LinkLayerType::Loopback => LinkLayer::Loopback,
        _ => LinkLayer::Other,
    };
    let (name, stats) = (name?, stats?);
    device.name = escape(name.as_bytes());
    device.counters = Counters {
        tx_bytes: stats.tx_bytes,
        tx_packets: stats.tx_packets,
        rx_bytes: stats.rx_bytes,
        rx_packets: stats.rx_packets,
    };
    device.setup.is_virtual = *IS_VIRTUAL;
    // Asking wakes up a device that sleeps without a link (`dev_ethtool`).
    if link.header.flags.contains(LinkFlags::LowerUp)
        && let Ok(name) = CString::new(name.as_bytes())
    {
        ask(&mut device, &name, ethtool);
    }
    Some((link.header.index, device))
}

/// Asks for what only ethtool has. A device that is gone, or has none of it, stays as it is.
fn ask(device: &mut Device, name: &std::ffi::CStr, ethtool: &Ethtool) {
    device.setup.features = ethtool.features(name).ok();
    if device.is_hardware() {
        device.setup.driver = ethtool.driver(name).map(|driver| escape(driver.as_bytes())).unwrap_or_default();
    }
}

fn kind(infos: &[LinkInfo]) -> String {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    });
    kind.unwrap_or_default()
}

/// Whether an XDP program is in the driver's receive path.
fn is_in_driver(xdp: &LinkXdp) -> bool {
    matches!(xdp, LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Multiple))
}

/// Whether the CPU reports a hypervisor.
static IS_VIRTUAL: LazyLock<bool> = LazyLock::new(|| {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.ends_with(" hypervisor") || line.contains(" hypervisor "))
});
