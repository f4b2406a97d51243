//! Received packets that a device counted once, or never, and that several sockets received: multicast and broadcast
//! (`__udp4_lib_mcast_deliver` hands out clones; what this machine sent itself comes around by `dev_loopback_xmit`),
//! raw and ping sockets. Each receiver's row counts them; the device's books need to know.

use aya_ebpf::programs::SkBuffContext;
use nettop_common::{
    Family, SocketTag,
    tag::{COPIES, SHARES},
};

use crate::maps::LAST_SHARED;

/// linux/if_packet.h.
const PACKET_BROADCAST: u32 = 1;
const PACKET_MULTICAST: u32 = 2;
const PACKET_LOOPBACK: u32 = 5;

/// The last packet of this CPU that several sockets may receive: they do so one after the other, in one softirq.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Shared {
    content: u64,
    first_sk: u64,
}

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

/// Whether another socket has just received the same packet. One that receives it again has another of the same content.
#[inline(always)]
fn was_received_before(ctx: &SkBuffContext, sk: u64, family: Family) -> bool {
    let word = |at: usize| ctx.load::<u64>(at).unwrap_or(0);
    // Length, identification; addresses; ports and checksum.
    let content = match family {
        Family::V4 => word(0) ^ word(12).rotate_left(16) ^ word(20).rotate_left(32),
        Family::V6 => word(0) ^ word(16).rotate_left(16) ^ word(32).rotate_left(32) ^ word(40).rotate_left(48),
    };
    let Some(last) = LAST_SHARED.get_ptr_mut(0) else { return false };
    // SAFETY: the element is this CPU's own, and receiving is not preempted by receiving.
    let last = unsafe { &mut *last };
    if last.content == content && last.first_sk != sk {
        return true;
    }
    *last = Shared { content, first_sk: sk };
    false
}
