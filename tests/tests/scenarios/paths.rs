//! The ways bytes take besides plain send and receive. Each scenario's own processes know what they moved; the device
//! knows what passed.

mod rings;

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nettop_tests::{
    Moved, Namespace, Nettopd, Process, Sniffer, assert_app, device, kernel,
    pairs::{check, finish_at, read_all, set_option, socket, tcp_pair, udp_pair, udp_pair_in},
    skip, wire,
};
use nix::{
    fcntl::{SpliceFFlags, splice},
    sys::{
        memfd::{MFdFlags, memfd_create},
        sendfile::sendfile,
    },
};

/// Sends a file of this size.
fn send_file(stream: &TcpStream, size: u64) -> Moved {
    let file = File::from(memfd_create(c"data", MFdFlags::empty()).unwrap());
    file.set_len(size).unwrap();
    let (mut sent, mut offset) = (0, 0);
    while sent < size {
        sent += sendfile(stream, &file, Some(&mut offset), 100_000).unwrap() as u64;
    }
    Moved { sent, received: 0 }
}

#[test]
fn sendfile_is_sending() {
    tcp_pair(read_all, |stream| send_file(stream, 300_001));
}

#[test]
fn splice_is_sending_and_receiving() {
    let take = |stream: TcpStream| {
        let (out, into) = nix::unistd::pipe().unwrap();
        let null = File::options().write(true).open("/dev/null").unwrap();
        let mut received = 0;
        loop {
            let n = splice(&stream, None, &into, None, 30_000, SpliceFFlags::empty()).unwrap();
            if n == 0 {
                return Moved { sent: 0, received };
            }
            received += n as u64;
            let mut left = n;
            while left > 0 {
                left -= splice(&out, None, &null, None, left, SpliceFFlags::empty()).unwrap();
            }
        }
    };
    tcp_pair(take, |stream| {
        let (out, into) = nix::unistd::pipe().unwrap();
        let mut sent = 0;
        for _ in 0..50 {
            let n = nix::unistd::write(&into, &[1; 4001]).unwrap();
            sent += splice(&out, None, stream, None, n, SpliceFFlags::empty()).unwrap() as u64;
        }
        Moved { sent, received: 0 }
    });
}

#[test]
fn many_messages_in_one_call_are_each_counted() {
    const MESSAGES: usize = 10;
    let headers = |parts: &mut [libc::iovec]| -> Vec<libc::mmsghdr> {
        let header = |part: &mut libc::iovec| {
            // SAFETY: all zero is a header without address and control data.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header
        };
        parts.iter_mut().map(header).collect()
    };
    let parts = |buffers: &mut [Vec<u8>]| -> Vec<libc::iovec> {
        let part = |buffer: &mut Vec<u8>| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        buffers.iter_mut().map(part).collect()
    };
    let receive = move |socket: UdpSocket| {
        let mut buffers = vec![vec![0; 2000]; MESSAGES];
        let mut parts = parts(&mut buffers);
        let mut headers = headers(&mut parts);
        let (mut received, mut messages) = (0, 0);
        while messages < MESSAGES {
            // SAFETY: headers, parts and buffers live on.
            let n = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    u32::try_from(MESSAGES - messages).unwrap(),
                    libc::MSG_WAITFORONE,
                    std::ptr::null_mut(),
                )
            };
            let n = usize::try_from(check(n as isize)).unwrap();
            received += headers[..n].iter().map(|header| u64::from(header.msg_len)).sum::<u64>();
            messages += n;
        }
        Moved { sent: 0, received }
    };
    udp_pair(receive, move |socket| {
        let mut buffers: Vec<Vec<u8>> = (0..MESSAGES).map(|n| vec![0; 100 * n + 1]).collect();
        let mut parts = parts(&mut buffers);
        let mut headers = headers(&mut parts);
        let count = u32::try_from(MESSAGES).unwrap();
        // SAFETY: as above.
        check(unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, 0) } as isize);
        Moved { sent: headers.iter().map(|header| u64::from(header.msg_len)).sum(), received: 0 }
    });
}

#[test]
fn zero_copy_is_counted_once_and_its_notices_are_not_received_data() {
    tcp_pair(read_all, |stream| {
        let fd = stream.as_raw_fd();
        set_option(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, &1_i32);
        let data = vec![3_u8; 50_000];
        let mut sent = 0;
        for _ in 0..4 {
            // SAFETY: the data lives until the notices have come.
            sent += check(unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), libc::MSG_ZEROCOPY) });
        }
        // Over lo the kernel does copy, and reports it at once.
        let (mut buffer, mut control) = ([0_u8; 100], [0_u64; 32]);
        let mut notices = 0;
        for _ in 0..1000 {
            let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            // SAFETY: all zero is a header without address and control data.
            let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&control) as _;
            // SAFETY: the header points to live buffers.
            notices += i32::from(unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_ERRQUEUE) } >= 0);
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        assert!(notices > 0, "no notice came");
        Moved { sent, received: 0 }
    });
}

