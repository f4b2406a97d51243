//! What a name server sent to a socket: the head of a record in the ring of answers. The payload follows.

use bytemuck::{Pod, Zeroable};

use crate::OwnerKey;

/// The port of name servers.
pub const DNS_PORT: u16 = 53;
/// Room for a payload: most answers fit the first, nearly all of UDP the second, nearly all of TCP the third. Powers of two,
/// which the verifier needs.
pub const SHORT_BYTES: usize = 256;
pub const MIDDLE_BYTES: usize = 2048;
pub const LONG_BYTES: usize = 16_384;

/// The head.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct AnswerHead {
    /// Who had used the socket last; all zero for the kernel.
    pub owner: OwnerKey,
    pub socket_cookie: u64,
    /// TCP: sequence number of the first byte.
    pub sequence: u32,
    /// Of the payload in the record.
    pub bytes: u32,
    /// Of the payload in the packet.
    pub whole_bytes: u32,
    /// IP protocol.
    pub protocol: u32,
}

/// A record.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AnswerRecord<const BYTES: usize> {
    pub head: AnswerHead,
    pub payload: [u8; BYTES],
}
