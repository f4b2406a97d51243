//! The tag of a socket, kept in its `bpf_sk_storage` and freed by the kernel with the socket.

use bytemuck::{Pod, Zeroable};

use crate::{Netns, Ref, ports::Address};

/// How an owner was found, weakest first.
pub mod attribution {
    /// No process claimed the socket: the kernel's own, or one without a holder.
    pub const NONE: u32 = 0;
    /// An unused connection, billed to its listener's owner.
    pub const LISTENER: u32 = 1;
    /// The process that made the socket.
    pub const CREATOR: u32 = 2;
    /// A process that held the socket when accounting began.
    pub const HOLDER: u32 = 3;
    /// The last process that sent or received through it.
    pub const USER: u32 = 4;

    /// Name in reports.
    #[must_use]
    pub const fn name(attribution: u32) -> &'static str {
        match attribution {
            USER => "user",
            HOLDER => "holder",
            CREATOR => "creator",
            LISTENER => "listener",
            _ => "none",
        }
    }
}

/// Bytes received before the daemon are known: bytes consumed are a plain difference.
pub const BASELINE_KNOWN: u8 = 1;
/// The socket listens. A child inherits this mark and so knows itself.
pub const LISTENING: u8 = 2;

/// A shadow of the tag was made.
pub const SHADOWED: u8 = 4;

/// A raw or ping socket: others may receive the same packet.
pub const SHARES: u8 = 8;
/// A raw socket of a protocol whose own sockets receive the same packets.
pub const COPIES: u8 = 16;

/// A listener's connection. It never moves to another port.
pub const CHILD: u8 = 32;
/// The program has closed it.
pub const RELEASED: u8 = 64;
/// A packet socket that sends through a device above others: these carry the same frame again.
pub const STACKED: u8 = 128;

/// What nettopd knows of one socket.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct SocketTag {
    pub owner: Ref,
    /// Rows of the last packets, indexed by [`crate::Family`], then [`crate::Direction`].
    pub rows: [[Ref; 2]; 2],
    /// The socket's address, for members that its typed pointer lacks. Stored in a map value and read back, a pointer
    /// is a number.
    pub address: u64,
    /// TCP: what the program had taken at the last call, modulo 2^32.
    pub consumed_bytes: u32,
    /// TCP: sequence number of the first byte of that connection.
    pub first_seq: u32,
    pub netns: Netns,
    pub attribution: u32,
    pub flags: u8,
    /// [`crate::Family`] of the last packet.
    pub family: u8,
    /// Where the socket was bound when noted, see [`crate::ports`]; 0 if it was not. A connection has its listener's.
    pub bound_port: u16,
    pub bound_address: Address,
}
