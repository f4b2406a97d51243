//! How much: counts, packets and bytes, one way or both.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub interval: u64,
    /// Since `accounting_since`.
    pub total: u64,
}

/// Both ways.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub tx: Amount,
    pub rx: Amount,
}

/// One way.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// IP bytes on the wire.
    pub bytes: u64,
    /// IP packets on the wire.
    pub packets: u64,
    /// Bytes that the program handed over or took.
    pub app_bytes: u64,
}

/// Both ways.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceBalance {
    pub tx: DirectionBalance,
    pub rx: DirectionBalance,
}

/// One way: bytes + copied + offload + pending = attributed + kernel + forwarded + upper + link headers + padding +
/// undecided + unattributed, and packets alike.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectionBalance {
    /// By the device's own counter, as rtnetlink reports it; `link_header_bytes` of its basis tells whether with link
    /// headers.
    pub bytes: u64,
    /// By the device's own counter: `packets` of its basis tells how super-packets count.
    pub packets: u64,
    /// Rows of processes, and overflow rows.
    pub attributed_bytes: u64,
    /// IP packets on the wire: a super-packet counts as its segments.
    pub attributed_packets: u64,
    /// Rows of the kernel.
    pub kernel_bytes: u64,
    /// IP packets on the wire.
    pub kernel_packets: u64,
    /// What this machine received and sent again, routed or bridged.
    #[serde(default)]
    pub forwarded_bytes: u64,
    /// IP packets on the wire.
    #[serde(default)]
    pub forwarded_packets: u64,
    /// What devices on this one have counted, as this one counts it, with link headers: of a VLAN on it, of a bridge or bond
    /// that it is part of.
    #[serde(default)]
    pub upper_bytes: u64,
    /// As this device counts them.
    #[serde(default)]
    pub upper_packets: u64,
    /// Of all these, what came around by loopback or was received by several sockets, and the device counted once or never.
    pub copied_bytes: u64,
    /// IP packets on the wire.
    pub copied_packets: u64,
    /// Of those, segments and their headers that the device did not count: it counted super-packets.
    pub offload_bytes: u64,
    /// Of each such super-packet, all segments but one.
    pub offload_packets: u64,
    /// Link headers, where the device counts them.
    pub link_header_bytes: u64,
    /// Padding that the device counted: of short frames, or before encryption.
    pub padding_bytes: u64,
    /// The difference on a device whose counting is not known; negative where the device counted less.
    pub undecided_bytes: i64,
    pub undecided_packets: i64,
    /// Of those, what the device has not counted yet: it is in a queue, or the device's counters lag.
    pub pending_bytes: u64,
    pub pending_packets: u64,
    /// The rest: no IP socket saw it. ARP, or in what the kernel keeps to itself.
    pub unattributed_bytes: u64,
    pub unattributed_packets: u64,
}

impl DirectionBalance {
    /// What the device has counted beyond what is explained; negative where it counted less.
    pub const fn rest_bytes(&self) -> i64 {
        let has = self.bytes + self.copied_bytes + self.offload_bytes;
        let held = self.attributed_bytes
            + self.kernel_bytes
            + self.forwarded_bytes
            + self.upper_bytes
            + self.link_header_bytes
            + self.padding_bytes;
        has.wrapping_sub(held).cast_signed() - self.undecided_bytes
    }

    /// The same in packets.
    pub const fn rest_packets(&self) -> i64 {
        let has = self.packets + self.copied_packets + self.offload_packets;
        let held = self.attributed_packets + self.kernel_packets + self.forwarded_packets + self.upper_packets;
        has.wrapping_sub(held).cast_signed() - self.undecided_packets
    }

    /// Counts the rest as unattributed, or as pending if it is negative.
    pub fn settle(&mut self) {
        let split = |rest: i64| (rest.max(0).unsigned_abs(), rest.min(0).unsigned_abs());
        (self.unattributed_bytes, self.pending_bytes) = split(self.rest_bytes());
        (self.unattributed_packets, self.pending_packets) = split(self.rest_packets());
    }
}

/// What was forwarded, as it is on the wire.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardedAmount {
    /// IP bytes.
    pub bytes: u64,
    pub packets: u64,
}

/// An interval's drops and all.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default)]
pub struct DropAmounts {
    pub interval: DropAmount,
    pub total: DropAmount,
}

/// Dropped packets, a super-packet counting once, and their bytes as the kernel had them at that place.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DropAmount {
    pub packets: u64,
    /// Null where only packets are known.
    pub bytes: Option<u64>,
}
