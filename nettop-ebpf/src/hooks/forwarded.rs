//! Packets that were received before and leave again, routed or bridged. For a local packet there is one load more.

use nettop_common::{
    Family, PairKey,
    abi::{
        ETH_P_8021Q_BE, ETH_P_IP_BE, ETH_P_IPV6_BE, ETHERNET_HEADER_BYTES, IPPROTO_TCP, JUMBO_HEADER_BYTES,
        NEXTHDR_HOP, SKB_GSO_DODGY, UDP_HEADER_BYTES,
    },
    log::Hook,
};

use crate::{
    forwarded,
    kernel::{self, probe, probe_at},
    ledger::Packet,
};

/// Counts a packet for the device that received it and for this one. Not inlined: local packets do not come here.
#[inline(never)]
pub fn count(skb: u64, device: u64) {
    let net: u64 = probe(device, &kernel::DEVICE_NET);
    let sk: u64 = probe(skb, &kernel::SKB_SK);
    // A packet of this namespace that was redirected (`tcf_mirred_to_dev`): its row has it.
    if sk != 0 && probe::<u64>(sk, &kernel::SOCK_NET) == net {
        return;
    }
    let head: u64 = probe(skb, &kernel::SKB_HEAD);
    let data: u64 = probe(skb, &kernel::SKB_DATA);
    let network = head + u64::from(probe::<u16>(skb, &kernel::SKB_NETWORK_HEADER));
    let before_network = network.wrapping_sub(data) as u32;
    // As rows count it; a VLAN tag in the frame, which the device counts as well, stays.
    let link_bytes = if before_network > ETHERNET_HEADER_BYTES { ETHERNET_HEADER_BYTES } else { before_network };
    let mut ethertype: u16 = probe(skb, &kernel::SKB_PROTOCOL);
    if ethertype == ETH_P_8021Q_BE {
        ethertype = probe_at(data + 16);
    }
    let (family, protocol_at) = match ethertype {
        ETH_P_IP_BE => (Family::V4, 9),
        ETH_P_IPV6_BE => (Family::V6, 6),
        _ => return,
    };
    let mut protocol: u8 = probe_at(network + protocol_at);
    let bytes = probe::<u32>(skb, &kernel::SKB_LEN).saturating_sub(link_bytes);
    let mut packet = Packet::ordinary(Hook::FrameSent, 0, family, bytes);
    let shared_info = head + u64::from(probe::<u32>(skb, &kernel::SKB_END));
    packet.gso_size = u32::from(probe::<u16>(shared_info, &kernel::SHINFO_GSO_SIZE));
    let mut is_merged = false;
    if packet.gso_size != 0 {
        // Its segments have inner headers, too.
        if kernel::is_tunnelled(skb) {
            return;
        }
        // Where a driver's count is missing, the stack adds it, and leaves the mark (`tcp_gso_segment`).
        is_merged = probe::<u16>(shared_info, &kernel::SHINFO_GSO_SEGMENTS) == 0
            || probe::<u32>(shared_info, &kernel::SHINFO_GSO_TYPE) & SKB_GSO_DODGY != 0;
        if family == Family::V6 && protocol == NEXTHDR_HOP {
            protocol = probe_at(network + 40);
            packet.jumbo_bytes = JUMBO_HEADER_BYTES;
            packet.bytes = bytes.saturating_sub(JUMBO_HEADER_BYTES);
        }
        let transport = head + u64::from(probe::<u16>(skb, &kernel::SKB_TRANSPORT_HEADER));
        let is_tcp = u16::from(protocol) == IPPROTO_TCP;
        let transport_bytes =
            if is_tcp { u32::from(probe_at::<u8>(transport + 12) >> 4) * 4 } else { UDP_HEADER_BYTES };
        packet.header_bytes =
            (transport.wrapping_sub(network) as u32).wrapping_add(transport_bytes).wrapping_sub(packet.jumbo_bytes);
    }
    // Its destination is a group of hosts.
    let is_to_many = before_network >= ETHERNET_HEADER_BYTES && probe_at::<u8>(data) & 1 != 0;
    let key = PairKey {
        netns: kernel::netns(net),
        received_on: if is_to_many { 0 } else { probe(skb, &kernel::SKB_IIF) },
        sent_on: probe(device, &kernel::DEVICE_IFINDEX),
        family: family as u32,
    };
    forwarded::add_to(&key, net, &packet, is_merged, protocol);
}
