//! Packet events: their headers and their owners.

use bytemuck::{Pod, Zeroable};

use crate::{Netns, OwnerKey, ports::Address};

/// How a packet's owner is known, besides [`crate::tag::attribution`].
pub mod unowned {
    /// No process's socket: the kernel answers, or nobody listens.
    pub const KERNEL: u8 = 254;
    /// No socket at all: forwarded, or sent by a program outside IP.
    pub const NOBODY: u8 = 255;
}

/// A packet at one device.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct PacketEvent {
    /// Since boot, sleep included.
    pub time_ns: u64,
    /// All zero: unknown.
    pub owner: OwnerKey,
    pub comm: [u8; 16],
    pub source: Address,
    pub destination: Address,
    pub netns: Netns,
    pub ifindex: u32,
    /// From the IP header on; a super-packet's headers count once.
    pub bytes: u32,
    pub source_port: u16,
    pub destination_port: u16,
    /// Packets on the wire.
    pub segments: u16,
    /// As in the IP header.
    pub protocol: u8,
    /// As in the TCP header.
    pub tcp_flags: u8,
    /// [`crate::Direction`].
    pub direction: u8,
    /// [`crate::Family`].
    pub family: u8,
    /// [`crate::tag::attribution`] or [`unowned`].
    pub attribution: u8,
    /// Keeps the size a multiple of 8.
    pub reserved: [u8; 5],
}
