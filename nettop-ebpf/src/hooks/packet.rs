//! Wire packets: `cgroup_skb` on the root cgroup2, `__cgroup_bpf_run_filter_skb`. Both ways know their socket,
//! every network namespace passes here, and the context is stable UAPI. Every path returns 1: never drop.

use aya_ebpf::{
    EbpfContext as _, bindings::bpf_sock, helpers::generated::bpf_get_socket_cookie, macros::cgroup_skb,
    programs::SkBuffContext,
};
use nettop_common::{
    Direction, Family, Ref,
    abi::{
        CGROUP_PASS, ETH_P_IPV6_BE, IPPROTO_TCP, IPPROTO_UDP, IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, JUMBO_HEADER_BYTES,
        NEXTHDR_HOP, TCP_DATA_OFFSET_AT, TCP_LISTEN, UDP_HEADER_BYTES,
    },
    log::Hook,
    tag::{CHILD, LISTENING},
};

use crate::{
    hooks::{copies, sender},
    kernel::{self, probe_if_there},
    ledger::{self, Packet},
    log,
    maps::stats,
    ports, shadow,
    storage::SOCKETS,
};

#[cgroup_skb]
pub fn packet_tx(ctx: SkBuffContext) -> i32 {
    count(&ctx, Direction::Tx);
    CGROUP_PASS
}

#[cgroup_skb]
pub fn packet_rx(ctx: SkBuffContext) -> i32 {
    count(&ctx, Direction::Rx);
    CGROUP_PASS
}

#[inline(always)]
fn count(ctx: &SkBuffContext, direction: Direction) {
    let Some(sk) = socket(ctx) else { return };
    log::number_socket(ctx.as_ptr());
    let hook = if direction == Direction::Tx { Hook::PacketTx } else { Hook::PacketRx };
    let Some(tag) = SOCKETS.tag_if_full(sk, hook) else { return };
    // SAFETY: a checked bpf_sock; the verifier rewrites the load. Only TCP has the state.
    let listens = unsafe { (*sk).state } == u32::from(TCP_LISTEN);
    let packet = packet(ctx, hook);
    if direction == Direction::Rx {
        // L2TP has packets filtered again when it queues them. Their device has been taken then (`__sk_receive_skb`).
        if packet.ifindex == 0 {
            return;
        }
        if listens {
            copies::note_listener_packet(ctx, packet.family);
        } else if tag.flags & (CHILD | LISTENING) != 0 && copies::passes_again(ctx, packet.family) {
            return;
        }
    }
    let known = shadow::before(ctx.as_ptr(), tag, sk);
    let sender = if direction == Direction::Tx { sender::find(ctx, tag, sk) } else { Ref::NONE };
    let is_new = ledger::count(tag, sender, sk.cast(), listens, direction, &packet);
    if direction == Direction::Rx && copies::is_copy(ctx, tag, tag.address, packet.family) {
        ledger::count_copy(tag, &packet);
    }
    if direction == Direction::Rx && packet.gso_size == 0 && is_segment(ctx, packet.family) {
        let ip_bytes = if packet.family == Family::V4 { IPV4_HEADER_BYTES } else { IPV6_HEADER_BYTES };
        ledger::count_segment(tag, &packet, ip_bytes + UDP_HEADER_BYTES);
    }
    shadow::after(ctx.as_ptr(), tag, sk, known);
    if listens && direction == Direction::Rx {
        // SAFETY: the context of the program.
        ports::note_listener(tag, unsafe { bpf_get_socket_cookie(ctx.as_ptr()) });
    }
    // Last: the verifier follows each of its branches to the end.
    if is_new {
        ports::note(tag);
    }
}

/// Whether another follows of the same super-packet: a socket that does not take those whole gets them one by one, in a
/// list (`udp_queue_rcv_skb`).
#[inline(always)]
fn is_segment(ctx: &SkBuffContext, family: Family) -> bool {
    let protocol_at = if family == Family::V4 { 9 } else { 6 };
    stats().is_some_and(|stats| stats.has_udp_segments != 0)
        && ctx.load::<u8>(protocol_at).is_ok_and(|protocol| u16::from(protocol) == IPPROTO_UDP)
        && probe_if_there::<u64>(ctx.as_ptr() as u64, &kernel::SKB_NEXT).is_some_and(|next| next != 0)
}

/// The packet's socket.
#[inline(always)]
pub(super) fn socket(ctx: &SkBuffContext) -> Option<*mut bpf_sock> {
    // SAFETY: the context is valid for the run.
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if sk.is_null() { None } else { Some(sk) }
}

#[inline(always)]
pub(super) fn packet(ctx: &SkBuffContext, hook: Hook) -> Packet {
    // SAFETY: the context is valid for the run.
    let skb = unsafe { &*ctx.skb.skb };
    let family = if skb.protocol == u32::from(ETH_P_IPV6_BE) { Family::V6 } else { Family::V4 };
    let mut packet = Packet::ordinary(hook, skb.ifindex, family, skb.len);
    packet.gso_size = skb.gso_size;
    if packet.gso_size != 0 {
        let headers = headers(ctx, family);
        packet.gso_segs = skb.gso_segs;
        packet.bytes = packet.bytes.saturating_sub(headers.jumbo_bytes);
        packet.header_bytes = headers.repeated_bytes;
        packet.jumbo_bytes = headers.jumbo_bytes;
        packet.is_udp = headers.is_udp;
    }
    packet
}

/// The headers of a super-packet.
struct Headers {
    /// IP and transport header, which each segment gets.
    repeated_bytes: u32,
    /// Hop-by-hop header that `ip6_xmit` adds to IPv6 super-packets over 64 KiB, and segmentation removes.
    jumbo_bytes: u32,
    is_udp: bool,
}

/// Super-packets are TCP or UDP, without other extension headers: the stack segments those earlier.
#[inline(always)]
fn headers(ctx: &SkBuffContext, family: Family) -> Headers {
    let byte = |at: u32| ctx.load::<u8>(at as usize).unwrap_or(0);
    let (ip_bytes, jumbo_bytes, protocol) = match family {
        Family::V4 => (u32::from(byte(0) & 0x0f) * 4, 0, byte(9)),
        Family::V6 if byte(6) == NEXTHDR_HOP => (IPV6_HEADER_BYTES, JUMBO_HEADER_BYTES, byte(IPV6_HEADER_BYTES)),
        Family::V6 => (IPV6_HEADER_BYTES, 0, byte(6)),
    };
    let is_udp = u16::from(protocol) != IPPROTO_TCP;
    let transport_bytes =
        if !is_udp { u32::from(byte(ip_bytes + jumbo_bytes + TCP_DATA_OFFSET_AT) >> 4) * 4 } else { UDP_HEADER_BYTES };
    Headers { repeated_bytes: ip_bytes + transport_bytes, jumbo_bytes, is_udp }
}
