//! Which events are told, where the kernel can choose: one value of each kind. Others' events then take no room in the ring.

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
    /// 1 if only events of `uid` are told.
    pub has_uid: u16,
    pub uid: u32,
}
