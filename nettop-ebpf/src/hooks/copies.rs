//! Received packets that a device counted once or never, and that several sockets received: multicast and broadcast
//! (`__udp4_lib_mcast_deliver` clones; own packets loop back by `dev_loopback_xmit`), raw and ping sockets. Each
//! receiver's row counts them; the device's balance has to know. And packets that pass the hook again, see
//! [`passes_again`].

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_ktime_get_ns, programs::SkBuffContext};
use nettop_common::{
    Family, SocketTag,
    abi::{IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, PACKET_BROADCAST, PACKET_LOOPBACK, PACKET_MULTICAST},
    tag::{COPIES, SHARES},
};

use crate::{
    kernel::probe_at,
    maps::{LAST_LISTENER_PACKET, LAST_SHARED, ListenerPacket, Shared},
};

/// A packet's two socket lookups are microseconds apart, unless a hypervisor delays them. Answers to keepalives come
/// later; they may repeat the handshake's last segment.
const LOOKUP_TIMEOUT_NS: u64 = 1_000_000_000;

/// Whether the device's counters hold the packet without this receiver.
#[inline(always)]
pub fn is_copy(ctx: &SkBuffContext, tag: &SocketTag, sk: u64, family: Family) -> bool {
    // SAFETY: the context is valid for the run.
    let kind = unsafe { (*ctx.skb.skb).pkt_type };
    if kind == PACKET_LOOPBACK || tag.flags & COPIES != 0 {
        return true;
    }
    (kind == PACKET_MULTICAST || kind == PACKET_BROADCAST || tag.flags & SHARES != 0)
        && was_received_before(ctx, sk, family)
}

/// Whether another socket has just received the same packet. On the same socket it is a new one of the same content.
#[inline(always)]
fn was_received_before(ctx: &SkBuffContext, sk: u64, family: Family) -> bool {
    let content = content(&|at| ctx.load::<u64>(at).unwrap_or(0), family);
    let Some(last) = last() else { return false };
    if last.content == content && last.first_sk != sk {
        return true;
    }
    *last = Shared { content, first_sk: sk };
    false
}

/// Whether raw sockets have just received the packet with its IP header at this address. Its protocol's own handler
/// then frees it again, without a socket (`ping_rcv` of echo replies). Call once per packet.
#[inline(always)]
pub fn was_received(network: u64, family: Family) -> bool {
    let content = content(&|at| probe_at(network + at as u64), family);
    let Some(last) = last() else { return false };
    let is_same = last.content == content && last.first_sk != 0;
    if is_same {
        // An exact duplicate is another packet (ping's DUP!).
        *last = Shared { content: 0, first_sk: 0 };
    }
    is_same
}

/// Remembers the packet that a listener receives.
#[inline(always)]
pub fn note_listener_packet(ctx: &SkBuffContext, family: Family) {
    if let Some(last) = last_listener_packet() {
        *last = ListenerPacket { skb: ctx.as_ptr() as u64, content: tcp_content(ctx, family), time_ns: now_ns() };
    }
}

/// Whether a listener has just received the packet that a connection receives now. `tcp_v4_rcv` and `tcp_v6_rcv` filter
/// the last packet of a handshake for the listener. If another CPU has made the connection meanwhile (`req_stolen` of
/// `tcp_check_req`, 4.15 on), they look up the socket again and filter the packet for it.
#[inline(always)]
pub fn passes_again(ctx: &SkBuffContext, family: Family) -> bool {
    last_listener_packet().is_some_and(|last| {
        last.skb == ctx.as_ptr() as u64
            && last.content == tcp_content(ctx, family)
            && now_ns().wrapping_sub(last.time_ns) < LOOKUP_TIMEOUT_NS
    })
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Distinguishes a segment from the next in the same buffer: length and identification; ports and sequence number;
/// acknowledgement, flags and window; timestamps. Not the checksum: it is incomplete in a local packet.
#[inline(always)]
fn tcp_content(ctx: &SkBuffContext, family: Family) -> u64 {
    let tcp = if family == Family::V4 { IPV4_HEADER_BYTES } else { IPV6_HEADER_BYTES };
    let word = |at: u32| ctx.load::<u64>(at as usize).unwrap_or(0);
    word(0) ^ word(tcp).rotate_left(16) ^ word(tcp + 8).rotate_left(32) ^ word(tcp + 24).rotate_left(48)
}

#[inline(always)]
fn last_listener_packet() -> Option<&'static mut ListenerPacket> {
    // SAFETY: the element is this CPU's own, and receiving is not preempted by receiving.
    LAST_LISTENER_PACKET.get_ptr_mut(0).map(|last| unsafe { &mut *last })
}

/// Length, identification; addresses; ports and checksum.
#[inline(always)]
fn content(word: &impl Fn(usize) -> u64, family: Family) -> u64 {
    match family {
        Family::V4 => word(0) ^ word(12).rotate_left(16) ^ word(20).rotate_left(32),
        Family::V6 => word(0) ^ word(16).rotate_left(16) ^ word(32).rotate_left(32) ^ word(40).rotate_left(48),
    }
}

#[inline(always)]
fn last() -> Option<&'static mut Shared> {
    // SAFETY: the element is this CPU's own, and receiving is not preempted by receiving.
    LAST_SHARED.get_ptr_mut(0).map(|last| unsafe { &mut *last })
}
