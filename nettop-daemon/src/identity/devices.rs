//! Network devices and their own counters, by rtnetlink, in every namespace that has traffic.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
};

use anyhow::Context as _;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nettop_common::Netns;

use super::{escape::escape, namespaces};

/// Namespace and interface index: an index alone names nothing.
pub type DeviceKey = (Netns, u32);

/// What a device's own counters count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Basis {
    /// Buffers as the stack hands them over, a super-packet once.
    Skb,
    /// Packets on the wire.
    Wire,
}

/// A device's own counters.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub rx_packets: u64,
}

/// One device at one time.
#[derive(Clone, Debug)]
pub struct Device {
    pub name: String,
    pub basis: Basis,
    /// Bytes of link header that its counters include with each packet, by [`nettop_common::Direction`].
    pub link_header_bytes: [u32; 2],
    pub counters: Counters,
}

/// Knows devices from reading to reading.
pub struct Devices {
    host: Netns,
    known: BTreeMap<DeviceKey, Device>,
    /// Namespaces read at least once.
    read: BTreeSet<Netns>,
    /// Namespaces of the last reading.
    fresh: BTreeSet<Netns>,
    /// Namespaces with traffic that the last reading could not enter.
    unread: Vec<Netns>,
    /// Without it, looking for ways into namespaces costs a pass over /proc and leads nowhere.
    may_enter: bool,
}

impl Devices {
    /// Reads every device that can be found, so that each later difference has a base.
    ///
    /// # Errors
    ///
    /// If rtnetlink does not answer for the daemon's own namespace.
    pub fn new() -> anyhow::Result<Self> {
        let mut devices = Self {
            host: namespaces::current().context("cannot tell the own network namespace")?,
            known: BTreeMap::new(),
            read: BTreeSet::new(),
            fresh: BTreeSet::new(),
            unread: Vec::new(),
            may_enter: namespaces::may_enter(),
        };
        devices.read_all(if devices.may_enter { namespaces::all() } else { HashMap::new() })?;
        Ok(devices)
    }

    /// Knows these devices, and reads nothing.
    #[cfg(test)]
    pub const fn fixed(host: Netns, known: BTreeMap<DeviceKey, Device>) -> Self {
        Self { host, known, read: BTreeSet::new(), fresh: BTreeSet::new(), unread: Vec::new(), may_enter: false }
    }

    /// Reads the host's devices and those of each namespace with traffic. `wanted` names a namespace and the
    /// processes that may live there.
    ///
    /// # Errors
    ///
    /// If rtnetlink does not answer for the daemon's own namespace.
    pub fn update(&mut self, wanted: &BTreeMap<Netns, Vec<u32>>) -> anyhow::Result<()> {
        let mut paths = HashMap::new();
        let mut sought = HashSet::new();
        for (netns, pids) in wanted.iter().filter(|_| self.may_enter) {
            match pids.iter().find_map(|pid| namespaces::through_process(netns.inode, *pid)) {
                Some(path) => {
                    paths.insert(netns.inode, path);
                }
                None => {
                    sought.insert(netns.inode);
                }
            }
        }
        sought.retain(|inode| !paths.contains_key(inode));
        if !sought.is_empty() {
            paths.extend(namespaces::all().into_iter().filter(|(inode, _)| sought.contains(inode)));
        }
        self.read_all(paths)?;
        self.forget_dead(wanted);
        self.unread = wanted.keys().filter(|netns| !self.read.contains(netns)).copied().collect();
        Ok(())
    }

    /// Forgets namespaces whose inode number another one has by now, once no row tells of them.
    fn forget_dead(&mut self, wanted: &BTreeMap<Netns, Vec<u32>>) {
        let alive: HashMap<u32, u32> = self.fresh.iter().map(|netns| (netns.inode, netns.cookie)).collect();
        let is_kept = |netns: &Netns| {
            wanted.contains_key(netns) || alive.get(&netns.inode).is_none_or(|cookie| *cookie == netns.cookie)
        };
        self.read.retain(is_kept);
        self.known.retain(|(netns, _), _| is_kept(netns));
    }

    /// The device, as it was when last seen.
    pub fn get(&self, key: DeviceKey) -> Option<&Device> {
        self.known.get(&key)
    }

