//! Frames of packet sockets (AF_PACKET), against what the device itself counts and what their processes sent.

use std::{
    net::UdpSocket,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nettop_model::{
    Snapshot,
    drops::{Class, DropReport},
};
use nettop_tests::{
    Moved, Namespace, Nettopd, Process, Stream, app, assert_app, device,
    drops::{lost, packets},
    kernel,
    pairs::{check, set_option, socket},
    rows_of, skip, veth_pair,
};

const ETHERNET_HEADER: usize = 14;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;

/// linux/if_packet.h.
const PACKET_TX_RING: i32 = 13;
const PACKET_VNET_HDR: i32 = 15;
const PACKET_QDISC_BYPASS: i32 = 20;

/// Kprobes do not see the calls, and so no app bytes: docs/coverage.md says so.
fn sees_calls() -> bool {
    std::env::var("NETTOPD_BACKEND").map_or(true, |backend| backend != "kprobe")
}

/// An Ethernet frame to nobody, of IPv4 from 10.0.0.1 to 10.0.0.2 with this protocol, to port 4000.
fn frame(protocol: u8, header: usize, payload: usize) -> Vec<u8> {
    let mut frame = vec![0_u8; ETHERNET_HEADER + IP_HEADER + header + payload];
    frame[5] = 9;
    frame[12] = 0x08;
    let ip = &mut frame[ETHERNET_HEADER..];
    let len = u16::try_from(IP_HEADER + header + payload).unwrap().to_be_bytes();
    ip[..4].copy_from_slice(&[0x45, 0, len[0], len[1]]);
    (ip[8], ip[9]) = (64, protocol);
    ip[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    ip[IP_HEADER..IP_HEADER + 4].copy_from_slice(&[0x9c, 0x40, 0x0f, 0xa0]);
    if header == TCP_HEADER {
        // Its own length, in words.
        ip[IP_HEADER + 12] = 0x50;
    }
    frame
}

fn udp_frame(payload: usize) -> Vec<u8> {
    frame(17, UDP_HEADER, payload)
}

fn address(device: &str) -> libc::sockaddr_ll {
    // SAFETY: all zero is an address without a device.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
    address.sll_protocol = 0x0800_u16.to_be();
    address.sll_halen = 6;
    address.sll_ifindex = nix::net::if_::if_nametoindex(device).unwrap().cast_signed();
    address
}

fn bind_to(socket: &OwnedFd, device: &str) {
    let address = address(device);
    let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
    // SAFETY: the address lives through the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) } as isize);
}

/// Sends on a device, whatever the socket is bound to.
fn send_on(socket: &OwnedFd, device: &str, frame: &[u8]) -> u64 {
    let address = address(device);
    let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
    // SAFETY: the frame and the address live through the call.
    check(unsafe {
        libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const address).cast(), size)
    })
}

fn packet_socket(kind: i32) -> OwnedFd {
    // No protocol: it does not listen.
    socket(libc::AF_PACKET, kind, 0)
}

/// Has the kernel send as many frames as a ring holds, by one call.
fn send_ring(device: &str, frame: &[u8], frames: usize) -> u64 {
    const SLOT: usize = 2048;
    /// `TPACKET_HDRLEN - sizeof(struct sockaddr_ll)`, of version 1.
    const DATA_AT: usize = 32;
    const TP_STATUS_SEND_REQUEST: u64 = 1;
    let socket = packet_socket(libc::SOCK_RAW);
    let size = SLOT * frames;
    let request = [size, 1, SLOT, frames].map(|number| u32::try_from(number).unwrap());
    set_option(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_TX_RING, &request);
    bind_to(&socket, device);
    // SAFETY: the ring is as large as was asked for, and nobody else has it.
    let ring = unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let at = libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_SHARED, socket.as_raw_fd(), 0);
        assert!(at != libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        std::slice::from_raw_parts_mut(at.cast::<u8>(), size)
    };
    let len = u32::try_from(frame.len()).unwrap().to_ne_bytes();
    for slot in ring.chunks_mut(SLOT) {
        slot[8..12].copy_from_slice(&len);
        slot[12..16].copy_from_slice(&len);
        slot[DATA_AT..DATA_AT + frame.len()].copy_from_slice(frame);
        slot[..8].copy_from_slice(&TP_STATUS_SEND_REQUEST.to_ne_bytes());
    }
    // SAFETY: no data is handed over.
    check(unsafe { libc::send(socket.as_raw_fd(), std::ptr::null(), 0, 0) })
}

/// Wire bytes, packets and app bytes that a process sent on a device.
fn sent(document: &Snapshot, pid: u32, device: &str) -> (u64, u64) {
    let rows = rows_of(document, pid);
    let rows = rows.iter().filter(|row| row.device.as_deref() == Some(device));
    rows.map(|row| row.total.tx)
        .map(|tx| (tx.bytes, tx.packets))
        .fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
}

