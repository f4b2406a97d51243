//! Super-packets that a device counts once: what they are as segments is more.

use nettop_common::{Direction, Flow};
use nettop_kernel::ledger::{DeviceReading, Flows, SuperPackets};

use crate::identity::devices::{Basis, Counts, Whole};

/// What segments are more than super-packets that the device counts once.
#[derive(Clone, Copy, Default)]
pub(super) struct Uncounted {
    pub(super) packets: i64,
    /// Their headers, without jumbo headers: those are in the super-packet, and in no segment.
    pub(super) bytes: i64,
}

impl Uncounted {
    /// Adds super-packets of some kind; of [`owner::LARGE`](nettop_common::owner::LARGE), `app_bytes` are of jumbo headers.
    const fn add(&mut self, flow: &Flow) {
        self.packets += flow.gso_packets.cast_signed();
        self.bytes += flow.gso_bytes.cast_signed();
    }

    const fn remove(&mut self, flow: &Flow) {
        self.packets -= flow.gso_packets.cast_signed();
        self.bytes -= flow.gso_bytes.cast_signed();
    }
}

/// The same of a device on this basis, if that counts super-packets once.
pub(super) fn uncounted(basis: &Basis, whole: &Whole, rows: &DeviceReading, direction: Direction) -> Uncounted {
    let mut sum = Uncounted::default();
    for (family, kinds) in rows.super_packets.iter().enumerate() {
        match direction {
            Direction::Tx => sent_whole(kinds, whole, family, &mut sum),
            Direction::Rx => received(kinds, basis, &mut sum),
        }
    }
    if direction == Direction::Rx && has_all_once(basis) {
        sum.remove(&rows.copies[Direction::Rx as usize]);
    }
    forwarded(basis, whole, rows, direction, &mut sum);
    sum
}

/// Whether it may count every super-packet once.
const fn has_all_once(basis: &Basis) -> bool {
    matches!(basis.packets, Counts::Buffers | Counts::Either)
}

/// What segmentation in the device adds.
fn sent_whole(kinds: &SuperPackets, whole: &Whole, family: usize, sum: &mut Uncounted) {
    let of = |flows: &Flows| flows[Direction::Tx as usize];
    let (all, udp, large) = (of(&kinds.all), of(&kinds.udp), of(&kinds.large));
    if whole.tcp[family] {
        sum.add(&all);
        sum.remove(&udp);
        sum.remove(&large);
    }
    if whole.udp {
        sum.add(&udp);
    }
    if whole.large[family] {
        sum.add(&large);
        sum.bytes -= large.app_bytes.cast_signed();
    }
}

/// What was merged before the device counted.
fn received(kinds: &SuperPackets, basis: &Basis, sum: &mut Uncounted) {
    let of = |flows: &Flows| flows[Direction::Rx as usize];
    match basis.packets {
        Counts::Segments | Counts::Once => sum.add(&of(&kinds.merged)),
        Counts::Buffers | Counts::Either => {
            sum.add(&of(&kinds.all));
            sum.add(&of(&kinds.udp));
            sum.bytes -= of(&kinds.large).app_bytes.cast_signed();
        }
    }
}

/// Of forwarded traffic: as the device got it to send, or, received, as the next one did.
fn forwarded(basis: &Basis, whole: &Whole, rows: &DeviceReading, direction: Direction, sum: &mut Uncounted) {
    for (family, forwarded) in rows.forwarded.iter().enumerate() {
        let forwarded = &forwarded[direction as usize];
        // A bond's parts segment what it got whole.
        let is_segmented = direction == Direction::Tx && !whole.tcp[family] && !whole.udp;
        if direction == Direction::Rx && !has_all_once(basis) {
            sum.packets += forwarded.merged_packets.cast_signed();
            sum.bytes += forwarded.merged_bytes.cast_signed();
        } else if !is_segmented {
            sum.packets += forwarded.gso_packets.cast_signed();
            sum.bytes += forwarded.gso_bytes.cast_signed() - forwarded.jumbo_bytes.cast_signed();
        }
    }
}
