//! Packets as rows and a device count them, for tests.

use nettop_common::{Direction, Family, Flow, Forwarded};
use nettop_kernel::ledger::{DeviceReading, Flows};
use proptest::prelude::*;

use crate::identity::devices::{Basis, Counts, Padding, Whole};

/// What the stack hands over, or gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) family: usize,
    /// 1: no super-packet.
    pub(super) segments: u64,
    pub(super) segment_bytes: u64,
    pub(super) is_udp: bool,
    pub(super) is_large: bool,
    /// Received, and made by the device.
    pub(super) is_merged: bool,
}

pub(super) fn buffer() -> impl Strategy<Value = Buffer> {
    (0..2_usize, prop_oneof![Just(1_u64), 2..60_u64], 1..1400_u64, any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(family, segments, segment_bytes, is_udp, is_large, is_merged)| Buffer {
            family,
            segments,
            segment_bytes,
            is_udp,
            is_large: is_large && segments > 1,
            is_merged,
        })
}

impl Buffer {
    const fn header_bytes(&self) -> u64 {
        let ip = if self.family == Family::V4 as usize { 20 } else { 40 };
        ip + if self.is_udp { 8 } else { 32 }
    }

    /// Of the super-packet, without a jumbo header.
    pub(super) const fn bytes(&self) -> u64 {
        self.segments * self.segment_bytes + self.header_bytes()
    }

    pub(super) const fn jumbo_bytes(&self) -> u64 {
        if self.is_large && self.family == Family::V6 as usize { 8 } else { 0 }
    }

    const fn padding_bytes(&self) -> u64 {
        if self.segments == 1 { 46_u64.saturating_sub(self.bytes()) } else { 0 }
    }

    const fn flow(&self, times: u64) -> Flow {
        Flow {
            skbs: times,
            skb_bytes: times * self.bytes(),
            gso_packets: times * (self.segments - 1),
            gso_bytes: times * (self.segments - 1) * self.header_bytes(),
            app_bytes: 0,
            padding_bytes: times * self.padding_bytes(),
        }
    }

    /// As ledger.rs of the kernel's side counts it.
    pub(super) fn count(&self, rows: &mut DeviceReading, direction: Direction) {
        self.count_times(1, rows, direction);
    }

    /// So many of them.
    pub(super) fn count_times(&self, times: u64, rows: &mut DeviceReading, direction: Direction) {
        let add = |flows: &mut Flows, app_bytes: u64| {
            let mut more = Flows::default();
            more[direction as usize] = Flow { app_bytes: times * app_bytes, ..self.flow(times) };
            nettop_kernel::ledger::accumulate(flows, &more);
        };
        add(&mut rows.processes, self.segments * self.segment_bytes);
        let kinds = &mut rows.super_packets[self.family];
        add(&mut kinds.all, 0);
        if self.segments == 1 {
            return;
        }
        match direction {
            Direction::Tx if self.is_large => add(&mut kinds.large, self.jumbo_bytes()),
            Direction::Tx if self.is_udp => add(&mut kinds.udp, 0),
            Direction::Rx if self.is_merged => add(&mut kinds.merged, 0),
            Direction::Rx if self.jumbo_bytes() > 0 => add(&mut kinds.large, self.jumbo_bytes()),
            Direction::Tx | Direction::Rx => {}
        }
    }

    /// As the kernel's side counts it where a device sends it that takes some whole, and as the device that received it.
    pub(super) fn forward(&self, rows: &mut DeviceReading, whole: &Whole) {
        let once = Basis::new(Counts::Once, 0);
        let flow = self.flow(1);
        let mut more = Forwarded { skbs: 1, skb_bytes: flow.skb_bytes, ..Forwarded::default() };
        if !self.is_counted_once(Counts::Once, &once, whole, Direction::Tx) {
            (more.skbs, more.skb_bytes) = (self.segments, flow.skb_bytes + flow.gso_bytes);
            // Those of `device` are not padded.
            more.ordinary[usize::from(self.is_udp)] = self.segments;
            rows.forwarded_cut += self.segments;
        } else if self.segments > 1 {
            (more.gso_packets, more.gso_bytes) = (flow.gso_packets, flow.gso_bytes);
            if self.is_merged {
                (more.merged_packets, more.merged_bytes) = (flow.gso_packets, flow.gso_bytes);
            } else {
                more.jumbo_bytes = self.jumbo_bytes();
            }
        } else {
            more.padding_bytes = self.padding_bytes();
        }
        rows.forwarded[self.family].iter_mut().for_each(|direction| direction.add(&more));
    }

    /// Whether the device counts it once.
    fn is_counted_once(&self, counts: Counts, basis: &Basis, whole: &Whole, direction: Direction) -> bool {
        match (counts, direction) {
            _ if self.segments == 1 => true,
            (Counts::Segments, _) => false,
            (_, Direction::Tx) if self.is_large => whole.large[self.family],
            (_, Direction::Tx) if self.is_udp => whole.udp,
            (_, Direction::Tx) => whole.tcp[self.family],
            (_, Direction::Rx) => basis.packets == Counts::Buffers || self.is_merged,
        }
    }

    /// Packets and bytes that the device counts.
    pub(super) fn device(&self, basis: &Basis, whole: &Whole, direction: Direction) -> (u64, u64) {
        let link_header = u64::from(basis.link_header_bytes);
        let padding = if basis.padding == Padding::Always { self.padding_bytes() } else { 0 };
        let is_once = |counts| self.is_counted_once(counts, basis, whole, direction);
        let packets = if is_once(basis.packets) { 1 } else { self.segments };
        if is_once(basis.bytes) {
            // A jumbo header is in the one buffer; what the device merged itself has none.
            let jumbo = if self.segments > 1 && !(direction == Direction::Rx && self.is_merged) {
                self.jumbo_bytes()
            } else {
                0
            };
            return (packets, self.bytes() + jumbo + link_header + padding);
        }
        let frame = self.segment_bytes + self.header_bytes() + link_header;
        (packets, self.segments * frame + padding)
    }
}
