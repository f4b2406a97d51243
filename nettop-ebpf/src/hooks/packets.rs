//! Packets, one event each. Sent packets at the device (`xmit_one`), which sees the kernel's own answers too and is
//! where packet sockets listen. Received packets when their socket is known, or when the kernel finds none.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    macros::{btf_tracepoint, cgroup_skb},
    maps::ring_buf::RingBufEntry,
    programs::{BtfTracePointContext, SkBuffContext},
};
use bytemuck::Zeroable as _;
use nettop_common::{
    Direction, Family, Netns, PacketEvent, Ref,
    abi::{
        CGROUP_PASS, ETH_P_IP_BE, ETH_P_IPV6_BE, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, TCP_LISTEN,
        TCP_NEW_SYN_RECV,
    },
    log::Hook,
    owner::KERNEL as KERNEL_SLOT,
    packet::unowned::{KERNEL, NOBODY},
    tag::attribution,
};

use super::{
    copies,
    drops::is_full,
    headers::{Headers, word},
    packet::{packet, socket},
};
use crate::{
    clock::boot_ns,
    events::{is_wanted, is_wanted_device},
    kernel::{self, load, probe, probe_at},
    ledger::Packet,
    maps::{EVENTS, count},
    owners, ports,
    storage::SOCKETS,
};

/// Whether packets are reported: the socketless hook is in use anyway.
#[unsafe(no_mangle)]
static EMIT_PACKETS: Global<u32> = Global::new(0);

/// Where a packet is, and its size.
struct Place {
    netns: Netns,
    ifindex: u32,
    direction: Direction,
    family: Family,
    bytes: u32,
    segments: u16,
    /// What is reported if no process owns it, see `unowned`.
    otherwise: u8,
}

/// Runs after `packet_rx`, which makes the tag. If several sockets receive a packet, the first is reported.
#[cgroup_skb]
pub fn packet_received(ctx: SkBuffContext) -> i32 {
    received(&ctx);
    CGROUP_PASS
}

#[inline(always)]
fn received(ctx: &SkBuffContext) {
    let Some(sk) = socket(ctx) else { return };
    let Some(tag) = SOCKETS.tag_if_full(sk, Hook::PacketReceived) else { return };
    let packet = packet(ctx, Hook::PacketReceived);
    let Packet { ifindex, family, bytes, .. } = packet;
    let segments = packet.wire().packets as u16;
    // SAFETY: a checked bpf_sock; the verifier rewrites the load.
    let listens = unsafe { (*sk).state } == u32::from(TCP_LISTEN);
    // As in `packet.rs`.
    if ifindex == 0 || copies::is_copy(ctx, tag, tag.address, family) || !listens && copies::passes_again(ctx, family) {
        return;
    }
    let place =
        Place { netns: tag.netns, ifindex, direction: Direction::Rx, family, bytes, segments, otherwise: KERNEL };
    emit(&place, &Headers::parse(&|at| word(ctx, at), family), tag.owner, tag.attribution);
}

/// A received packet without a socket, whose IP header is at this address.
#[inline(always)]
pub fn unclaimed(network: u64, netns: Netns, packet: &Packet) {
    if EMIT_PACKETS.load() == 0 {
        return;
    }
    let Packet { ifindex, family, bytes, .. } = *packet;
    let segments = packet.wire().packets as u16;
    let place = Place { netns, ifindex, direction: Direction::Rx, family, bytes, segments, otherwise: KERNEL };
    let headers = headers_at(network, family);
    // What raw sockets had was already reported.
    if matches!(headers.protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_UDPLITE) {
        emit(&place, &headers, Ref::NONE, 0);
    }
}

