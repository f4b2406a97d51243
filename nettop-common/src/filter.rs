//! Which events to report, checked in the kernel: one value of each kind, and some devices. Other events then take no room in the ring.

use bytemuck::{Pod, Zeroable};

use crate::ports::Address;

/// Devices that the kernel selects by; the daemon selects among more.
pub const MAX_DEVICES: usize = 4;

/// Zero: any.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct EventFilter {
    /// At one of the two ends.
    pub host: Address,
    pub tgid: u32,
    /// At one of the two ends.
    pub port: u16,
    /// 1 to report only events of `uid`.
    pub has_uid: u16,
    pub uid: u32,
    /// For packets: on one of these devices, in any namespace. Zeros are at the end.
    pub ifindexes: [u32; MAX_DEVICES],
}
