//! The other end of a socket's packets, as part of a row's key.

use bytemuck::{Pod, Zeroable};

/// Who asked whom.
pub mod role {
    /// No peer: the row has what no other row of its owner on its device has.
    pub const NONE: u8 = 0;
    /// The socket asked its peer.
    pub const CLIENT: u8 = 1;
    /// The peer asked the socket.
    pub const SERVER: u8 = 2;
    /// A protocol without ports.
    pub const OTHER: u8 = 3;

    /// Name in reports.
    #[must_use]
    pub const fn name(role: u8) -> &'static str {
        match role {
            CLIENT => "client",
            SERVER => "server",
            _ => "other",
        }
    }
}

/// A peer. Ephemeral ports are not part of it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Pod, Zeroable)]
pub struct Peer {
    /// As in [`crate::ports`].
    pub address: [u32; 4],
    /// A client has its peer's, a server its own; 0 for others.
    pub port: u16,
    /// [`role`].
    pub role: u8,
    /// As in the IP header.
    pub protocol: u8,
}

impl Peer {
    /// No peer.
    pub const NONE: Self = Self { address: [0; 4], port: 0, role: role::NONE, protocol: 0 };

    /// Whether it is one.
    #[must_use]
    #[inline(always)]
    pub const fn is_some(&self) -> bool {
        self.role != role::NONE
    }
}
