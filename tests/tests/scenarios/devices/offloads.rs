//! Segmentation and merging, each switched on and off: the device balances to the byte, whoever makes the segments.

use std::{
    ffi::CString,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
};

use nettop_tests::{FirstFin, bpf::pass_by_xdp, directions, drops::nft_drop, hang_timeout, kernel, pairs::set_option};

use super::*;

/// `ETHTOOL_STSO` and `ETHTOOL_SGRO`.
pub(crate) const TSO: u32 = 0x1f;
pub(crate) const GRO: u32 = 0x2c;
/// Both ways, in more than a few super-packets.
const BYTES: usize = 2_000_000;

/// A polled veth drops what finds its ring of 256 packets full, and counts it only in `tx_dropped`.
const IN_FLIGHT_BYTES: i32 = 100_000;

/// Switches an offload feature as `ethtool -K` does. `false` if the device has no such feature.
pub(crate) fn set_feature(namespace: &Namespace, device: &str, feature: u32, is_on: bool) -> bool {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    namespace.enter(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("0.0.0.0:0")).unwrap();
        let mut value = [feature, is_on.into()];
        // SAFETY: all zero is an ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(CString::new(device).unwrap().as_bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
        // SAFETY: the kernel reads two words behind the pointer.
        unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) == 0 }
    })
}

/// Joins as [`silent_pair`] does, with IPv6 addresses that nobody asks for.
fn addressed_pair() -> (Namespace, Namespace) {
    let (a, b) = silent_pair();
    add_addresses(&a, &b);
    (a, b)
}

/// Gives `v0` and `v1` addresses, and each the other's.
fn add_addresses(a: &Namespace, b: &Namespace) {
    add_addresses_to([a, b], ["v0", "v1"]);
}

/// The same for other devices.
pub(crate) fn add_addresses_to(namespaces: [&Namespace; 2], devices: [&str; 2]) {
    for ((host, namespace), device) in (1_u8..).zip(namespaces).zip(devices) {
        address(namespace, device, "10.1.0", host);
        let other = 3 - host;
        // No report of multicast groups, which nobody's socket would send or take.
        nft_drop(namespace, "output", "meta l4proto icmpv6");
        for (key, value) in [("disable_ipv6", "0"), ("addr_gen_mode", "1"), ("router_solicitations", "0")] {
            namespace.write(&format!("/proc/sys/net/ipv6/conf/{device}/{key}"), value);
        }
        namespace.ip(&format!("addr add fd00::{host}/64 dev {device} nodad"));
        namespace.ip(&format!("neigh add fd00::{other} lladdr 02:00:00:00:01:0{other} dev {device} nud permanent"));
        namespace.retransmit_late_over(device);
    }
}

/// TCP both ways between processes at these addresses.
pub(crate) fn tcp(nettopd: &Nettopd, [a, b]: [&Namespace; 2], server: &str) -> Arc<Snapshot> {
    let server: IpAddr = server.parse().unwrap();
    let moved = Moved { sent: BYTES as u64, received: BYTES as u64 };
    let fin = FirstFin::new();
    let accepting = Process::start(Some(b), |parent| {
        let listener = TcpListener::bind((server, 0)).unwrap();
        parent.send_number(listener.local_addr().unwrap().port().into());
        fin.answer(listener.accept().unwrap().0, |mut stream| {
            set_option(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, &IN_FLIGHT_BYTES);
            let mut buffer = vec![0; BYTES];
            stream.read_exact(&mut buffer).unwrap();
            stream.write_all(&buffer).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        });
        moved
    });
    let port = u16::try_from(accepting.wait_until_ready()).unwrap();
    let connecting = Process::start(Some(a), |_| {
        let mut stream = TcpStream::connect(SocketAddr::new(server, port)).unwrap();
        set_option(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, &IN_FLIGHT_BYTES);
        let mut buffer = vec![7; BYTES];
        stream.write_all(&buffer).unwrap();
        stream.read_exact(&mut buffer).unwrap();
        // Its own socket answers the other's FIN: what a connection in TIME_WAIT sends is the kernel's.
        fin.send(&stream);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        moved
    });
    finish_at(nettopd, [connecting, accepting]).0
}

/// Nothing is left on the device except what no hook sees: on 6.1 the SYN-ACK of IPv6.
fn assert_explained(document: &Snapshot, namespace: &Namespace, name: &str, server: &str) {
    let answers_unseen = kernel() < (6, 12) && server.contains(':') && name != "v0";
    let found = document.devices.iter().find(|device| device.netns == namespace.inode() && device.device == name);
    let link_header = u64::from(found.unwrap().tx_basis.link_header_bytes);
    for (direction, side) in directions(device(document, namespace.inode(), name)) {
        let unseen = u64::from(answers_unseen && direction == "tx");
        let bytes = (side.unattributed_bytes, side.pending_bytes);
        let packets = (side.unattributed_packets, side.pending_packets);
        assert_eq!((bytes, packets), ((unseen * (80 + link_header), 0), (unseen, 0)), "{name} {direction}: {side:#?}");
        assert!(side.attributed_bytes > BYTES as u64, "{name} {direction}: {side:#?}");
    }
}