#[test]
fn frames_are_counted_where_a_device_gets_them() {
    const PAYLOAD: usize = 1000;
    const BYTES: u64 = (IP_HEADER + UDP_HEADER + PAYLOAD) as u64;
    let (a, _b) = veth_pair();
    let nettopd = Nettopd::start(&[]);
    let before = a.counters("v0");
    // No device, another device than it is bound to, a ring, a virtio header, no link header, a VLAN's.
    let (pid, moved) = Process::run(Some(&a), |_| {
        let frame = udp_frame(PAYLOAD);
        let mut sent = 0;
        let unbound = packet_socket(libc::SOCK_RAW);
        sent += (0..5).map(|_| send_on(&unbound, "v0", &frame)).sum::<u64>();
        let elsewhere = packet_socket(libc::SOCK_RAW);
        bind_to(&elsewhere, "lo");
        sent += (0..7).map(|_| send_on(&elsewhere, "v0", &frame)).sum::<u64>();
        sent += send_ring("v0", &frame, 32);
        let virtio = packet_socket(libc::SOCK_RAW);
        set_option(virtio.as_raw_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, &1);
        sent += send_on(&virtio, "v0", &[&[0; 10][..], &frame].concat()) - 10;
        let cooked = packet_socket(libc::SOCK_DGRAM);
        sent += send_on(&cooked, "v0", &frame[ETHERNET_HEADER..]);
        let tagged = [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
        sent += send_on(&unbound, "v0", &tagged);
        Moved { sent, received: 0 }
    });
    let document = nettopd.settled();
    let after = a.counters("v0");
    const FRAMES: u64 = 5 + 7 + 32 + 1 + 1 + 1;
    assert_eq!(moved.sent, FRAMES * (BYTES + 14) - 14 + 4);
    // The tag of a VLAN is no header of the device's.
    assert_eq!(sent(&document, pid, "v0"), (FRAMES * BYTES + 4, FRAMES), "{:#?}", rows_of(&document, pid));
    assert_eq!(sent(&document, pid, "lo"), (0, 0));
    if sees_calls() {
        assert_app(&document, pid, moved);
        assert!(
            rows_of(&document, pid).iter().all(|row| row.device.as_deref() == Some("v0")),
            "{:#?}",
            rows_of(&document, pid)
        );
    }
    let tx = &device(&document, a.inode(), "v0").tx;
    assert_eq!((tx.unattributed_bytes, tx.unattributed_packets), (0, 0), "{tx:#?}");
    assert_eq!(tx.packets, after.tx_packets - before.tx_packets);
}

#[test]
fn a_super_frame_counts_the_segments_it_becomes() {
    /// linux/virtio_net.h: checksum to be filled in; TCP of IPv4.
    const NEEDS_CSUM: u8 = 1;
    const GSO_TCPV4: u8 = 1;
    const SEGMENT: u16 = 1000;
    let (a, _b) = veth_pair();
    let nettopd = Nettopd::start(&[]);
    let (pid, _) = Process::run(Some(&a), |_| {
        let frame = frame(6, TCP_HEADER, 4500);
        let headers = u16::try_from(ETHERNET_HEADER + IP_HEADER + TCP_HEADER).unwrap().to_ne_bytes();
        let [size, start] = [SEGMENT, u16::try_from(ETHERNET_HEADER + IP_HEADER).unwrap()].map(u16::to_ne_bytes);
        let virtio =
            [NEEDS_CSUM, GSO_TCPV4, headers[0], headers[1], size[0], size[1], start[0], start[1], 16, 0].to_vec();
        let socket = packet_socket(libc::SOCK_RAW);
        set_option(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, &1);
        Moved { sent: send_on(&socket, "v0", &[virtio, frame].concat()), received: 0 }
    });
    let document = nettopd.settled();
    let headers = (IP_HEADER + TCP_HEADER) as u64;
    assert_eq!(sent(&document, pid, "v0"), (4500 + 5 * headers, 5), "{:#?}", rows_of(&document, pid));
    let tx = &device(&document, a.inode(), "v0").tx;
    assert_eq!((tx.unattributed_bytes, tx.unattributed_packets), (0, 0), "{tx:#?}");
}

#[test]
fn what_the_queue_drops_was_not_sent() {
    let (a, _b) = veth_pair();
    if !a.try_tc("qdisc add dev v0 root tbf rate 8kbit burst 2000 limit 3000") {
        return skip("no tbf");
    }
    let nettopd = Nettopd::start(&[]);
    let before = a.counters("v0");
    let (pid, moved) = Process::run(Some(&a), |_| {
        let socket = packet_socket(libc::SOCK_RAW);
        bind_to(&socket, "v0");
        let frame = udp_frame(500);
        let send = || nix::unistd::write(&socket, &frame).map_or(0, |n| n as u64);
        Moved { sent: (0..20).map(|_| send()).sum(), received: 0 }
    });
    let document = nettopd.settled();
    let tx_packets = a.counters("v0").tx_packets - before.tx_packets;
    let (_, counted) = sent(&document, pid, "v0");
    assert!(counted > 0 && counted <= tx_packets && tx_packets < 20, "{counted} of {tx_packets}: {moved:?}");
}

#[test]
fn a_frame_is_counted_once_whatever_devices_are_below() {
    let (a, _b) = veth_pair();
    if !a.try_ip("link add m0 link v0 type macvlan") {
        return skip("no macvlan");
    }
    a.ip("link set m0 up");
    a.wait_until_up("m0");
    let nettopd = Nettopd::start(&[]);
    let (pid, _) = Process::run(Some(&a), |_| {
        let frame = udp_frame(100);
        let upper = packet_socket(libc::SOCK_RAW);
        bind_to(&upper, "m0");
        (0..5).for_each(|_| assert_eq!(nix::unistd::write(&upper, &frame).unwrap(), frame.len()));
        let lower = packet_socket(libc::SOCK_RAW);
        (0..3).for_each(|_| assert_eq!(send_on(&lower, "v0", &frame), frame.len() as u64));
        Moved::default()
    });
    let document = nettopd.settled();
    assert_eq!((sent(&document, pid, "m0"), sent(&document, pid, "v0")), ((5 * 128, 5), (3 * 128, 3)));
}

#[test]
fn frames_past_the_queue_are_counted_by_call() {
    if kernel() < (6, 4) || !sees_calls() {
        return skip("calls past the queue are not known");
    }
    let (a, _b) = veth_pair();
    let nettopd = Nettopd::start(&[]);
    let (pid, moved) = Process::run(Some(&a), |_| {
        let socket = packet_socket(libc::SOCK_RAW);
        set_option(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_QDISC_BYPASS, &1);
        bind_to(&socket, "v0");
        let frame = udp_frame(100);
        Moved { sent: (0..5).map(|_| nix::unistd::write(&socket, &frame).unwrap() as u64).sum(), received: 0 }
    });
    let document = nettopd.settled();
    assert_eq!(sent(&document, pid, "v0"), (5 * 128, 5));
    assert_app(&document, pid, moved);
}

#[test]
fn frames_are_those_who_send_them_from_the_first_on() {
    let (a, _b) = veth_pair();
    let stream = Stream::packets(&["--port", "4000", "-i", "v0"]);
    // One makes the socket and sends; another inherits it and sends as well.
    let maker = Process::start(Some(&a), |parent| {
        let socket = packet_socket(libc::SOCK_RAW);
        let holder = Process::start(None, |_| {
            send_on(&socket, "v0", &udp_frame(200));
            Moved::default()
        });
        let pid = holder.pid();
        holder.finish();
        send_on(&socket, "v0", &udp_frame(100));
        parent.send_number(pid.into());
        Moved::default()
    });
    let child = u32::try_from(maker.wait_until_ready()).unwrap();
    let pid = maker.pid();
    maker.finish();
    let result = stream.stop();
    let sent = result.events.iter().filter(|event| event.direction == "tx" && event.netns == a.inode());
    let sent: Vec<_> = sent.map(|event| (event.bytes, event.pid)).collect();
    assert_eq!(sent, [(228, Some(child)), (128, Some(pid))]);
}

/// Sends to itself over lo, where a sniffer listens.
fn noise(namespace: &Namespace, packets: usize) {
    namespace.enter(|| {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        for _ in 0..packets {
            sender.send_to(&[0; 1000], to).unwrap();
            receiver.recv(&mut [0; 1000]).unwrap();
        }
    });
}

#[test]
fn what_a_sniffer_is_too_slow_for_is_not_lost_traffic() {
    if kernel() < (5, 17) {
        return skip("packets are freed without a word");
    }
    let alone = Namespace::new();
    let nettopd = Nettopd::start(&[]);
    let sniffer = Process::start(Some(&alone), |parent| {
        let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(0x0003_u16.to_be()));
        set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, &2304);
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    sniffer.wait_until_ready();
    noise(&alone, 100);
    let document = nettopd.settled();
    let dropped = lost(&document, &alone);
    assert!(packets(&dropped) > 90, "{dropped:#?}");
    let is_others = |drop: &&DropReport| drop.class != Class::Capture || drop.pid.is_some();
    assert!(!dropped.iter().any(is_others), "{dropped:#?}");
    // From here on its holder is known.
    noise(&alone, 100);
    let document = nettopd.settled();
    let dropped = lost(&document, &alone);
    if dropped.iter().any(|drop| drop.reason == "PACKET_SOCK_ERROR") {
        let own: Vec<&DropReport> = dropped.into_iter().filter(|drop| drop.pid == Some(sniffer.pid())).collect();
        assert!(packets(&own) > 90, "{own:#?}");
        assert!(own.iter().all(|drop| drop.device.as_deref() == Some("lo") && drop.owner == "receiver"), "{own:#?}");
    }
    assert!(rows_of(&document, sniffer.pid()).iter().all(|row| row.drops.total == 0));
    assert_eq!(app(&document, sniffer.pid()), Moved::default());
}
