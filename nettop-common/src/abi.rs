//! Numbers of the kernel's ABI: families, types and calls of sockets (linux/socket.h, linux/net.h), protocols
//! (linux/if_ether.h, linux/in.h, linux/in6.h), kinds of packets (linux/if_packet.h), headers, states of TCP
//! (net/tcp_states.h), flags of sockets, of routes, of tasks (linux/sched.h) and of maps, commands of bpf(2)
//! (linux/bpf.h), capabilities (linux/capability.h).

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const AF_PACKET: u16 = 17;

pub const SOCK_RAW: u16 = 3;

pub const IPPROTO_IP: u16 = 0;
pub const IPPROTO_ICMP: u16 = 1;
pub const IPPROTO_IGMP: u16 = 2;
pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_UDP: u16 = 17;
pub const IPPROTO_DCCP: u16 = 33;
pub const IPPROTO_GRE: u16 = 47;
pub const IPPROTO_ESP: u16 = 50;
pub const IPPROTO_ICMPV6: u16 = 58;
pub const IPPROTO_SCTP: u16 = 132;
pub const IPPROTO_UDPLITE: u16 = 136;
pub const IPPROTO_MPTCP: u16 = 262;

pub const ETH_P_IP: u16 = 0x0800;
pub const ETH_P_ARP: u16 = 0x0806;
pub const ETH_P_IPV6: u16 = 0x86dd;
/// In network byte order, as `sk_buff.protocol` has them.
pub const ETH_P_IP_BE: u16 = ETH_P_IP.to_be();
pub const ETH_P_IPV6_BE: u16 = ETH_P_IPV6.to_be();
pub const ETH_P_8021Q_BE: u16 = 0x8100_u16.to_be();

/// Kinds of packets that a device received.
pub const PACKET_BROADCAST: u32 = 1;
pub const PACKET_MULTICAST: u32 = 2;
pub const PACKET_LOOPBACK: u32 = 5;

pub const MSG_PEEK: i32 = 0x2;
/// Returns the caller's own data, with timestamps or errors.
pub const MSG_ERRQUEUE: i32 = 0x2000;

/// Extension headers of IPv6.
pub const NEXTHDR_HOP: u8 = 0;
pub const NEXTHDR_ROUTING: u8 = 43;
pub const NEXTHDR_FRAGMENT: u8 = 44;
pub const NEXTHDR_DEST: u8 = 60;

/// The offset in an IPv4 header's `frag_off` (net/ip.h, `IP_OFFSET`), and in an IPv6 fragment header's (net/ipv6.h, `IP6_OFFSET`).
pub const IP_OFFSET: u16 = 0x1fff;
pub const IP6_OFFSET: u16 = 0xfff8;

/// What Ethernet pads shorter packets to (linux/if_ether.h, `ETH_ZLEN`, without the header).
pub const MIN_ETHERNET_PAYLOAD_BYTES: u32 = 46;
/// Headers without options.
pub const ETHERNET_HEADER_BYTES: u32 = 14;
pub const IPV4_HEADER_BYTES: u32 = 20;
pub const IPV6_HEADER_BYTES: u32 = 40;
pub const UDP_HEADER_BYTES: u32 = 8;
/// The hop-by-hop header of a packet above 65,535 B (net/ipv6.h, `struct hop_jumbo_hdr`).
pub const JUMBO_HEADER_BYTES: u32 = 8;
/// Before a packet socket's frame (linux/virtio_net.h, `struct virtio_net_hdr`).
pub const VIRTIO_NET_HEADER_BYTES: u32 = 10;
/// The byte of TCP's header whose upper half is the header's length in words of 4 bytes (linux/tcp.h, `doff`). The flags
/// follow.
pub const TCP_DATA_OFFSET_AT: u32 = 12;

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
/// The bits of `sk_reuse`, and what `TCP_REPAIR` sets there (net/sock.h).
pub const SK_REUSE_MASK: u8 = 0xf;
pub const SK_FORCE_REUSE: u8 = 2;
/// In the low bits of `sk_user_data` (net/sock.h; since 6.0, and in later releases of 5.15): sockmap has the socket.
pub const SK_USER_DATA_PSOCK: u64 = 4;

/// The low bit of `_skb_refdst`: no reference is held.
pub const SKB_DST_NOREF: u64 = 1;
/// Of a route that ends here. `RTF_LOCAL` of IPv6 (linux/ipv6_route.h) is the same bit (linux/in_route.h).
pub const RTCF_LOCAL: u32 = 0x8000_0000;
/// Of a super-packet whose headers came from a device or another machine, and are not trusted.
pub const SKB_GSO_DODGY: u32 = 1 << 1;

/// Of a kernel thread, unchanged since 2.6.
pub const PF_KTHREAD: u32 = 0x0020_0000;
/// Of a task that ends, set before its files are closed (`do_exit`).
pub const PF_EXITING: u32 = 0x4;
/// Of a worker, which runs the work of others: its name means nothing.
pub const PF_WQ_WORKER: u32 = 0x20;
/// The running system call is a 32-bit one (x86, asm/thread_info.h).
pub const TS_COMPAT: u32 = 0x2;

pub const CAP_NET_ADMIN: u32 = 12;
pub const CAP_PERFMON: u32 = 38;
pub const CAP_BPF: u32 = 39;

/// Commands of bpf(2), `enum bpf_cmd`.
pub const BPF_MAP_CREATE: i32 = 0;
pub const BPF_RAW_TRACEPOINT_OPEN: i32 = 17;
pub const BPF_LINK_CREATE: i32 = 28;
pub const BPF_ITER_CREATE: i32 = 33;
/// Of `enum bpf_attach_type`.
pub const BPF_TRACE_ITER: u32 = 28;

/// The packet or the operation passes a program on a cgroup.
pub const CGROUP_PASS: i32 = 1;
/// Entries of a hash get memory when they are made.
pub const BPF_F_NO_PREALLOC: usize = 1;
/// A child's socket gets its listener's storage.
pub const BPF_F_CLONE: usize = 1 << 9;
/// User space may map the table.
pub const BPF_F_MMAPABLE: u32 = 1 << 10;
pub const BPF_MAP_TYPE_SK_STORAGE: usize = 24;
pub const BPF_MAP_TYPE_TASK_STORAGE: usize = 29;
/// Storage is made where there is none.
pub const BPF_SK_STORAGE_GET_F_CREATE: u64 = 1;
pub const BPF_LOCAL_STORAGE_GET_F_CREATE: u64 = 1;
/// The reader of a ring is woken.
pub const BPF_RB_FORCE_WAKEUP: u64 = 2;
/// Insert, and do not replace.
pub const BPF_NOEXIST: u64 = 1;
/// What that fails with.
pub const EEXIST: i32 = 17;
