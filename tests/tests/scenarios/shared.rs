//! Packets that several sockets receive: each receiver's row has them, and the device still balances.

use std::{
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::Duration,
};

use nettop_model::Snapshot;
use nettop_tests::{
    Moved, Namespace, Nettopd, Process, Sniffer, assert_app, device, directions,
    drops::{drops, lost, packets},
    join, kernel,
    pairs::{set_option, socket},
    skip, veth_pair, wire,
};
use nix::sys::socket::{MsgFlags, SockaddrIn, SockaddrIn6, sendto};

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 1);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x1234);
const DATAGRAMS: u64 = 10;
const SIZE: u64 = 100;

/// A socket at a port that others of this user may share.
fn shared_socket(bind: &str) -> UdpSocket {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind as bind_to, setsockopt, sockopt};
    let address: std::net::SocketAddr = bind.parse().unwrap();
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = nix::sys::socket::socket(family, SockType::Datagram, SockFlag::empty(), None).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    bind_to(socket.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// A process that joins and receives all.
fn receiver(namespace: &Namespace, bind: &'static str, joins: impl Fn(&UdpSocket)) -> Process {
    let process = Process::start(Some(namespace), |parent| {
        let socket = shared_socket(bind);
        joins(&socket);
        parent.signal_ready();
        let mut moved = Moved::default();
        for _ in 0..DATAGRAMS {
            moved.received += socket.recv(&mut [0; 1000]).unwrap() as u64;
        }
        moved
    });
    process.wait_until_ready();
    process
}

/// What is neither a process's nor the kernel's on a device is what the sniffer saw of neighbours and memberships.
fn assert_rest(document: &Snapshot, namespace: &Namespace, name: &str, sniffer: &Sniffer) {
    let frames = sniffer.frames();
    let found = [
        frames.arp_tx_bytes + frames.icmpv6_tx_bytes + frames.igmp_tx_bytes,
        frames.arp_rx_bytes + frames.icmpv6_rx_bytes + frames.igmp_rx_bytes,
    ];
    for ((direction, side), found) in directions(device(document, namespace.inode(), name)).into_iter().zip(found) {
        let rest = side.unattributed_bytes + side.kernel_bytes + 14 * side.kernel_packets;
        assert_eq!(rest, found, "{name} {direction}: {side:#?} {frames:?} {:#?}", document.rows);
    }
}

/// A sender and two receivers in one namespace, a third beyond a veth pair.
fn groupcast(bind: &'static str, to: &'static str, joins: impl Fn(&UdpSocket) + Copy, from: impl FnOnce(&UdpSocket)) {
    let nettopd = Nettopd::start(&[]);
    let (a, b) = (Namespace::new(), Namespace::new());
    let sniffers = (Sniffer::start(&a), Sniffer::start(&b));
    join(&a, &b);
    a.ip("route add 224.0.0.0/4 dev v0");
    b.ip("route add 224.0.0.0/4 dev v1");
    let receivers = [receiver(&a, bind, joins), receiver(&a, bind, joins), receiver(&b, bind, joins)];
    // Memberships are announced several times, milliseconds apart: nothing shows which is the last.
    std::thread::sleep(Duration::from_millis(300));
    let (sender, sent) = Process::run(Some(&a), |_| {
        let socket = UdpSocket::bind(if bind.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
        from(&socket);
        for number in 0..DATAGRAMS {
            // Some are alike: packets need not differ.
            socket.send_to(&[u8::try_from(number % 3).unwrap(); SIZE as usize], to).unwrap();
        }
        Moved { sent: DATAGRAMS * SIZE, received: 0 }
    });
    let pids = receivers.each_ref().map(Process::pid);
    let received = receivers.map(Process::finish);
    // Announcements of membership go on for a while: take a document while none comes.
    let (document, _) = loop {
        let before = (sniffers.0.frames(), sniffers.1.frames());
        let document = nettopd.settled();
        if before == (sniffers.0.frames(), sniffers.1.frames()) {
            break (document, before);
        }
    };
    assert_app(&document, sender, sent);
    for (pid, moved) in pids.into_iter().zip(received) {
        assert_eq!(moved.received, DATAGRAMS * SIZE);
        assert_app(&document, pid, moved);
    }
    assert_rest(&document, &a, "v0", &sniffers.0);
    assert_rest(&document, &b, "v1", &sniffers.1);
}

#[test]
fn multicast_v4_is_each_receivers_and_the_devices_once() {
    let joins = |socket: &UdpSocket| socket.join_multicast_v4(&GROUP_V4, &Ipv4Addr::UNSPECIFIED).unwrap();
    groupcast("0.0.0.0:5000", "239.1.1.1:5000", joins, |_| {});
}

#[test]
fn multicast_v6_is_each_receivers_and_the_devices_once() {
    let joins = |socket: &UdpSocket| {
        let index = |name: &str| nix::net::if_::if_nametoindex(name).ok();
        socket.join_multicast_v6(&GROUP_V6, index("v0").or(index("v1")).unwrap()).unwrap();
    };
    let from = |socket: &UdpSocket| {
        nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::Ipv6MulticastHops, &5).unwrap();
    };
    groupcast("[::]:5000", "[ff05::1234]:5000", joins, from);
}

#[test]
fn broadcast_is_each_receivers_and_the_devices_once() {
    groupcast("0.0.0.0:5000", "10.0.0.255:5000", |_| {}, |socket| socket.set_broadcast(true).unwrap());
}

/// A raw socket that never reads.
fn raw(protocol: i32) -> OwnedFd {
    // SAFETY: a plain system call; the descriptor is ours.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_RAW, protocol);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}

#[test]
fn what_raw_sockets_listen_to_is_counted_by_the_device_once() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let listener = Process::start(Some(&alone), |parent| {
        let _sockets = [raw(libc::IPPROTO_UDP), raw(libc::IPPROTO_ICMP), raw(libc::IPPROTO_ICMP)];
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    listener.wait_until_ready();
    let (pid, moved) = Process::run(Some(&alone), |_| {
        let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        for _ in 0..DATAGRAMS {
            from.send_to(&[0; 50], to.local_addr().unwrap()).unwrap();
            to.recv(&mut [0; 50]).unwrap();
        }
        // A closed port: its ICMP error goes to the raw sockets, and to the sender.
        from.send_to(&[0; 50], "127.0.0.1:1").unwrap();
        Moved { sent: 50 * DATAGRAMS + 50, received: 50 * DATAGRAMS }
    });
    let document = nettopd.settled();
    assert_app(&document, pid, moved);
    let balance = device(&document, alone.inode(), "lo");
    for (direction, side) in directions(balance) {
        assert_eq!(side.unattributed_packets, 0, "{direction}: {balance:#?} {:#?}", document.rows);
    }
    // Eleven datagrams and one error, each received once more than it passed.
    assert_eq!(balance.rx.copied_packets, DATAGRAMS + 2, "{balance:#?}");
}

/// Asks for an echo `times` times, by a socket that reads the answers or by one that only sends.
fn echo(ipv6: bool, times: u16, reads: bool) -> Moved {
    const PAYLOAD: usize = 1000;
    let mut request = vec![if ipv6 { 128 } else { 8 }, 0, 0, 0, 0, 77, 0, 0];
    request.extend([0; PAYLOAD]);
    let (family, protocol) =
        if ipv6 { (libc::AF_INET6, libc::IPPROTO_ICMPV6) } else { (libc::AF_INET, libc::IPPROTO_ICMP) };
    let asking = socket(family, libc::SOCK_RAW, protocol);
    if !reads {
        // ICMP_FILTER and ICMP6_FILTER: nothing passes.
        set_option(asking.as_raw_fd(), if ipv6 { libc::IPPROTO_ICMPV6 } else { 255 }, 1, &[u32::MAX; 8]);
    }
    let mut moved = Moved::default();
    for number in 0..times {
        request[2..4].fill(0);
        request[6..8].copy_from_slice(&number.to_be_bytes());
        let sum: u32 = request.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        // The kernel fills in that of ICMPv6.
        request[2..4].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
        moved.sent += if ipv6 {
            let to = SockaddrIn6::from(std::net::SocketAddrV6::new("fd00::2".parse().unwrap(), 0, 0, 0));
            sendto(asking.as_raw_fd(), &request, &to, MsgFlags::empty()).unwrap() as u64
        } else {
            sendto(asking.as_raw_fd(), &request, &SockaddrIn::new(10, 0, 0, 2, 0), MsgFlags::empty()).unwrap() as u64
        };
        let mut answer = [0; 2000];
        // Neighbour discovery comes by as well.
        let mut awaits = reads;
        while awaits {
            let received = nix::unistd::read(&asking, &mut answer).unwrap();
            moved.received += received as u64;
            awaits = received < PAYLOAD;
        }
    }
    moved
}

#[test]
fn echo_replies_that_a_raw_socket_takes_are_its_own() {
    if kernel() < (5, 19) {
        return skip("packets for nobody have no reason");
    }
    for (ipv6, headers) in [(false, 20), (true, 40)] {
        let (a, _b) = veth_pair();
        let nettopd = Nettopd::start(&[]);
        let (pid, moved) = Process::run(Some(&a), |_| echo(ipv6, 20, true));
        let document = nettopd.settled();
        assert_app(&document, pid, moved);
        let sniffed = |document: &Snapshot| device(document, a.inode(), "v0").rx;
        let rx = sniffed(&document);
        let replies = 20 * (headers + 8 + 1000);
        assert!(wire(&document, pid).received >= replies, "{rx:#?}");
        assert!(rx.kernel_bytes < 1000, "{rx:#?}");
        assert_eq!(rx.pending_bytes, 0, "{rx:#?}");
        // Some kernels free neighbours' messages as dropped.
        assert!(drops(&document, &a, "NO_SOCKET").is_empty(), "{:#?}", lost(&document, &a));
        assert!(packets(&lost(&document, &a)) < 20, "{:#?}", lost(&document, &a));
        // What no socket takes is the kernel's, with reason `NO_SOCKET`.
        Process::run(Some(&a), |_| echo(ipv6, 5, false));
        let document = nettopd.settled();
        let kernels = sniffed(&document).kernel_bytes;
        assert!((5000..6000).contains(&(kernels - rx.kernel_bytes)), "{:#?}", sniffed(&document));
        assert_eq!(packets(&drops(&document, &a, "NO_SOCKET")), 5, "{:#?}", lost(&document, &a));
    }
}
