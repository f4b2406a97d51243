//! The table of forwarded traffic, and how a packet is added to its pair of devices.

use nettop_common::{
    Pair, PairKey,
    abi::{BPF_NOEXIST, IPPROTO_TCP, IPPROTO_UDP, MIN_ETHERNET_PAYLOAD_BYTES},
    forwarded::MAX_PAIRS,
};

use crate::{
    atomic::add,
    ledger::Packet,
    maps::{FORWARDED, count},
    shares,
};

/// Adds a packet to its pair, which is made if there is room. `net` is the namespace's `struct net`.
#[inline(always)]
pub fn add_to(key: &PairKey, net: u64, packet: &Packet, is_merged: bool, protocol: u8) {
    if FORWARDED.get_ptr_mut(key).is_none() {
        let share = shares::of_namespace(key.netns, net);
        let pair = Pair { share, ..Pair::default() };
        shares::insert(
            || FORWARDED.insert(key, pair, BPF_NOEXIST),
            share,
            MAX_PAIRS,
            |stats| &mut stats.pairs_in_use,
            |share| &mut share.pairs,
        );
    }
    let Some(pair) = FORWARDED.get_ptr_mut(key) else {
        return count(|stats| &raw mut stats.forwarded_full);
    };
    // SAFETY: the daemon takes out only pairs that are quiet and whose device is gone.
    let sum = unsafe { &mut (*pair).traffic };
    add(&raw mut sum.skbs, 1);
    add(&raw mut sum.skb_bytes, u64::from(packet.bytes));
    if packet.bytes < MIN_ETHERNET_PAYLOAD_BYTES {
        add(&raw mut sum.padding_bytes, u64::from(MIN_ETHERNET_PAYLOAD_BYTES - packet.bytes));
    }
    if packet.gso_size == 0 {
        match u16::from(protocol) {
            IPPROTO_TCP => add(&raw mut sum.ordinary[0], 1),
            IPPROTO_UDP => add(&raw mut sum.ordinary[1], 1),
            _ => {}
        }
        return;
    }
    let wire = packet.wire();
    let (packets, bytes) = (wire.packets - 1, wire.bytes - u64::from(packet.bytes));
    add(&raw mut sum.gso_packets, packets);
    add(&raw mut sum.gso_bytes, bytes);
    add(&raw mut sum.jumbo_bytes, u64::from(packet.jumbo_bytes));
    if is_merged {
        add(&raw mut sum.merged_packets, packets);
        add(&raw mut sum.merged_bytes, bytes);
    }
}