/// `xmit_one`, after queueing and segmentation.
#[btf_tracepoint(function = "net_dev_start_xmit")]
pub fn packet_sent(ctx: BtfTracePointContext) -> i32 {
    let (skb, device): (*const c_void, *const c_void) = (ctx.arg(0), ctx.arg(1));
    let family = match load::<u16>(skb, &kernel::SKB_PROTOCOL) {
        ETH_P_IP_BE => Family::V4,
        ETH_P_IPV6_BE => Family::V6,
        _ => return 0,
    };
    // Read as numbers: arithmetic on the buffer's typed pointers is not allowed.
    let head: u64 = probe(skb as u64, &kernel::SKB_HEAD);
    let network = head + u64::from(load::<u16>(skb, &kernel::SKB_NETWORK_HEADER));
    let link_bytes = network.wrapping_sub(probe::<u64>(skb as u64, &kernel::SKB_DATA)) as u32;
    let shared_info = head + u64::from(load::<u32>(skb, &kernel::SKB_END));
    let place = Place {
        netns: kernel::netns(probe(device as u64, &kernel::DEVICE_NET)),
        ifindex: probe(device as u64, &kernel::DEVICE_IFINDEX),
        direction: Direction::Tx,
        family,
        bytes: load::<u32>(skb, &kernel::SKB_LEN).wrapping_sub(link_bytes),
        segments: probe(shared_info, &kernel::SHINFO_GSO_SEGMENTS),
        // A received packet is only passed on.
        otherwise: if load::<u32>(skb, &kernel::SKB_IIF) == 0 { KERNEL } else { NOBODY },
    };
    let sk: *const c_void = load(skb, &kernel::SKB_SK);
    let headers = headers_at(network, family);
    let state: u8 = if sk.is_null() { 0 } else { probe(sk as u64, &kernel::SOCK_STATE) };
    // `frame_sent` runs before this, and has set the owner of a packet socket.
    let (owner, attribution) = if is_full(sk, state) {
        SOCKETS.find(sk.cast_mut()).map_or((Ref::NONE, 0), |tag| (tag.owner, tag.attribution))
    } else if state == TCP_NEW_SYN_RECV {
        // The answer to a SYN, from a request that has no storage.
        let listener = ports::owner_of_listener(probe(sk as u64, &kernel::SOCK_LISTENER));
        (listener.unwrap_or(Ref::NONE), attribution::LISTENER)
    } else {
        (Ref::NONE, 0)
    };
    emit(&place, &headers, owner, attribution);
    0
}

#[inline(always)]
fn headers_at(network: u64, family: Family) -> Headers {
    Headers::parse(&|at| probe_at(network + at as u64), family)
}

#[inline(always)]
fn emit(place: &Place, headers: &Headers, whose: Ref, attribution: u32) {
    if !is_wanted_device(place.ifindex) {
        return;
    }
    // The kernel has no pid, and no filter names it.
    let owner = owners::get(whose).filter(|owner| owner.key.tgid != 0);
    let key = owner.as_deref().map(|owner| &owner.key);
    let ports = [headers.source_port, headers.destination_port];
    if !is_wanted(key, [&headers.source, &headers.destination], ports) {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<PacketEvent>(0) else {
        return count(|stats| &raw mut stats.events_lost);
    };
    let event = entry.write(PacketEvent::zeroed());
    event.time_ns = boot_ns();
    (event.netns, event.ifindex, event.bytes) = (place.netns, place.ifindex, place.bytes);
    (event.segments, event.direction, event.family) =
        (place.segments.max(1), place.direction as u8, place.family as u8);
    (event.source, event.destination) = (headers.source, headers.destination);
    (event.source_port, event.destination_port) = (headers.source_port, headers.destination_port);
    (event.protocol, event.tcp_flags) = (headers.protocol as u8, headers.tcp_flags);
    event.attribution = match owner {
        Some(_) => attribution as u8,
        // Its process has been forgotten.
        None if whose.slot() != KERNEL_SLOT => NOBODY,
        None => place.otherwise,
    };
    if let Some(owner) = owner {
        (event.owner, event.comm) = (owner.key, owner.comm);
    }
    RingBufEntry::submit(entry, 0);
}
