//! Packets and bytes of each socket, for a listing that watches for a while. Separate programs: the ledger's pay
//! nothing for them.

use aya_ebpf::{
    EbpfContext as _,
    macros::{cgroup_skb, cgroup_sock},
    programs::{SkBuffContext, SockContext},
};
use nettop_common::{
    Direction, Wire,
    abi::{CGROUP_PASS, TCP_LISTEN},
    log::Hook,
};

use super::{
    copies,
    packet::{packet, socket},
};
use crate::{atomic::add, clock::boot_ns, storage::METERS};

/// A program makes a socket. Accepted connections do not come here: see `SocketMeter`.
#[cgroup_sock(sock_create)]
pub fn meter_create(ctx: SockContext) -> i32 {
    let sk = ctx.as_ptr();
    if let Some(meter) = METERS.tag(sk, Hook::MeterCreate) {
        meter.socket = sk as u64;
        meter.created_ns = boot_ns();
    }
    CGROUP_PASS
}

#[cgroup_skb]
pub fn meter_tx(ctx: SkBuffContext) -> i32 {
    count(&ctx, Direction::Tx);
    CGROUP_PASS
}

#[cgroup_skb]
pub fn meter_rx(ctx: SkBuffContext) -> i32 {
    count(&ctx, Direction::Rx);
    CGROUP_PASS
}

#[inline(always)]
fn count(ctx: &SkBuffContext, direction: Direction) {
    let Some(sk) = socket(ctx) else { return };
    let hook = if direction == Direction::Tx { Hook::MeterTx } else { Hook::MeterRx };
    let Some(meter) = METERS.tag_if_full(sk, hook) else { return };
    let packet = packet(ctx, hook);
    // SAFETY: a checked bpf_sock; the verifier rewrites the load. Only TCP has the state.
    let moved = if unsafe { (*sk).state } == TCP_LISTEN.into() {
        meter.socket = sk as u64;
        meter.asked_ns = boot_ns();
        if direction == Direction::Rx {
            copies::note_listener_packet(ctx, packet.family);
        }
        &mut meter.listening[direction as usize]
    } else if direction == Direction::Rx && copies::passes_again(ctx, packet.family) {
        return;
    } else {
        &mut meter.moved[direction as usize]
    };
    add_wire(moved, packet.wire());
}

#[inline(always)]
fn add_wire(moved: &mut Wire, wire: Wire) {
    add(&raw mut moved.packets, wire.packets);
    add(&raw mut moved.bytes, wire.bytes);
}
