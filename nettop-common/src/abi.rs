//! Numbers of the kernel's ABI: families and types of sockets (linux/socket.h, linux/net.h), protocols (linux/in.h), states
//! of TCP (net/tcp_states.h), flags of sockets, and of maps (linux/bpf.h).

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const AF_PACKET: u16 = 17;

pub const SOCK_RAW: u16 = 3;

pub const IPPROTO_ICMP: u16 = 1;
pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_UDP: u16 = 17;
pub const IPPROTO_DCCP: u16 = 33;
pub const IPPROTO_ICMPV6: u16 = 58;
pub const IPPROTO_SCTP: u16 = 132;
pub const IPPROTO_UDPLITE: u16 = 136;
pub const IPPROTO_MPTCP: u16 = 262;

pub const TCP_ESTABLISHED: u8 = 1;
pub const TCP_SYN_SENT: u8 = 2;
pub const TCP_SYN_RECV: u8 = 3;
pub const TCP_FIN_WAIT1: u8 = 4;
pub const TCP_FIN_WAIT2: u8 = 5;
pub const TCP_TIME_WAIT: u8 = 6;
pub const TCP_CLOSE: u8 = 7;
pub const TCP_CLOSE_WAIT: u8 = 8;
pub const TCP_LAST_ACK: u8 = 9;
pub const TCP_LISTEN: u8 = 10;
pub const TCP_CLOSING: u8 = 11;
pub const TCP_NEW_SYN_RECV: u8 = 12;

/// Of enum sock_flags (net/sock.h): `tcp_fin` has run.
pub const SOCK_DONE: u64 = 1 << 1;

/// The low bit of `_skb_refdst`: no reference is held.
pub const SKB_DST_NOREF: u64 = 1;
/// Of a super-packet whose headers came from a device or another machine, and are not trusted.
pub const SKB_GSO_DODGY: u32 = 1 << 1;

/// Insert, and do not replace.
pub const BPF_NOEXIST: u64 = 1;
/// What that fails with.
pub const EEXIST: i32 = 17;
