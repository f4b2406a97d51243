//! Packets, one event each: what their headers say, and whose they are.

use bytemuck::{Pod, Zeroable};

use crate::{Netns, OwnerKey, ports::Address};

/// How the owner of a packet is known, beside [`crate::tag::evidence`].
pub mod found {
    /// No socket of a process: the kernel answers, or nobody listens.
    pub const KERNEL: u8 = 254;
    /// No socket at all: forwarded, or handed over by a program beside IP.
    pub const NOBODY: u8 = 255;
}

/// A packet as one device had it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct PacketEvent {
    /// Since boot, sleep included.
    pub time_ns: u64,
    /// All zero: none is known.
    pub owner: OwnerKey,
    pub comm: [u8; 16],
    pub source: Address,
    pub destination: Address,
    pub netns: Netns,
    pub ifindex: u32,
    /// From the IP header on; of a super-packet with its headers once.
    pub bytes: u32,
    pub source_port: u16,
    pub destination_port: u16,
    /// Packets that it is on a wire.
    pub segments: u16,
    /// As in the IP header.
    pub protocol: u8,
    /// As in the TCP header.
    pub tcp_flags: u8,
    /// [`crate::Direction`].
    pub direction: u8,
    /// [`crate::Family`].
    pub family: u8,
    /// [`crate::tag::evidence`] or [`found`].
    pub found: u8,
    /// Keeps the size a multiple of 8.
    pub reserved: [u8; 5],
}
