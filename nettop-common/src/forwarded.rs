//! What was received and sent again, routed or bridged, for each pair of devices.

use bytemuck::{Pod, Zeroable};

use crate::Netns;

/// Most pairs that are counted at a time.
pub const MAX_PAIRS: u32 = 4096;

/// Key of the table.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct PairKey {
    pub netns: Netns,
    /// The topmost device that received it; 0 for frames to many, of which there may be several copies.
    pub received_on: u32,
    pub sent_on: u32,
    /// [`crate::Family`].
    pub family: u32,
}

/// Traffic of a pair as the device that sent it got it. Counters only grow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct Forwarded {
    /// Packets, a super-packet counting once, and their IP bytes.
    pub skbs: u64,
    pub skb_bytes: u64,
    /// Extra packets that the super-packets become on a wire, and the headers that segmentation repeats.
    pub gso_packets: u64,
    pub gso_bytes: u64,
    /// Of those, in super-packets that the receiving device made.
    pub merged_packets: u64,
    pub merged_bytes: u64,
    /// Headers of super-packets that no segment has; not in `skb_bytes`.
    pub jumbo_bytes: u64,
    /// Bytes that Ethernet adds to packets that are too short.
    pub padding_bytes: u64,
    /// Ordinary packets, which the stack may have made of super-packets: of TCP and of UDP.
    pub ordinary: [u64; 2],
}

/// Value of the table.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct Pair {
    pub traffic: Forwarded,
    /// The limit it counts against, an index of [`crate::share`].
    pub share: u32,
    pub padding: u32,
}

impl Forwarded {
    /// What was counted since.
    #[must_use]
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            skbs: self.skbs.saturating_sub(before.skbs),
            skb_bytes: self.skb_bytes.saturating_sub(before.skb_bytes),
            gso_packets: self.gso_packets.saturating_sub(before.gso_packets),
            gso_bytes: self.gso_bytes.saturating_sub(before.gso_bytes),
            merged_packets: self.merged_packets.saturating_sub(before.merged_packets),
            merged_bytes: self.merged_bytes.saturating_sub(before.merged_bytes),
            jumbo_bytes: self.jumbo_bytes.saturating_sub(before.jumbo_bytes),
            padding_bytes: self.padding_bytes.saturating_sub(before.padding_bytes),
            ordinary: [
                self.ordinary[0].saturating_sub(before.ordinary[0]),
                self.ordinary[1].saturating_sub(before.ordinary[1]),
            ],
        }
    }

    /// Adds what another holds.
    pub const fn add(&mut self, more: &Self) {
        self.skbs += more.skbs;
        self.skb_bytes += more.skb_bytes;
        self.gso_packets += more.gso_packets;
        self.gso_bytes += more.gso_bytes;
        self.merged_packets += more.merged_packets;
        self.merged_bytes += more.merged_bytes;
        self.jumbo_bytes += more.jumbo_bytes;
        self.padding_bytes += more.padding_bytes;
        self.ordinary[0] += more.ordinary[0];
        self.ordinary[1] += more.ordinary[1];
    }
}