#[test]
fn tcp_balances_whoever_makes_the_segments() {
    let nettopd = Nettopd::start(&[]);
    for (is_tso, is_gro, mtu) in [(true, false, 1500), (false, false, 1400), (true, true, 9000), (false, true, 1500)] {
        let (a, b) = addressed_pair();
        for (namespace, name) in [(&a, "v0"), (&b, "v1")] {
            namespace.ip(&format!("link set {name} mtu {mtu}"));
            assert!(set_feature(namespace, name, TSO, is_tso) && set_feature(namespace, name, GRO, is_gro));
        }
        // In an interval where features change, what no hook sees may be taken for theirs.
        nettopd.settled();
        for server in ["10.1.0.2", "fd00::2"] {
            println!("TSO {is_tso}, GRO {is_gro}, MTU {mtu}, {server}");
            let document = tcp(&nettopd, [&a, &b], server);
            assert_explained(&document, &a, "v0", server);
            assert_explained(&document, &b, "v1", server);
        }
    }
}

/// Both ends count behind the link header (`veth_xdp_rcv_skb`, and `veth_xmit` for the other).
#[test]
fn a_veth_with_an_xdp_program_balances() {
    let nettopd = Nettopd::start(&[]);
    let (a, b) = addressed_pair();
    let _program = b.enter(|| pass_by_xdp("v1"));
    nettopd.settled();
    for server in ["10.1.0.2", "fd00::2"] {
        let document = tcp(&nettopd, [&a, &b], server);
        assert_explained(&document, &a, "v0", server);
        assert_explained(&document, &b, "v1", server);
    }
}

#[test]
fn a_device_whose_offloads_change_under_traffic_leaves_no_rest() {
    let nettopd = Nettopd::start(&[]);
    let (a, b) = addressed_pair();
    for is_tso in [false, true, false] {
        println!("TSO {is_tso}");
        assert!(set_feature(&a, "v0", TSO, is_tso));
        let document = tcp(&nettopd, [&a, &b], "10.1.0.2");
        assert_explained(&document, &a, "v0", "10.1.0.2");
        assert_explained(&document, &b, "v1", "10.1.0.2");
    }
}

#[test]
fn big_tcp_balances() {
    let nettopd = Nettopd::start(&[]);
    let (a, b) = addressed_pair();
    for (namespace, name) in [(&a, "v0"), (&b, "v1"), (&a, "lo"), (&b, "lo")] {
        if !namespace.try_ip(&format!("link set {name} gso_max_size 150000 gro_max_size 150000")) {
            return skip("no BIG TCP");
        }
    }
    nettopd.settled();
    let document = tcp(&nettopd, [&a, &b], "fd00::2");
    assert_explained(&document, &a, "v0", "fd00::2");
    assert_explained(&document, &b, "v1", "fd00::2");
    let document = tcp(&nettopd, [&b, &b], "::1");
    assert_explained(&document, &b, "lo", "::1");
}

/// Datagrams of 20 segments each.
pub(crate) fn udp_segments(nettopd: &Nettopd, [a, b]: [&Namespace; 2], server: &str, is_gro: bool) -> Arc<Snapshot> {
    const SEGMENT: i32 = 1000;
    const SEGMENTS: usize = 20;
    let server: IpAddr = server.parse().unwrap();
    let received = (0..DATAGRAMS).map(|_| SEGMENT as u64 * SEGMENTS as u64).sum();
    let receiver = Process::start(Some(b), move |parent| {
        let socket = UdpSocket::bind((server, 0)).unwrap();
        socket.set_read_timeout(Some(hang_timeout())).unwrap();
        set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(1 << 22));
        if is_gro {
            set_option(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, &1);
        }
        parent.send_number(socket.local_addr().unwrap().port().into());
        let mut sum = 0;
        while sum < received {
            sum += socket.recv(&mut vec![0; 1 << 16]).unwrap() as u64;
        }
        Moved { sent: 0, received: sum }
    });
    let port = u16::try_from(receiver.wait_until_ready()).unwrap();
    let sender = Process::start(Some(a), move |_| {
        let socket = UdpSocket::bind((if server.is_ipv6() { "::" } else { "0.0.0.0" }, 0)).unwrap();
        set_option(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, &SEGMENT);
        let data = vec![3; SEGMENT as usize * SEGMENTS];
        let sent = (0..DATAGRAMS).map(|_| socket.send_to(&data, (server, port)).unwrap() as u64).sum();
        Moved { sent, received: 0 }
    });
    finish_at(nettopd, [sender, receiver]).0
}

#[test]
fn segments_of_datagrams_balance_whether_the_receiver_merges_them_or_not() {
    let nettopd = Nettopd::start(&[]);
    let (a, b) = addressed_pair();
    for (is_gro, server) in [(true, "10.1.0.2"), (false, "10.1.0.2"), (true, "fd00::2"), (false, "fd00::2")] {
        let document = udp_segments(&nettopd, [&a, &b], server, is_gro);
        for side in [&device(&document, a.inode(), "v0").tx, &device(&document, b.inode(), "v1").rx] {
            let bytes = (side.unattributed_bytes, side.pending_bytes);
            let packets = (side.unattributed_packets, side.pending_packets);
            assert_eq!((bytes, packets), ((0, 0), (0, 0)), "UDP_GRO {is_gro}, {server}: {side:#?}");
        }
    }
}
