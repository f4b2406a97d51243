//! Sockets of all protocols, and what /proc/net has of them.

use super::*;

/// Has a process open sockets. Compares what is listed of each with what was opened, and with the kernel's own tables below
/// /proc/net, each with the column of its inode numbers, which must have the same sockets.
fn compare(open: impl FnOnce() -> Vec<OwnedFd>, expected: &[Expected], tables: &[(&str, usize)]) {
    let alone = Namespace::new();
    // Everybody may ping.
    alone.write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    let holder = Process::start(Some(&alone), |parent| {
        let sockets = open();
        for socket in &sockets {
            parent.send_number(nix::sys::stat::fstat(socket).unwrap().st_ino);
        }
        parent.wait_for_parent();
        Moved::default()
    });
    let inodes: Vec<u64> = expected.iter().map(|_| holder.wait_until_ready()).collect();
    let listed = sockets(&alone, &[]);
    for (inode, (protocol, version, state, local, remote)) in inodes.iter().zip(expected) {
        let found: Vec<&SocketReport> = listed.iter().filter(|socket| socket.inode == Some(*inode)).collect();
        assert_eq!(found.len(), 1, "{protocol}: {listed:#?}");
        let is = {
            let SocketReport { protocol, state, local, remote, .. } = found[0];
            [protocol, state.as_ref(), local, remote]
        };
        assert_eq!(is, [*protocol, *state, *local, *remote], "{:#?}", found[0]);
        assert_eq!(found[0].ip_version, *version, "{:#?}", found[0]);
        let pids: Vec<u32> = holders(found[0]).into_iter().map(|(pid, _)| pid).collect();
        assert_eq!(pids, [holder.pid()]);
    }
    let protocols: BTreeSet<&str> = expected.iter().map(|socket| socket.0).collect();
    let ours: BTreeSet<u64> = listed
        .iter()
        .filter(|socket| protocols.contains(socket.protocol.as_str()))
        .filter_map(|socket| socket.inode)
        .collect();
    let theirs: BTreeSet<u64> = tables.iter().flat_map(|(table, column)| in_table(&alone, table, *column)).collect();
    assert!(tables.is_empty() || ours == theirs, "{ours:?} {theirs:?}");
}

/// Inode numbers of a table below /proc/net.
fn in_table(namespace: &Namespace, table: &str, column: usize) -> Vec<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/net/{table}", namespace.pid())).unwrap();
    let lines = text.lines().skip(1);
    lines.map(|line| line.split_whitespace().nth(column).unwrap().parse().unwrap()).collect()
}

/// A socket bound to a port of loopback, of either version.
fn bound(family: i32, kind: i32, protocol: i32, port: u16) -> OwnedFd {
    let socket = socket(family, kind, protocol);
    if family == libc::AF_INET {
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
    } else {
        let address = std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, port, 0, 0);
        bind(socket.as_raw_fd(), &SockaddrIn6::from(address)).unwrap();
    }
    socket
}

/// Whether sockets of a protocol can be had.
fn has_protocol(kind: i32, protocol: i32) -> bool {
    // SAFETY: a plain system call; the descriptor is closed at once.
    let fd = unsafe { libc::socket(libc::AF_INET, kind, protocol) };
    if fd >= 0 {
        // SAFETY: the descriptor is ours.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    fd >= 0
}

#[test]
fn raw_ping_and_packet_sockets_are_those_of_proc() {
    const OTHER: i32 = 200;
    let open = || {
        let raw = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
        nix::sys::socket::connect(raw.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        vec![
            raw,
            socket(libc::AF_INET6, libc::SOCK_RAW, OTHER),
            bound(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP, 77),
            bound(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6, 78),
            socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(0x0800_u16.to_be())),
            socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0),
        ]
    };
    let expected = [
        ("raw", Some(4), "established", "127.0.0.1", "127.0.0.1"),
        ("raw", Some(6), "unconnected", "*", "*"),
        ("icmp", Some(4), "unconnected", "127.0.0.1", "0.0.0.0"),
        ("icmp6", Some(6), "unconnected", "::1", "::"),
        ("packet", None, "unconnected", "*", "*"),
        ("packet", None, "unconnected", "*", "*"),
    ];
    compare(open, &expected, &[("raw", 9), ("raw6", 9), ("icmp", 9), ("icmp6", 9), ("packet", 8)]);
}

#[test]
fn sockets_of_udp_lite_are_those_of_proc() {
    if !has_protocol(libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE) {
        return skip("no UDP-Lite");
    }
    let open = || {
        let connected = bound(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE, 4000);
        nix::sys::socket::connect(connected.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 4001)).unwrap();
        vec![connected, bound(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE, 4002)]
    };
    let expected = [
        ("udplite", Some(4), "established", "127.0.0.1:4000", "127.0.0.1:4001"),
        ("udplite", Some(6), "unconnected", "[::1]:4002", "[::]:*"),
    ];
    compare(open, &expected, &[("udplite", 9), ("udplite6", 9)]);
}

/// A listener, its client, and what it accepts.
fn connection(protocol: i32) -> Vec<OwnedFd> {
    let listener = bound(libc::AF_INET, libc::SOCK_STREAM, protocol, 5001);
    nix::sys::socket::listen(&listener, Backlog::new(5).unwrap()).unwrap();
    let client = bound(libc::AF_INET, libc::SOCK_STREAM, protocol, 5002);
    nix::sys::socket::connect(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 5001)).unwrap();
    // SAFETY: a descriptor that is nobody else's.
    let server = unsafe { OwnedFd::from_raw_fd(nix::sys::socket::accept(listener.as_raw_fd()).unwrap()) };
    vec![listener, client, server]
}

fn connection_of(protocol: &'static str) -> [Expected; 3] {
    [
        (protocol, Some(4), "listen", "127.0.0.1:5001", "0.0.0.0:*"),
        (protocol, Some(4), "established", "127.0.0.1:5002", "127.0.0.1:5001"),
        (protocol, Some(4), "established", "127.0.0.1:5001", "127.0.0.1:5002"),
    ]
}

#[test]
fn sockets_of_sctp_are_those_of_proc() {
    if !has_protocol(libc::SOCK_STREAM, libc::IPPROTO_SCTP) {
        return skip("no SCTP");
    }
    compare(|| connection(libc::IPPROTO_SCTP), &connection_of("sctp"), &[("sctp/eps", 7), ("sctp/assocs", 10)]);
}

#[test]
fn sockets_of_mptcp_are_listed_beside_their_subflows() {
    if !has_protocol(libc::SOCK_STREAM, libc::IPPROTO_MPTCP) {
        return skip("no MPTCP");
    }
    compare(|| connection(libc::IPPROTO_MPTCP), &connection_of("mptcp"), &[]);
}