#[test]
fn waiting_for_all_and_throwing_away_are_receiving() {
    let take = |stream: TcpStream| {
        let mut buffer = [0_u8; 5000];
        let mut receive = |flags: i32, len: usize| {
            // SAFETY: the buffer is longer than `len`.
            check(unsafe { libc::recv(stream.as_raw_fd(), buffer.as_mut_ptr().cast(), len, flags) })
        };
        let waited = receive(libc::MSG_WAITALL, 5000);
        // TCP takes the bytes from the stream and gives none.
        let thrown = receive(libc::MSG_WAITALL | libc::MSG_TRUNC, 1000);
        let rest = read_all(stream).received;
        Moved { sent: 0, received: waited + thrown + rest }
    };
    tcp_pair(take, |mut stream| {
        for _ in 0..6 {
            stream.write_all(&[0; 1000]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Moved { sent: 6000, received: 0 }
    });
}

#[test]
fn a_send_that_takes_a_part_counts_that_part() {
    tcp_pair(
        |stream| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            read_all(stream)
        },
        |mut stream| {
            stream.set_nonblocking(true).unwrap();
            let data = vec![0; 200_000];
            let mut sent = 0;
            while let Ok(n) = stream.write(&data) {
                sent += n as u64;
            }
            assert!(sent % 200_000 != 0, "no send was partial: {sent}");
            Moved { sent, received: 0 }
        },
    );
}

#[test]
fn segmented_datagrams_count_as_sent_and_as_received_together() {
    let take = |socket: UdpSocket| {
        set_option(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, &1_i32);
        let mut buffer = vec![0; 1 << 16];
        let mut received = 0;
        while received < 9_500 {
            received += socket.recv(&mut buffer).unwrap() as u64;
        }
        Moved { sent: 0, received }
    };
    let give = |socket: UdpSocket| {
        // The receiver's option has to be set first.
        std::thread::sleep(std::time::Duration::from_millis(100));
        set_option(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, &1000_i32);
        Moved { sent: socket.send(&vec![0; 9_500]).unwrap() as u64, received: 0 }
    };
    // Ten segments. No sniffer: not every kernel describes such packets.
    udp_pair_in(&Namespace::new(), take, give, |_| Moved { sent: 0, received: 9_500 + 10 * 28 });
}

#[test]
fn a_corked_datagram_counts_each_call() {
    let take = |socket: UdpSocket| Moved { sent: 0, received: socket.recv(&mut [0; 500]).unwrap() as u64 };
    udp_pair(take, |socket| {
        let send = |len: usize, flags: i32| {
            // SAFETY: the buffer holds `len` bytes.
            check(unsafe { libc::send(socket.as_raw_fd(), [0_u8; 200].as_ptr().cast(), len, flags) })
        };
        Moved { sent: send(100, libc::MSG_MORE) + send(50, 0), received: 0 }
    });
}

/// Sends `data` to an address of lo and receives once.
fn echo(socket: &OwnedFd, to: SocketAddr, data: &[u8]) -> Moved {
    use nix::sys::socket::{MsgFlags, SockaddrStorage, recv, sendto};
    let sent = sendto(socket.as_raw_fd(), data, &SockaddrStorage::from(to), MsgFlags::empty()).unwrap();
    let received = recv(socket.as_raw_fd(), &mut [0; 1000], MsgFlags::empty()).unwrap();
    Moved { sent: sent as u64, received: received as u64 }
}

/// One process that sends to itself or the kernel, and has `passed` on the wire.
fn alone_with(passed: Moved, work: impl FnOnce() -> Moved) {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let (pid, moved) = Process::run(Some(&alone), |_| work());
    let document = nettopd.settled();
    assert_app(&document, pid, moved);
    assert_eq!(wire(&document, pid), passed, "{:#?}", document.rows);
}

#[test]
fn ping_sockets_are_counted_in_both_versions() {
    const ECHO_REQUEST_V4: u8 = 8;
    const ECHO_REQUEST_V6: u8 = 128;
    // With IP headers, there and back.
    const BYTES: u64 = 20 + 72 + 40 + 72;
    alone_with(Moved { sent: BYTES, received: BYTES }, || {
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap();
        let mut data = [0; 72];
        data[0] = ECHO_REQUEST_V4;
        let v4 = socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP);
        let v4 = echo(&v4, (Ipv4Addr::LOCALHOST, 0).into(), &data);
        data[0] = ECHO_REQUEST_V6;
        let v6 = socket(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6);
        let v6 = echo(&v6, (Ipv6Addr::LOCALHOST, 0).into(), &data);
        Moved { sent: v4.sent + v6.sent, received: v4.received + v6.received }
    });
}

