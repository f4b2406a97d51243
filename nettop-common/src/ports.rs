//! Holders of local addresses and ports, for packets dropped before the kernel looks up their socket; and the listeners
//! there.

use bytemuck::{Pod, Zeroable};

use crate::{Netns, Ref};

/// Most ports, and most listeners, that are known at a time.
pub const MAX_PORTS: u32 = 65_536;

/// An IPv6 address, in network byte order; IPv4 is mapped (`::ffff:a.b.c.d`). All zero: any, of both versions.
pub type Address = [u32; 4];

/// Prefix of an IPv4 address.
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
    /// 1 for any IPv6 address and no IPv4 address.
    pub is_v6_only: u8,
}

/// The last to bind it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct PortHolder {
    pub owner: Ref,
    /// Its address. Others may share the port.
    pub socket: u64,
    /// The limit the entry counts against, an index of [`crate::share`].
    pub share: u32,
    pub padding: u32,
}

/// A listener that a packet came to. Known by its cookie.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Listener {
    pub owner: Ref,
    pub netns: Netns,
    /// Its address.
    pub socket: u64,
    /// Its own count of drops when it was first seen.
    pub drops_before: u32,
    /// How many of its drops are packets freed as dropped, and counted there.
    pub freed: u32,
    /// Its own count of drops when it was closed.
    pub drops_at_end: u32,
    /// 1 once it was closed.
    pub has_ended: u16,
    pub port: u16,
    /// The limit it counts against, an index of [`crate::share`].
    pub share: u32,
    pub padding: u32,
}
