//! What the walks over open files and over TCP's and UDP's tables tell of each socket.

use bytemuck::{Pod, Zeroable};

use crate::{Netns, ports::Address};

/// A socket, as one process holds it or as the kernel's tables have it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct SocketRecord {
    /// Where the socket is: names it within one listing.
    pub socket: u64,
    /// Of the holder, 0 where there is none.
    pub start_time_ns: u64,
    pub tgid: u32,
    pub fd: u32,
    /// Name of the holder's thread-group leader.
    pub comm: [u8; 16],
    pub netns: Netns,
    /// Number that /proc/PID/fd shows, 0 where no file holds it.
    pub inode: u64,
    pub local: Address,
    pub remote: Address,
    pub local_port: u16,
    pub remote_port: u16,
    pub family: u16,
    /// `SOCK_STREAM` and so on.
    pub kind: u16,
    /// Of IP; of a packet socket the one of Ethernet.
    pub protocol: u16,
    /// As TCP numbers its states; UDP and raw sockets are established or closed.
    pub state: u16,
    /// 1 where an IPv6 socket takes no IPv4.
    pub is_v6_only: u32,
    pub uid: u32,
    /// Of the device that the socket is bound to, 0 if it is to none.
    pub ifindex: u32,
    /// Bytes that the program has not taken; of a listener, connections.
    pub receive_queue: u32,
    /// Bytes that were not acknowledged or sent; of a listener, the most connections that may wait.
    pub send_queue: u32,
    /// Smoothed round-trip time of TCP.
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
    /// Since boot; 0 where it is not known.
    pub born_ns: u64,
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

/// What a listing that watches keeps in a socket's storage. A connection begins with a copy of its listener's.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct SocketMeter {
    /// Where the socket is that was born or listens; 0 for one that is older. In a copy it is the listener.
    pub socket: u64,
    /// Since boot; 0 where it is not known.
    pub born_ns: u64,
    /// Of the last packet to a listener. A copy was made by it.
    pub asked_ns: u64,
    /// Indexed by [`crate::Direction`].
    pub moved: [Wire; 2],
    /// What it moved as a listener, of which a copy is no part.
    pub listening: [Wire; 2],
}
