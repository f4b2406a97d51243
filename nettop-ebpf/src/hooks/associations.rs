//! UDP has no connections, but it has conversations. The first datagram between a socket and a peer is reported. All
//! are counted until the daemon has seen enough silence.

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_get_socket_cookie, macros::cgroup_skb, programs::SkBuffContext,
};
use nettop_common::{
    Association, AssociationKey, ConnectionEvent, Direction, Family, SocketTag,
    abi::{AF_INET, AF_INET6, BPF_NOEXIST, CGROUP_PASS, IPPROTO_UDP},
    connection::kind,
    log::Hook,
};

use super::{
    headers::{Headers, word},
    packet::{packet, socket},
};
use crate::{
    atomic::add,
    clock::boot_ns,
    events::{emit, is_wanted},
    ledger::Packet,
    maps::{ASSOCIATIONS, count},
    owners,
    storage::SOCKETS,
};

/// After `packet_tx`, which makes the tag.
#[cgroup_skb]
pub fn association_tx(ctx: SkBuffContext) -> i32 {
    note(&ctx, Direction::Tx);
    CGROUP_PASS
}

#[cgroup_skb]
pub fn association_rx(ctx: SkBuffContext) -> i32 {
    note(&ctx, Direction::Rx);
    CGROUP_PASS
}

#[inline(always)]
fn note(ctx: &SkBuffContext, direction: Direction) {
    let Some(sk) = socket(ctx) else { return };
    let hook = if direction == Direction::Tx { Hook::AssociationTx } else { Hook::AssociationRx };
    let Some(tag) = SOCKETS.tag_if_full(sk, hook) else { return };
    let packet = packet(ctx, hook);
    let headers = Headers::parse(&|at| word(ctx, at), packet.family);
    if headers.protocol != IPPROTO_UDP {
        return;
    }
    // SAFETY: the context of the program.
    let socket = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let last_ns = boot_ns();
    let (local_port, remote, remote_port) = match direction {
        Direction::Tx => (headers.source_port, headers.destination, headers.destination_port),
        Direction::Rx => (headers.destination_port, headers.source, headers.source_port),
    };
    let key = AssociationKey { socket, remote, remote_port, local_port, reserved: 0 };
    let known = ASSOCIATIONS.get_ptr_mut(key).or_else(|| begin(&key, &headers, tag, direction, &packet, last_ns));
    if let Some(known) = known {
        // SAFETY: an entry stays readable and writable while the program runs.
        let known = unsafe { &mut *known };
        known.last_ns = last_ns;
        add(&raw mut known.packets[direction as usize], 1);
        add(&raw mut known.bytes[direction as usize], u64::from(packet.bytes));
    }
}

#[inline(always)]
fn begin(
    key: &AssociationKey,
    headers: &Headers,
    tag: &SocketTag,
    direction: Direction,
    packet: &Packet,
    time_ns: u64,
) -> Option<*mut Association> {
    let owner = owners::get(tag.owner);
    let key_of_owner = owner.as_deref().map(|owner| &owner.key);
    if !is_wanted(key_of_owner, [&headers.source, &headers.destination], [key.local_port, key.remote_port]) {
        return None;
    }
    let mut association: Association = bytemuck::Zeroable::zeroed();
    let first = &mut association.first;
    (first.time_ns, first.begun_ns, first.netns) = (time_ns, time_ns, tag.netns);
    first.protocol = IPPROTO_UDP as u8;
    first.family = match packet.family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    };
    first.local = match direction {
        Direction::Tx => headers.source,
        Direction::Rx => headers.destination,
    };
    first.kind = match direction {
        Direction::Tx => kind::SENT,
        Direction::Rx => kind::RECEIVED,
    };
    first.remote = key.remote;
    first.ifindex = packet.ifindex;
    (first.local_port, first.remote_port) = (key.local_port, key.remote_port);
    if let Some(owner) = owner {
        (first.owner, first.comm) = (owner.key, owner.comm);
    }
    match ASSOCIATIONS.insert(key, association, BPF_NOEXIST) {
        Ok(()) => emit(|event: &mut ConnectionEvent| *event = association.first),
        // Another CPU was first, or there is no room.
        Err(_) if ASSOCIATIONS.get_ptr_mut(key).is_none() => count(|stats| &raw mut stats.associations_full),
        Err(_) => {}
    }
    ASSOCIATIONS.get_ptr_mut(key)
}
