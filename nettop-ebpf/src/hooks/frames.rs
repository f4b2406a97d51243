//! Frames of packet sockets (AF_PACKET), at their first device: after the queue each frame is one packet, from any call
//! or ring. No hook reports that such a socket is made, so the program looks at each sent packet. For all others but
//! forwarded ones and answers from TIME_WAIT it ends after five loads.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use nettop_common::{
    Direction, Family, Ref, SocketTag,
    abi::{AF_PACKET, ETH_P_8021Q_BE, ETH_P_IPV6_BE, ETHERNET_HEADER_BYTES, IPPROTO_TCP, TCP_TIME_WAIT},
    log::Hook,
    tag::{STACKED, attribution},
};

use super::{forwarded, socketless};
use crate::{
    kernel::{self, load, probe, probe_at},
    ledger::{self, Packet},
    owners,
    storage::SOCKETS,
    tags,
    task::{User, is_in_call_on},
};

/// `xmit_one`, after queueing and segmentation.
#[btf_tracepoint(function = "net_dev_start_xmit")]
pub fn frame_sent(ctx: BtfTracePointContext) -> i32 {
    let skb: *const c_void = ctx.arg(0);
    // A bridge leaves the sender's socket, in its namespace, with the packet.
    if load::<u32>(skb, &kernel::SKB_IIF) != 0 {
        forwarded::count(skb as u64, ctx.arg::<*const c_void>(1) as u64);
        return 0;
    }
    let sk: *const c_void = load(skb, &kernel::SKB_SK);
    if sk.is_null() {
        return 0;
    }
    if load::<u16>(sk, &kernel::SOCK_FAMILY) == AF_PACKET {
        count(skb as u64, sk, ctx.arg::<*const c_void>(1) as u64);
    } else if load::<u8>(sk, &kernel::SOCK_STATE) == TCP_TIME_WAIT {
        answer(skb, ctx.arg::<*const c_void>(1) as u64);
    }
    0
}

#[inline(always)]
fn count(skb: u64, sk: *const c_void, device: u64) {
    let Some(tag) = SOCKETS.tag(sk.cast_mut(), Hook::FrameSent) else { return };
    let socket = tags::address(tag, sk);
    if tag.netns.inode == 0 {
        tag.netns = tags::netns_of(socket);
    }
    if !is_first_device(tag, skb, device) {
        return;
    }
    let known = tags::owner(tag);
    let sender = sender_of(tag, known, socket);
    ledger::count(tag, sender, sk, false, Direction::Tx, &frame(skb, device));
}

/// An answer that a connection in TIME_WAIT sends. Such a socket has no tag: below another device, the packet may have
/// been counted there.
#[inline(always)]
fn answer(skb: *const c_void, device: u64) {
    if !kernel::is_tunnelled(skb as u64) && !has_any(device, kernel::DEVICE_UPPER.load()) {
        socketless::count_sent(skb, device);
    }
}

/// The sender of the frame: the running process only if that is known, since any process may empty a device's queue.
/// [`Ref::NONE`] otherwise, for the socket's owner.
#[inline(always)]
fn sender_of(tag: &mut SocketTag, known: Ref, socket: u64) -> Ref {
    let user = User::current(Hook::FrameSent);
    let owner = owners::get(known);
    let is_owned = known != Ref::NONE && owner.is_some();
    if owner.is_some_and(|owner| user.is(owner)) {
        return known;
    }
    if user.task.is_kernel_thread() {
        return Ref::NONE;
    }
    if is_in_call_on(socket) {
        tags::assign_owner(tag, &user, attribution::USER)
    } else if !is_owned && user.task.has_opened(socket) {
        tags::assign_owner(tag, &user, attribution::CREATOR)
    } else {
        Ref::NONE
    }
}

/// Whether the frame came here from its socket. Frames that are in a tunnel, or come from the device above have their
/// sender's socket as well.
#[inline(always)]
fn is_first_device(tag: &mut SocketTag, skb: u64, device: u64) -> bool {
    if kernel::is_tunnelled(skb) || kernel::netns(probe(device, &kernel::DEVICE_NET)) != tag.netns {
        return false;
    }
    if has_any(device, kernel::DEVICE_LOWER.load()) {
        tags::set_flags(tag, STACKED);
        return true;
    }
    tag.flags & STACKED == 0 || !has_any(device, kernel::DEVICE_UPPER.load())
}

/// Whether a list of a device, a `list_head`, has a member.
#[inline(always)]
fn has_any(device: u64, list: u64) -> bool {
    let head = device + list;
    probe_at::<u64>(head) != head
}

/// As other rows count it: without the link header, which device counters may have.
#[inline(always)]
fn frame(skb: u64, device: u64) -> Packet {
    let head: u64 = probe(skb, &kernel::SKB_HEAD);
    let data: u64 = probe(skb, &kernel::SKB_DATA);
    let network = head + u64::from(probe::<u16>(skb, &kernel::SKB_NETWORK_HEADER));
    // A VLAN tag from the program is the frame's, and not the device's.
    let before_network = network.wrapping_sub(data) as u32;
    let link_bytes = if before_network > ETHERNET_HEADER_BYTES { ETHERNET_HEADER_BYTES } else { before_network };
    let mut protocol: u16 = probe(skb, &kernel::SKB_PROTOCOL);
    if protocol == ETH_P_8021Q_BE {
        protocol = probe_at(data + 16);
    }
    let family = if protocol == ETH_P_IPV6_BE { Family::V6 } else { Family::V4 };
    let gso_size: u16 = probe(head + u64::from(probe::<u32>(skb, &kernel::SKB_END)), &kernel::SHINFO_GSO_SIZE);
    let bytes = probe::<u32>(skb, &kernel::SKB_LEN).saturating_sub(link_bytes);
    let mut packet = Packet::ordinary(Hook::FrameSent, probe(device, &kernel::DEVICE_IFINDEX), family, bytes);
    packet.gso_size = u32::from(gso_size);
    if gso_size != 0 {
        let transport = head + u64::from(probe::<u16>(skb, &kernel::SKB_TRANSPORT_HEADER));
        let at = if protocol == ETH_P_IPV6_BE { 6 } else { 9 };
        let is_tcp = u16::from(probe_at::<u8>(network + at)) == IPPROTO_TCP;
        packet.is_udp = !is_tcp;
        let transport_bytes = if is_tcp { u32::from(probe_at::<u8>(transport + 12) >> 4) * 4 } else { 8 };
        packet.header_bytes = (transport.wrapping_sub(data) as u32).wrapping_sub(link_bytes) + transport_bytes;
    }
    packet
}