#[test]
fn raw_sockets_of_an_own_protocol_are_counted_in_both_versions() {
    /// For experiments, RFC 3692.
    const PROTOCOL: i32 = 253;
    const BYTES: u64 = 20 + 80 + 40 + 80;
    alone_with(Moved { sent: BYTES, received: BYTES }, || {
        let v4 = socket(libc::AF_INET, libc::SOCK_RAW, PROTOCOL);
        let v4 = echo(&v4, (Ipv4Addr::LOCALHOST, 0).into(), &[1; 80]);
        let v6 = socket(libc::AF_INET6, libc::SOCK_RAW, PROTOCOL);
        let v6 = echo(&v6, (Ipv6Addr::LOCALHOST, 0).into(), &[1; 80]);
        // IPv4 gives its header to the program.
        assert_eq!((v4.received, v6.received), (100, 80));
        Moved { sent: v4.sent + v6.sent, received: v4.received + v6.received }
    });
}

#[test]
fn mptcp_counts_the_program_once_and_its_packets_on_lo() {
    if kernel() < (6, 1) {
        return skip("no MPTCP");
    }
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let sniffer = Sniffer::start(&alone);
    let server = Process::start(Some(&alone), |parent| {
        let listener = socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP);
        let address = nix::sys::socket::SockaddrIn::new(127, 0, 0, 1, 5001);
        nix::sys::socket::bind(listener.as_raw_fd(), &address).unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(5).unwrap()).unwrap();
        parent.signal_ready();
        let stream = TcpListener::from(listener).accept().unwrap().0;
        read_all(stream)
    });
    server.wait_until_ready();
    let client = Process::start(Some(&alone), |_| {
        let stream = socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP);
        let address = nix::sys::socket::SockaddrIn::new(127, 0, 0, 1, 5001);
        nix::sys::socket::connect(stream.as_raw_fd(), &address).unwrap();
        let mut stream = TcpStream::from(stream);
        stream.write_all(&[5; 70_000]).unwrap();
        // Before 6.5 by a call of its own, which MPTCP hands on to the one for writing.
        send_file(&stream, 30_000);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        Moved { sent: 100_000, received: 0 }
    });
    let (document, pids) = finish_at(&nettopd, [server, client]);
    // Subflows are sockets of the kernel's: docs/coverage.md says so.
    let passed = sniffer.local(5001);
    let packets = passed.sent + passed.received;
    assert_eq!(pids.map(|pid| wire(&document, pid)), [Moved::default(); 2]);
    let balance = device(&document, alone.inode(), "lo");
    assert!(packets > 100_000);
    // Before 6.11 what comes to a connection in TIME_WAIT is nobody's.
    let unseen = if kernel() < (6, 11) { balance.rx.unattributed_bytes } else { 0 };
    assert_eq!([balance.tx.kernel_bytes, balance.rx.kernel_bytes + unseen], [packets; 2], "{balance:#?}");
}

#[test]
fn frames_of_packet_sockets_are_billed_on_their_device() {
    const ETH_P_ARP: u16 = 0x0806;
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let before = alone.counters("lo");
    let (pid, moved) = Process::run(Some(&alone), |_| {
        // No ETH_P_ALL: listening to all would be another matter.
        let bound = socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        // SAFETY: all zero is an address without a device.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        address.sll_protocol = ETH_P_ARP.to_be();
        address.sll_ifindex = 1;
        let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
        // SAFETY: the address lives through the call.
        check(unsafe { libc::bind(bound.as_raw_fd(), (&raw const address).cast(), size) } as isize);
        let mut frame = [0_u8; 60];
        frame[12..14].copy_from_slice(&ETH_P_ARP.to_be_bytes());
        let sent = (0..7).map(|_| nix::unistd::write(&bound, &frame).unwrap() as u64).sum();
        Moved { sent, received: 0 }
    });
    let document = nettopd.settled();
    let after = alone.counters("lo");
    if std::env::var("NETTOPD_BACKEND").is_ok_and(|backend| backend == "kprobe") {
        // Kprobes do not reach them: docs/coverage.md says so.
        assert_app(&document, pid, Moved::default());
        return;
    }
    assert_app(&document, pid, moved);
    let tx = &device(&document, alone.inode(), "lo").tx;
    assert_eq!(wire(&document, pid), Moved { sent: after.tx_bytes - before.tx_bytes, received: 0 });
    assert_eq!(tx.bytes, after.tx_bytes - before.tx_bytes);
    assert_eq!((tx.attributed_packets, tx.unattributed_bytes), (7, 0), "{tx:#?}");
}
