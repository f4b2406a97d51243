//! Wire packets: `cgroup_skb` on the root cgroup2, `__cgroup_bpf_run_filter_skb`. Both ways know their socket,
//! every network namespace passes here, and the context is stable UAPI. Every path returns 1: never drop.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock,
    helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use nettop_common::{Direction, Family, Ref, SocketTag, tag::evidence};

use crate::{
    hooks::copies,
    kernel::{self, load},
    ledger::{self, Packet},
    maps::SOCKETS,
    numbers::{IPPROTO_TCP, TCP_LISTEN},
    owners, ports, shadow,
    task::User,
};

/// What every program of these hooks returns.
pub(super) const PASS: i32 = 1;
const ETH_P_IPV6_BE: u32 = 0x86dd_u16.to_be() as u32;

#[cgroup_skb]
pub fn packet_tx(ctx: SkBuffContext) -> i32 {
    count(&ctx, Direction::Tx);
    PASS
}

#[cgroup_skb]
pub fn packet_rx(ctx: SkBuffContext) -> i32 {
    count(&ctx, Direction::Rx);
    PASS
}

#[inline(always)]
fn count(ctx: &SkBuffContext, way: Direction) {
    // SAFETY: the context is valid for the run.
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return;
    }
    let Some(tag) = SOCKETS.tag_if_full(sk) else { return };
    shadow::before(ctx.as_ptr(), tag);
    if way == Direction::Tx {
        claim_for_sender(tag, sk);
    }
    // SAFETY: a checked bpf_sock; the verifier rewrites the load. Only TCP has the state.
    let listens = unsafe { (*sk).state } == u32::from(TCP_LISTEN);
    let packet = packet(ctx);
    let is_new = ledger::count(tag, sk.cast(), listens, way, &packet);
    if way == Direction::Rx && copies::is_copy(ctx, tag, tag.address, packet.family) {
        ledger::count_copy(tag.netns, &packet);
    }
    shadow::after(ctx.as_ptr(), tag, sk);
    if listens && way == Direction::Rx {
        // SAFETY: the context of the program.
        ports::note_listener(tag, unsafe { bpf_get_socket_cookie(ctx.as_ptr()) });
    }
    // Last, since the verifier follows each of its branches to the end.
    if is_new {
        ports::note(tag);
    }
}

/// A process that sends through another's socket owns it from this packet on, and not only from when its
/// call returns. Sound only where `current` is the sender: UDP, raw and ping sockets transmit in the
/// caller's context alone, and a TCP socket whose lock a process owns is not served by softirq
/// (`tcp_v4_rcv`, `tcp_write_timer`, `tcp_tasklet_func` all defer).
#[inline(always)]
fn claim_for_sender(tag: &mut SocketTag, sk: *mut bpf_sock) {
    if tag.owner == Ref::NONE {
        return;
    }
    let user = User::current();
    let owner = owners::get(tag.owner);
    // The kernel's own sockets send from any context.
    let stays = owner.is_some_and(|owner| owner.is_kernel_thread != 0 || user.is(owner));
    if !stays && !user.task.is_kernel_thread() && sends_for_process(sk) {
        ledger::give(tag, user.task, evidence::USER);
    }
}

#[inline(always)]
fn sends_for_process(sk: *mut bpf_sock) -> bool {
    // SAFETY: a checked bpf_sock; the helper answers null for what is not TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast()) };
    tcp.is_null() || load::<u32>(tcp.cast::<c_void>(), &kernel::SOCK_LOCK_OWNED) != 0
}

#[inline(always)]
pub(super) fn packet(ctx: &SkBuffContext) -> Packet {
    // SAFETY: the context is valid for the run.
    let skb = unsafe { &*ctx.skb.skb };
    let family = if skb.protocol == ETH_P_IPV6_BE { Family::V6 } else { Family::V4 };
    let mut packet = Packet { ifindex: skb.ifindex, family, bytes: skb.len, gso_size: skb.gso_size, header_bytes: 0 };
    if packet.gso_size != 0 {
        let headers = headers(ctx, family);
        packet.bytes = packet.bytes.saturating_sub(headers.jumbo_bytes);
        packet.header_bytes = headers.repeated_bytes;
    }
    packet
}

/// The headers of a super-packet.
struct Headers {
    /// IP and transport header, which each segment gets.
    repeated_bytes: u32,
    /// Hop-by-hop header that `ip6_xmit` puts into IPv6 super-packets over 64 KiB, and segmentation takes out.
    jumbo_bytes: u32,
}

/// Super-packets are TCP or UDP, and have no other extension headers: the stack segments those before.
#[inline(always)]
fn headers(ctx: &SkBuffContext, family: Family) -> Headers {
    const IPV6_HEADER: u32 = 40;
    const HOP_BY_HOP: u8 = 0;
    const JUMBO_HEADER: u32 = 8;
    const UDP_HEADER: u32 = 8;
    const TCP_DATA_OFFSET: u32 = 12;
    let byte = |at: u32| ctx.load::<u8>(at as usize).unwrap_or(0);
    let (ip_bytes, jumbo_bytes, protocol) = match family {
        Family::V4 => (u32::from(byte(0) & 0x0f) * 4, 0, byte(9)),
        Family::V6 if byte(6) == HOP_BY_HOP => (IPV6_HEADER, JUMBO_HEADER, byte(IPV6_HEADER)),
        Family::V6 => (IPV6_HEADER, 0, byte(6)),
    };
    let transport_bytes = if u16::from(protocol) == IPPROTO_TCP {
        u32::from(byte(ip_bytes + jumbo_bytes + TCP_DATA_OFFSET) >> 4) * 4
    } else {
        UDP_HEADER
    };
    Headers { repeated_bytes: ip_bytes + transport_bytes, jumbo_bytes }
}
