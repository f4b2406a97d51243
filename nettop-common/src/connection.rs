//! What happens to connections, one event each.

use bytemuck::{Pod, Zeroable};

use crate::{Netns, OwnerKey, ports::Address};

/// What happened.
pub mod kind {
    /// A process took a connection from its listener.
    pub const ACCEPTED: u32 = 0;
    /// A connection that a process asked for stands.
    pub const OPENED: u32 = 1;
    /// A connection that had been established has ended.
    pub const CLOSED: u32 = 2;
    /// A connection that a process asked for came to nothing.
    pub const FAILED: u32 = 3;
    /// The first datagram to somebody, in some time.
    pub const SENT: u32 = 4;
    /// The first datagram from somebody, in some time.
    pub const RECEIVED: u32 = 5;
}

/// An event, with the process it belongs to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct ConnectionEvent {
    /// Since boot, sleep included.
    pub time_ns: u64,
    /// When the connection was asked for, or, of one that ends, established. 0: before nettopd.
    pub begun_ns: u64,
    /// All zero: none is known.
    pub owner: OwnerKey,
    pub comm: [u8; 16],
    pub netns: Netns,
    pub local: Address,
    pub remote: Address,
    pub local_port: u16,
    pub remote_port: u16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// As in the IP header.
    pub protocol: u8,
    /// State that TCP was in before, as it numbers them.
    pub old_state: u8,
    pub kind: u32,
    /// `sk_err`: 0 if nothing went wrong.
    pub error: u32,
    /// Of data, each byte once.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub retransmits: u32,
    /// Packets that TCP sent, with those without data.
    pub sent_segments: u32,
}

/// What nettopd keeps of a connection until it ends, in the socket's storage.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Connection {
    /// When it was asked for, then when it was established. 0: neither.
    pub begun_ns: u64,
    /// Who asked for it; later, who used it last.
    pub owner: OwnerKey,
    pub comm: [u8; 16],
    /// 1 while it was asked for and is not established.
    pub is_opening: u64,
}

/// Two ends of a conversation without connections.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Pod, Zeroable)]
pub struct AssociationKey {
    /// Cookie of the socket.
    pub socket: u64,
    pub remote: Address,
    pub remote_port: u16,
    pub local_port: u16,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
}

/// What was said, indexed by [`crate::Direction`]; and the event that told of its beginning.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Association {
    pub last_ns: u64,
    pub packets: [u64; 2],
    pub bytes: [u64; 2],
    pub first: ConnectionEvent,
}
