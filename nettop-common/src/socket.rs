//! Records of the iterators over open files and over the tables of TCP and UDP.

use bytemuck::{Pod, Zeroable};

use crate::{Netns, ports::Address};

/// A socket, as one process holds it or as in the kernel's tables.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct SocketRecord {
    /// Its address: names it within one listing.
    pub socket: u64,
    /// The holder's, 0 if there is none.
    pub start_time_ns: u64,
    pub tgid: u32,
    pub fd: u32,
    /// Name of the holder's thread-group leader.
    pub comm: [u8; 16],
    pub netns: Netns,
    /// Number in /proc/PID/fd, 0 if no file holds it.
    pub inode: u64,
    pub local: Address,
    pub remote: Address,
    pub local_port: u16,
    pub remote_port: u16,
    pub family: u16,
    /// `SOCK_STREAM` etc.
    pub kind: u16,
    /// IP protocol; Ethernet's for packet sockets.
    pub protocol: u16,
    /// In TCP's numbers; UDP and raw sockets are established or closed.
    pub state: u16,
    /// 1 if an IPv6 socket takes no IPv4.
    pub is_v6_only: u32,
    pub uid: u32,
    /// The device that the socket is bound to, or 0.
    pub ifindex: u32,
    /// Bytes the program has not taken; for a listener, connections.
    pub receive_queue: u32,
    /// Bytes not acknowledged or not sent; for a listener, the limit of waiting connections.
    pub send_queue: u32,
    /// TCP's smoothed round-trip time.
    pub rtt_us: u32,
    pub cwnd_segments: u32,
    pub retransmits: u32,
    pub has_tcp: u32,
    /// Sent by TCP, and acknowledged.
    pub acked_bytes: u64,
    pub received_bytes: u64,
    pub segments_sent: u32,
    pub segments_received: u32,
    pub data_segments_sent: u32,
    pub data_segments_received: u32,
    /// Since boot; 0 if unknown.
    pub created_ns: u64,
    /// While the listing watched, indexed by [`crate::Direction`].
    pub moved: [Wire; 2],
}

/// Packets on the wire, and their bytes from the IP header on.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Wire {
    pub packets: u64,
    pub bytes: u64,
}

/// Counters of a watching listing, in a socket's storage. A connection begins with a copy of its listener's.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct SocketMeter {
    /// Address of the new or listening socket; 0 for an older one. In a copy it is the listener's.
    pub socket: u64,
    /// Since boot; 0 if unknown.
    pub created_ns: u64,
    /// Time of the last packet to a listener; it made the copy.
    pub asked_ns: u64,
    /// Indexed by [`crate::Direction`].
    pub moved: [Wire; 2],
    /// Its traffic as a listener, which is not a copy's.
    pub listening: [Wire; 2],
}
