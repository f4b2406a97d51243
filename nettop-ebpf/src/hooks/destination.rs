//! A packet's destination, from its headers.

use core::ffi::c_void;

use nettop_common::{
    abi::{ETH_P_IP, ETH_P_IPV6, IP_OFFSET, IPPROTO_TCP, IPPROTO_UDP, IPV6_HEADER_BYTES, RTCF_LOCAL, SKB_DST_NOREF},
    offsets::ABSENT,
    ports::Address,
};

use crate::{
    kernel::{self, load, probe, probe_at},
    ports,
};

/// Where the headers are, and the transport protocol.
pub struct Headers {
    /// Address of the IP header, 0 if there is none.
    network: u64,
    pub transport: u8,
}

/// Reads the IP header of a packet with this protocol in the Ethernet header.
#[inline(always)]
pub fn read_headers(protocol: u16, skb: *const c_void) -> Headers {
    const UNSET: u16 = u16::MAX;
    let at = match protocol {
        ETH_P_IP => 9,
        ETH_P_IPV6 => 6,
        _ => return Headers { network: 0, transport: 0 },
    };
    let offset: u16 = load(skb, &kernel::SKB_NETWORK_HEADER);
    if offset == 0 || offset == UNSET {
        return Headers { network: 0, transport: 0 };
    }
    // Read as numbers: arithmetic on the buffer's typed pointers is not allowed.
    let network = probe::<u64>(skb as u64, &kernel::SKB_HEAD) + u64::from(offset);
    Headers { network, transport: probe_at(network + at) }
}

/// Destination address and port of a TCP or UDP packet.
#[inline(always)]
pub fn port(protocol: u16, headers: &Headers, skb: *const c_void) -> Option<(Address, u16)> {
    let Headers { network, transport } = *headers;
    let has_ports = matches!(u16::from(transport), IPPROTO_TCP | IPPROTO_UDP);
    if network == 0 || !has_ports {
        return None;
    }
    let (address, header_bytes) = if protocol == ETH_P_IP {
        let fragment = u16::from_be(probe_at(network + 6));
        if fragment & IP_OFFSET != 0 {
            return None;
        }
        (ports::mapped(probe_at(network + 16)), u64::from(probe_at::<u8>(network) & 0x0f) * 4)
    } else {
        (probe_at::<Address>(network + 24), u64::from(IPV6_HEADER_BYTES))
    };
    // Data in pages is not searched.
    let linear_bytes = load::<u32>(skb, &kernel::SKB_LEN).wrapping_sub(load(skb, &kernel::SKB_DATA_LEN));
    let linear_end = probe::<u64>(skb as u64, &kernel::SKB_DATA) + u64::from(linear_bytes);
    let transport = network + header_bytes;
    (transport + 4 <= linear_end).then(|| (address, u16::from_be(probe_at(transport + 2))))
}

/// Whether the packet's route ends here.
#[inline(always)]
pub fn is_local(protocol: u16, skb: *const c_void) -> bool {
    let route = load::<u64>(skb, &kernel::SKB_DST) & !SKB_DST_NOREF;
    let flags = if protocol == ETH_P_IP { &kernel::RTABLE_FLAGS } else { &kernel::RT6_FLAGS };
    route != 0 && flags.load() != ABSENT && probe::<u32>(route, flags) & RTCF_LOCAL != 0
}
