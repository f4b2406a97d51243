//! Packets counted as sent and then dropped before the device saw them: by another program on the hook, without a
//! neighbour, or by a queue. The reason shows that a packet had passed `packet_tx`, or the function that drops it.

use core::ffi::c_void;

use aya_ebpf::{Global, helpers::generated::bpf_snprintf};
use nettop_common::{
    Family,
    abi::{
        ETH_P_IP_BE, ETH_P_IPV6_BE, IP_OFFSET, IPPROTO_TCP, IPV6_HEADER_BYTES, JUMBO_HEADER_BYTES, NEXTHDR_FRAGMENT,
        NEXTHDR_HOP, UDP_HEADER_BYTES,
    },
    drops::unsent::PREFIXES,
    log::Hook,
};

use super::drops::{Freed, is_full};
use crate::{
    hooks::transfer::is_inet,
    kernel::{self, load, probe, probe_at},
    ledger::{self, Packet},
    storage::SOCKETS,
};

/// The values below 128 of `enum skb_drop_reason` for that, one bit each; none before 5.17.
#[unsafe(no_mangle)]
static UNSENT_REASONS: Global<[u64; 2]> = Global::new([0; 2]);
/// Number of the queues' own reasons, if the kernel has a subsystem for them; else 0.
#[unsafe(no_mangle)]
static QDISC_SUBSYSTEM: Global<u32> = Global::new(0);
/// Value of `SKB_DROP_REASON_NOT_SPECIFIED`, with which the function that drops says the rest.
#[unsafe(no_mangle)]
static REASON_NOT_SPECIFIED: Global<u32> = Global::new(u32::MAX);
/// And of `SKB_DROP_REASON_QUEUE_PURGE`, which is said of sockets' queues as well (6.8).
#[unsafe(no_mangle)]
static REASON_QUEUE_PURGE: Global<u32> = Global::new(u32::MAX);

const FRAGMENT_HEADER_BYTES: u32 = 8;

/// Counts the packet, if it is one of those.
#[inline(always)]
pub fn count(freed: &Freed) {
    let is_known = is_behind_hook(freed.reason);
    if is_known || freed.reason == REASON_NOT_SPECIFIED.load() || freed.reason == REASON_QUEUE_PURGE.load() {
        count_packet(freed, is_known);
    }
}

#[inline(always)]
fn is_behind_hook(reason: u32) -> bool {
    let [low, high] = UNSENT_REASONS.load();
    let bits = if reason < 64 { low } else { high };
    (reason < 128 && bits >> (reason & 63) & 1 != 0)
        || (QDISC_SUBSYSTEM.load() != 0 && reason >> 16 == QDISC_SUBSYSTEM.load())
}

/// `%pB` ignores `kptr_restrict`, and knows modules.
static FORMAT: [u8; 4] = *b"%pB\0";

/// Whether the function that this return address belongs to drops such packets without saying so.
#[inline(always)]
fn is_unsent_at(location: u64) -> bool {
    const LENGTH: u32 = 24;
    let (mut name, mut location) = ([0u64; 3], location);
    // SAFETY: both live on the stack, and have the sizes that are given; the kernel checks the format.
    unsafe { bpf_snprintf(name.as_mut_ptr().cast(), LENGTH, FORMAT.as_ptr().cast(), &raw mut location, 8) };
    let begin = if name[0].to_le_bytes()[..2] == *b"__" { name[0] >> 16 | name[1] << 48 } else { name[0] };
    PREFIXES.contains(&begin)
}

#[inline(always)]
fn count_packet(freed: &Freed, is_known: bool) {
    let skb = freed.skb;
    let sk: *const c_void = load(skb, &kernel::SKB_SK);
    // Packet sockets bypass the IP hooks.
    if sk.is_null() || !is_full(sk, probe(sk as u64, &kernel::SOCK_STATE)) || !is_inet(sk) {
        return;
    }
    let Some(tag) = SOCKETS.find(sk.cast_mut()) else { return };
    let family = match load::<u16>(skb, &kernel::SKB_PROTOCOL) {
        ETH_P_IP_BE => Family::V4,
        ETH_P_IPV6_BE => Family::V6,
        _ => return,
    };
    if !is_known && !is_unsent_at(freed.location) {
        return;
    }
    // Read as numbers: arithmetic on the buffer's typed pointers is not allowed.
    let skb = skb as u64;
    let device: u64 = probe(skb, &kernel::SKB_DEV);
    let head: u64 = probe(skb, &kernel::SKB_HEAD);
    let network = head + u64::from(probe::<u16>(skb, &kernel::SKB_NETWORK_HEADER));
    let transport = head + u64::from(probe::<u16>(skb, &kernel::SKB_TRANSPORT_HEADER));
    // Before a queue it already has its link header.
    let link_bytes = network.wrapping_sub(probe::<u64>(skb, &kernel::SKB_DATA)) as u32;
    let gso_size: u16 = probe(head + u64::from(probe::<u32>(skb, &kernel::SKB_END)), &kernel::SHINFO_GSO_SIZE);
    let bytes = probe::<u32>(skb, &kernel::SKB_LEN).wrapping_sub(link_bytes);
    let mut packet = Packet::ordinary(Hook::PacketFreed, probe(device, &kernel::DEVICE_IFINDEX), family, bytes);
    packet.gso_size = u32::from(gso_size);
    let netns = kernel::netns(probe(device, &kernel::DEVICE_NET));
    ledger::take_back(tag, netns, &as_counted(packet, network, transport));
}

/// As `packet_tx` counted it: a fragmented datagram as a whole. The first fragment stands for the packet, and the
/// repeated headers of the others were not counted.
#[inline(always)]
fn as_counted(mut packet: Packet, network: u64, transport: u64) -> ledger::Unsent {
    let byte = |at: u64| probe_at::<u8>(network + at);
    let word = |at: u64| u16::from_be(probe_at::<u16>(network + at));
    let (header_bytes, fragment_offset) = match packet.family {
        Family::V4 => (u32::from(byte(0) & 0x0f) * 4, word(6) & IP_OFFSET),
        Family::V6 if byte(6) == NEXTHDR_FRAGMENT => {
            packet.bytes = packet.bytes.saturating_sub(FRAGMENT_HEADER_BYTES);
            (IPV6_HEADER_BYTES, word(42) >> 3)
        }
        Family::V6 => (IPV6_HEADER_BYTES, 0),
    };
    if fragment_offset != 0 {
        packet.bytes = packet.bytes.saturating_sub(header_bytes);
        return ledger::Unsent { packets: 0, packet };
    }
    if packet.gso_size != 0 {
        let is_jumbo = packet.family == Family::V6 && byte(6) == NEXTHDR_HOP;
        let jumbo_bytes = if is_jumbo { JUMBO_HEADER_BYTES } else { 0 };
        let protocol = match packet.family {
            Family::V4 => byte(9),
            Family::V6 if is_jumbo => byte(u64::from(IPV6_HEADER_BYTES)),
            Family::V6 => byte(6),
        };
        packet.is_udp = u16::from(protocol) != IPPROTO_TCP;
        let transport_bytes =
            if packet.is_udp { UDP_HEADER_BYTES } else { u32::from(probe_at::<u8>(transport + 12) >> 4) * 4 };
        packet.jumbo_bytes = jumbo_bytes;
        packet.bytes = packet.bytes.saturating_sub(jumbo_bytes);
        packet.header_bytes = (transport.wrapping_sub(network) as u32).wrapping_sub(jumbo_bytes) + transport_bytes;
    }
    ledger::Unsent { packets: 1, packet }
}
