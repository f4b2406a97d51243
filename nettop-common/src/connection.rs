//! Connection events.

use bytemuck::{Pod, Zeroable};

use crate::{Netns, OwnerKey, ports::Address};

/// What happened.
pub mod kind {
    /// A process accepted a connection.
    pub const ACCEPTED: u32 = 0;
    /// A process's new connection is established.
    pub const OPENED: u32 = 1;
    /// An established connection has ended.
    pub const CLOSED: u32 = 2;
    /// A process's new connection failed.
    pub const FAILED: u32 = 3;
    /// The first datagram to a peer, in some time.
    pub const SENT: u32 = 4;
    /// The first datagram from a peer, in some time.
    pub const RECEIVED: u32 = 5;
}

/// An event, with the process it belongs to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct ConnectionEvent {
    /// Since boot, sleep included.
    pub time_ns: u64,
    /// When the connection was requested or, if it ends, established. 0: before nettopd.
    pub begun_ns: u64,
    /// All zero: unknown.
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
    /// TCP's previous state, in its own numbers.
    pub old_state: u8,
    pub kind: u32,
    /// `sk_err`: 0 if nothing went wrong.
    pub error: u32,
    /// Payload, each byte once.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub retransmits: u32,
    /// Segments that TCP sent, also without data.
    pub sent_segments: u32,
    /// The device of the socket's binding, or of its link-local addresses; 0: any.
    pub ifindex: u32,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
}

/// State of a connection until it ends, in the socket's storage.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Connection {
    /// When it was requested, then when it was established. 0: neither.
    pub begun_ns: u64,
    /// Who requested it; later, who used it last.
    pub owner: OwnerKey,
    pub comm: [u8; 16],
    /// 1 from the request until it is established.
    pub is_opening: u64,
}

/// Two ends of a connectionless conversation.
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

/// Traffic, indexed by [`crate::Direction`]; and the event of its beginning.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Association {
    pub last_ns: u64,
    pub packets: [u64; 2],
    pub bytes: [u64; 2],
    pub first: ConnectionEvent,
}
