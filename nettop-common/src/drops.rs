//! Packets that the kernel freed as dropped, added up by what is known of them.

use bytemuck::{Pod, Zeroable};

use crate::{Netns, Ref};

/// How a dropped packet's owner was found.
pub mod found {
    /// Not at all.
    pub const NONE: u32 = 0;
    /// The kernel said which socket was to receive it (`rx_sk`, 6.11).
    pub const RECEIVER: u32 = 1;
    /// The packet had its socket: its sender's, or the receiver's that routing had looked up.
    pub const PACKET: u32 = 2;
}

/// Key of the table of drops.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct DropKey {
    /// Return address of the call that freed the packet.
    pub location: u64,
    pub owner: Ref,
    /// Nothing where neither a socket nor a device told.
    pub netns: Netns,
    /// Of `enum skb_drop_reason`, as the running kernel numbers it; the upper half names a subsystem.
    pub reason: u32,
    /// 0 where it is not known.
    pub ifindex: u32,
    /// See [`found`].
    pub found: u32,
    /// As in the Ethernet header, 0 for what is no packet of a network.
    pub protocol: u16,
    /// As in the IP header, 0 for others.
    pub transport: u16,
}

/// One CPU's share of a drop's count.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct DropCount {
    pub packets: u64,
    pub bytes: u64,
}
