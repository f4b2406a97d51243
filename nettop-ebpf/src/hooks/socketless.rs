//! Received packets that meet no full socket pass no cgroup hook: those to a closed port, and those to a
//! connection in TIME_WAIT. The kernel frees both through `kfree_skb`, where they are counted as its own.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use nettop_common::{Direction, Family};

use super::{
    drops::{Freed, REASON_NO_SOCKET, SKB_DST_NOREF},
    packets,
};
use crate::{
    kernel::{self, load, probe},
    ledger::{self, Packet},
    numbers::TCP_TIME_WAIT,
};

const ETH_P_IP_BE: u16 = 0x0800_u16.to_be();
const ETH_P_IPV6_BE: u16 = 0x86dd_u16.to_be();

/// Counts the packet, if it is one of those.
#[inline(always)]
pub fn count(freed: &Freed) {
    if freed.reason == REASON_NO_SOCKET.load() || freed.rx_state == TCP_TIME_WAIT {
        count_packet(freed.skb);
    }
}

#[inline(always)]
fn count_packet(skb: *const c_void) {
    let family = match load::<u16>(skb, &kernel::SKB_PROTOCOL) {
        ETH_P_IP_BE => Family::V4,
        ETH_P_IPV6_BE => Family::V6,
        _ => return,
    };
    // tcp_v4_rcv sets skb->dev to null; the route still leads to the namespace.
    let dst = load::<u64>(skb, &kernel::SKB_DST) & !SKB_DST_NOREF;
    let device: u64 = probe(dst, &kernel::DST_DEV);
    let net: u64 = probe(device, &kernel::DEVICE_NET);
    let netns = kernel::netns(net);
    if netns.inode == 0 {
        return;
    }
    // Read as numbers: arithmetic on the buffer's typed pointers is not allowed.
    let head: u64 = probe(skb as u64, &kernel::SKB_HEAD);
    let data: u64 = probe(skb as u64, &kernel::SKB_DATA);
    let network = head + u64::from(load::<u16>(skb, &kernel::SKB_NETWORK_HEADER));
    let pulled = data.wrapping_sub(network) as u32;
    let shared_info = head + u64::from(load::<u32>(skb, &kernel::SKB_END));
    let gso_size: u16 = probe(shared_info, &kernel::SHINFO_GSO_SIZE);
    let header_bytes = if gso_size == 0 { 0 } else { pulled + tcp_header_bytes(data) };
    let packet = Packet {
        ifindex: load(skb, &kernel::SKB_IIF),
        family,
        bytes: load::<u32>(skb, &kernel::SKB_LEN).wrapping_add(pulled),
        gso_size: u32::from(gso_size),
        header_bytes,
    };
    ledger::count_kernel(netns, Direction::Rx, &packet);
    packets::unclaimed(network, netns, &packet);
}

/// Without a socket only TCP comes in super-packets, and `data` is at its header.
#[inline(always)]
fn tcp_header_bytes(data: u64) -> u32 {
    const DATA_OFFSET: u64 = 12;
    // SAFETY: the helper checks the address.
    let offset = unsafe { bpf_probe_read_kernel((data + DATA_OFFSET) as *const u8) }.unwrap_or(0x50);
    u32::from(offset >> 4) * 4
}