    /// All devices, those of dead namespaces until another has their number and their rows are gone.
    pub fn iter(&self) -> impl Iterator<Item = (&DeviceKey, &Device)> {
        self.known.iter()
    }

    /// Whether the last reading reached a namespace: its devices' counters are no older than the ledger's.
    pub fn is_fresh(&self, netns: Netns) -> bool {
        self.fresh.contains(&netns)
    }

    pub const fn host(&self) -> Netns {
        self.host
    }

    /// Namespaces with traffic whose devices were never read.
    pub fn unread(&self) -> &[Netns] {
        &self.unread
    }

    fn read_all(&mut self, mut paths: HashMap<u32, PathBuf>) -> anyhow::Result<()> {
        self.fresh.clear();
        paths.remove(&self.host.inode);
        self.store(self.host, dump()?);
        if paths.is_empty() {
            return Ok(());
        }
        let paths: Vec<PathBuf> = paths.into_values().collect();
        for (path, visited) in paths.iter().zip(namespaces::visit(&paths, dump)) {
            match visited {
                Ok((netns, devices)) => self.store(netns, devices),
                Err(error) => tracing::debug!("cannot read the devices of {}: {error:#}", path.display()),
            }
        }
        Ok(())
    }

    fn store(&mut self, netns: Netns, devices: Vec<(u32, Device)>) {
        self.read.insert(netns);
        self.fresh.insert(netns);
        self.known.extend(devices.into_iter().map(|(ifindex, device)| ((netns, ifindex), device)));
    }
}

/// Asks rtnetlink for all links of the calling thread's namespace.
fn dump() -> anyhow::Result<Vec<(u32, Device)>> {
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
    let mut devices = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full().context("rtnetlink did not answer")?;
        let mut rest = answer.as_slice();
        while rest.len() >= 16 {
            let len = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let Some(message) = rest.get(..len.max(16)) else { break };
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map(|message| message.payload) {
                Ok(NetlinkPayload::Done(_)) => return Ok(devices),
                Ok(NetlinkPayload::Error(error)) => {
                    return Err(error.to_io()).context("rtnetlink refused to list links");
                }
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link))) => devices.extend(device(&link)),
                Ok(_) => {}
                Err(error) => tracing::debug!("a link message cannot be read: {error}"),
            }
        }
    }
}

fn device(link: &LinkMessage) -> Option<(u32, Device)> {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(escape(name.as_bytes())),
        _ => None,
    })?;
    let stats = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(stats),
        _ => None,
    })?;
    let kind = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        }),
        _ => None,
    });
    let (basis, link_header_bytes) = match link.header.link_layer_type {
        LinkLayerType::Ether => ethernet(kind),
        // loopback_xmit counts after eth_type_trans has pulled the header; other devices have none.
        _ => (Basis::Skb, [0, 0]),
    };
    let counters = Counters {
        tx_bytes: stats.tx_bytes,
        tx_packets: stats.tx_packets,
        rx_bytes: stats.rx_bytes,
        rx_packets: stats.rx_packets,
    };
    Some((link.header.index, Device { name, basis, link_header_bytes, counters }))
}

/// What the counters of a device with Ethernet headers count. `kind` is that of a software device.
fn ethernet(kind: Option<&InfoKind>) -> (Basis, [u32; 2]) {
    const HEADER: u32 = 14;
    match kind {
        None => (Basis::Wire, [HEADER, HEADER]),
        // bond_get_stats adds up those of its slaves.
        Some(InfoKind::Bond) => (Basis::Wire, [HEADER, HEADER]),
        // br_pass_frame_up, vlan_do_receive and team_handle_frame count after eth_type_trans.
        Some(InfoKind::Bridge | InfoKind::Vlan | InfoKind::Team) => (Basis::Skb, [HEADER, 0]),
        // iptunnel_xmit counts from the inner IP header; vxlan_rcv, geneve_rx and __ip6_tnl_rcv as above, ip_tunnel_rcv
        // before.
        Some(InfoKind::Vxlan | InfoKind::Geneve | InfoKind::GreTap6 | InfoKind::Ip6ErSpan) => (Basis::Skb, [0, 0]),
        Some(InfoKind::GreTap | InfoKind::ErSpan) => (Basis::Skb, [0, HEADER]),
        Some(_) => (Basis::Skb, [HEADER, HEADER]),
    }
}
