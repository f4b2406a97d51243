//! Which events to report: one value of each kind, checked in the kernel. Other events then take no room in the ring.

use bytemuck::{Pod, Zeroable};

use crate::ports::Address;

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
    /// For packets: on this device, in any namespace.
    pub ifindex: u32,
}
