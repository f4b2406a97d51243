//! Who holds a local address and port, for packets that are dropped before the kernel looks for their socket; and the
//! sockets that listen there.

use bytemuck::{Pod, Zeroable};

use crate::{Netns, Ref};

/// An address as IPv6 has it, in network byte order; IPv4 is mapped (`::ffff:a.b.c.d`). All zero: any, of both versions.
pub type Address = [u32; 4];

/// What precedes an IPv4 address.
pub const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// A local address and port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Pod, Zeroable)]
pub struct PortKey {
    pub netns: Netns,
    pub address: Address,
    pub port: u16,
    /// As in the IP header.
    pub transport: u8,
    /// 1 for any address of IPv6 and none of IPv4.
    pub is_v6_only: u8,
}

/// Who was the last to bind it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct PortHolder {
    pub owner: Ref,
    /// Where the socket is. Others may share its port.
    pub socket: u64,
}

/// A socket that listens and to which a packet came. Known by its cookie.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Listener {
    pub owner: Ref,
    pub netns: Netns,
    /// Where the socket is.
    pub socket: u64,
    /// Its own count of drops when it was first seen.
    pub drops_before: u32,
    /// How much of its drops is of packets that were freed as dropped, and are counted there.
    pub freed: u32,
    /// Its own count of drops when it was closed.
    pub drops_at_end: u32,
    /// 1 once it was closed.
    pub has_ended: u16,
    pub port: u16,
}
