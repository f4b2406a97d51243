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
}
