//! Packets without a full socket pass no cgroup hook, and are counted as the kernel's: received ones to a closed port or to a
//! connection in TIME_WAIT, which `kfree_skb` frees, and what such a connection answers, where its device gets it.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use nettop_common::{
    Direction, Family,
    abi::{
        ETH_P_IP_BE, ETH_P_IPV6_BE, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, SKB_DST_NOREF, TCP_DATA_OFFSET_AT,
        TCP_TIME_WAIT,
    },
    log::Hook,
};

use super::{
    copies,
    drops::{Freed, REASON_NO_SOCKET},
    packets,
};
use crate::{
    kernel::{self, load, probe, probe_at},
    ledger::{self, Packet},
};

/// Whether the packet is one of those.
#[inline(always)]
pub fn is_one(freed: &Freed) -> bool {
    freed.reason == REASON_NO_SOCKET.load() || freed.rx_state == TCP_TIME_WAIT
}

/// Whether raw sockets have received the packet: then nothing is lost.
#[inline(always)]
pub fn had_receiver(skb: *const c_void) -> bool {
    let Some(family) = family(skb) else { return false };
    let network = network(skb);
    let protocol: u8 = probe_at(network + if family == Family::V4 { 9 } else { 6 });
    // Those have their own handlers, even if raw sockets listen.
    let has_ports = matches!(u16::from(protocol), IPPROTO_TCP | IPPROTO_UDP | IPPROTO_UDPLITE);
    !has_ports && copies::was_received(network, family)
}

#[inline(always)]
fn family(skb: *const c_void) -> Option<Family> {
    match load::<u16>(skb, &kernel::SKB_PROTOCOL) {
        ETH_P_IP_BE => Some(Family::V4),
        ETH_P_IPV6_BE => Some(Family::V6),
        _ => None,
    }
}

/// Where the IP header is. Read as numbers: arithmetic on the buffer's typed pointers is not allowed.
#[inline(always)]
fn network(skb: *const c_void) -> u64 {
    probe::<u64>(skb as u64, &kernel::SKB_HEAD) + u64::from(load::<u16>(skb, &kernel::SKB_NETWORK_HEADER))
}

/// Counts the packet as the kernel's.
#[inline(always)]
pub fn count(skb: *const c_void) {
    let Some(family) = family(skb) else { return };
    let network = network(skb);
    // tcp_v4_rcv sets skb->dev to null; the route still leads to the namespace.
    let dst = load::<u64>(skb, &kernel::SKB_DST) & !SKB_DST_NOREF;
    let device: u64 = probe(dst, &kernel::DST_DEV);
    let net: u64 = probe(device, &kernel::DEVICE_NET);
    let netns = kernel::netns(net);
    if netns.inode == 0 {
        return;
    }
    let head: u64 = probe(skb as u64, &kernel::SKB_HEAD);
    let data: u64 = probe(skb as u64, &kernel::SKB_DATA);
    let pulled = data.wrapping_sub(network) as u32;
    let shared_info = head + u64::from(load::<u32>(skb, &kernel::SKB_END));
    let gso_size: u16 = probe(shared_info, &kernel::SHINFO_GSO_SIZE);
    let bytes = load::<u32>(skb, &kernel::SKB_LEN).wrapping_add(pulled);
    let mut packet = Packet::ordinary(Hook::PacketFreed, load(skb, &kernel::SKB_IIF), family, bytes);
    packet.gso_size = u32::from(gso_size);
    if gso_size != 0 {
        packet.gso_segs = u32::from(probe::<u16>(shared_info, &kernel::SHINFO_GSO_SEGMENTS));
        packet.header_bytes = pulled + tcp_header_bytes(data);
    }
    ledger::count_kernel(netns, net, Direction::Rx, &packet);
    packets::unclaimed(network, netns, &packet);
}

/// Counts a packet that the kernel sends on this device as its own.
#[inline(always)]
pub fn count_sent(skb: *const c_void, device: u64) {
    let Some(family) = family(skb) else { return };
    let net: u64 = probe(device, &kernel::DEVICE_NET);
    let data: u64 = probe(skb as u64, &kernel::SKB_DATA);
    let link_bytes = network(skb).wrapping_sub(data) as u32;
    let bytes = load::<u32>(skb, &kernel::SKB_LEN).saturating_sub(link_bytes);
    let packet = Packet::ordinary(Hook::FrameSent, probe(device, &kernel::DEVICE_IFINDEX), family, bytes);
    ledger::count_kernel(kernel::netns(net), net, Direction::Tx, &packet);
}

/// Without a socket only TCP comes in super-packets, and `data` is at its header.
#[inline(always)]
fn tcp_header_bytes(data: u64) -> u32 {
    // SAFETY: the helper checks the address.
    let offset = unsafe { bpf_probe_read_kernel((data + u64::from(TCP_DATA_OFFSET_AT)) as *const u8) }.unwrap_or(0x50);
    u32::from(offset >> 4) * 4
}
