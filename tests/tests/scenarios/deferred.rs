//! Packets that leave outside of their sender's call: those of DCCP and L2TP, which have queues of their own, and of IPsec
//! with a cipher that works in the background.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
};

use nettop_model::Snapshot;
use nettop_tests::{
    Moved, Namespace, Nettopd, Parent, Process, Stream, app, assert_app, device,
    pairs::{check, set_option, socket},
    skip, veth_pair, wire,
};
use nix::sys::socket::{Backlog, SockaddrIn, bind, connect, listen};

/// As many as find room in a socket.
const PACKETS: u64 = 50;
const SIZE: usize = 1000;
const APP: u64 = PACKETS * SIZE as u64;

fn has_sockets(family: i32, kind: i32, protocol: i32) -> bool {
    // SAFETY: a plain system call; the descriptor lives as long as the process.
    unsafe { libc::socket(family, kind, protocol) >= 0 }
}

/// Whether what such sockets take is seen: docs/coverage.md names the back end that does not.
fn sees_receivers() -> bool {
    std::env::var("NETTOPD_BACKEND").map_or(true, |backend| backend != "kprobe")
}

/// Takes so many packets, and stays.
fn receive(socket: &UdpSocket, parent: &Parent, then: impl FnOnce()) -> Moved {
    let received = (0..PACKETS).map(|_| socket.recv(&mut [0; 2 * SIZE]).unwrap() as u64).sum();
    then();
    parent.signal_ready();
    parent.wait_for_parent();
    Moved { sent: 0, received }
}

/// Has the client, which sends how much it sent, and the server talk. Both stay.
fn run(nettopd: &Nettopd, client: &Process, server: &Process) -> Arc<Snapshot> {
    let sent = client.wait_until_ready();
    server.wait_until_ready();
    let document = nettopd.settled();
    assert_app(&document, client.pid(), Moved { sent, received: 0 });
    let received = if sees_receivers() { APP } else { app(&document, server.pid()).received };
    assert_app(&document, server.pid(), Moved { sent: 0, received });
    document
}

#[test]
fn what_dccp_queues_is_its_senders() {
    const SOCK_DCCP: i32 = 6;
    const IPPROTO_DCCP: i32 = 33;
    const SOL_DCCP: i32 = 269;
    const DCCP_SOCKOPT_SERVICE: i32 = 2;
    if !has_sockets(libc::AF_INET, SOCK_DCCP, IPPROTO_DCCP) {
        return skip("no DCCP");
    }
    let open = || {
        let socket = socket(libc::AF_INET, SOCK_DCCP, IPPROTO_DCCP);
        set_option(socket.as_raw_fd(), SOL_DCCP, DCCP_SOCKOPT_SERVICE, &1_u32.to_be());
        socket
    };
    let address = SockaddrIn::new(127, 0, 0, 1, 5001);
    let (taken, is_taken) = UnixStream::pair().unwrap();
    is_taken.set_nonblocking(true).unwrap();
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = open();
        bind(listener.as_raw_fd(), &address).unwrap();
        listen(&listener, Backlog::new(5).unwrap()).unwrap();
        parent.signal_ready();
        let connection = OwnedFd::from(TcpListener::from(listener).accept().unwrap().0);
        receive(&connection.into(), parent, || (&taken).write_all(&[1]).unwrap())
    });
    server.wait_until_ready();
    let client = Process::start(Some(&alone), |parent| {
        let connection = open();
        connect(connection.as_raw_fd(), &address).unwrap();
        let connection = UdpSocket::from(connection);
        // The first may be lost: it overtakes the end of the handshake.
        let mut sent = 0;
        while (&is_taken).read(&mut [0]).is_err() {
            match connection.send(&[5; SIZE]) {
                Ok(bytes) => sent += bytes as u64,
                // Its queue has room for five.
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        parent.send_number(sent);
        parent.wait_for_parent();
        Moved { sent, received: 0 }
    });
    let document = run(&nettopd, &client, &server);
    let [of_client, of_server] = [&client, &server].map(|process| wire(&document, process.pid()));
    let balance = device(&document, alone.inode(), "lo");
    assert_eq!(of_client.received, of_server.sent, "{:#?}", document.rows);
    assert_eq!(of_client.sent + of_server.sent, balance.tx.bytes, "{:#?}", document.rows);
    assert_eq!(
        (balance.tx.unattributed_bytes, balance.rx.attributed_bytes),
        (0, of_client.received + of_server.received)
    );
    // What completes the handshake passes no socket.
    assert_eq!(balance.rx.unattributed_packets, 1, "{balance:#?}");
}

#[test]
fn what_l2tp_receives_is_counted_once() {
    const IPPROTO_L2TP: i32 = 115;
    const HEADER_BYTES: u64 = 20 + 4;
    /// `struct sockaddr_l2tpip`, linux/l2tp.h.
    #[repr(C)]
    struct Address {
        family: u16,
        unused: u16,
        address: u32,
        connection: u32,
        padding: u32,
    }
    if !has_sockets(libc::AF_INET, libc::SOCK_DGRAM, IPPROTO_L2TP) {
        return skip("no L2TP");
    }
    let address_bytes = libc::socklen_t::try_from(size_of::<Address>()).unwrap();
    let address = |connection| Address {
        family: libc::sa_family_t::try_from(libc::AF_INET).unwrap(),
        unused: 0,
        address: u32::from_ne_bytes([127, 0, 0, 1]),
        connection,
        padding: 0,
    };
    let open = |connection| {
        let (socket, address) = (socket(libc::AF_INET, libc::SOCK_DGRAM, IPPROTO_L2TP), address(connection));
        // SAFETY: the kernel reads a live address of this size.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), address_bytes) } as isize);
        UdpSocket::from(socket)
    };
    let nettopd = Nettopd::start(&[]);
    let stream = Stream::packets(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let socket = open(2);
        parent.signal_ready();
        receive(&socket, parent, || ())
    });
    server.wait_until_ready();
    let client = Process::start(Some(&alone), |parent| {
        let (socket, address) = (open(1), address(2));
        // A control message of version 3 for connection 2.
        let mut message = [0_u8; SIZE];
        message[..8].copy_from_slice(&[0xc8, 3, 0, 0, 0, 0, 0, 2]);
        let send = |_| {
            let (message, address) = (message.as_ptr().cast(), (&raw const address).cast());
            // SAFETY: the kernel reads a live message and a live address of these sizes.
            check(unsafe { libc::sendto(socket.as_raw_fd(), message, SIZE, 0, address, address_bytes) })
        };
        let sent = (0..PACKETS).map(send).sum();
        parent.send_number(sent);
        parent.wait_for_parent();
        Moved { sent, received: 0 }
    });
    let document = run(&nettopd, &client, &server);
    let passed = APP + PACKETS * HEADER_BYTES;
    assert_eq!(wire(&document, client.pid()), Moved { sent: passed, received: 0 }, "{:#?}", document.rows);
    assert_eq!(wire(&document, server.pid()), Moved { sent: 0, received: passed }, "{:#?}", document.rows);
    nettop_tests::pairs::assert_balanced(&document, &alone);
    let result = stream.stop();
    for (direction, process) in [("tx", &client), ("rx", &server)] {
        let shown = result.events.iter().filter(|event| event.netns == alone.inode() && event.direction == direction);
        let shown: Vec<_> = shown.map(|event| (event.pid, u64::from(event.bytes))).collect();
        assert_eq!(shown, vec![(Some(process.pid()), passed / PACKETS); PACKETS as usize], "{direction}");
    }
}

/// Has the kernel make a cipher, by its name or that of its driver.
fn make_cipher(name: &str) {
    /// `struct sockaddr_alg`, linux/if_alg.h.
    #[repr(C)]
    struct Cipher {
        family: u16,
        kind: [u8; 14],
        feature: u32,
        mask: u32,
        name: [u8; 64],
    }
    let mut cipher = Cipher {
        family: libc::sa_family_t::try_from(libc::AF_ALG).unwrap(),
        kind: [0; 14],
        feature: 0,
        mask: 0,
        name: [0; 64],
    };
    cipher.kind[..4].copy_from_slice(b"aead");
    cipher.name[..name.len()].copy_from_slice(name.as_bytes());
    let socket = socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0);
    let cipher_bytes = libc::socklen_t::try_from(size_of::<Cipher>()).unwrap();
    // The socket itself may lack something else: what was made shows in /proc/crypto.
    // SAFETY: the kernel reads a live address of this size.
    let _ = unsafe { libc::bind(socket.as_raw_fd(), (&raw const cipher).cast(), cipher_bytes) };
}

/// Has a cipher work in the background from now on: its parallel driver is preferred once it is made. It is asked for by
/// its whole name, or each question would make another around it.
fn defer_cipher(name: &str) {
    make_cipher(name);
    let ciphers = fs::read_to_string("/proc/crypto").unwrap();
    let mut values = ciphers.lines().map(|line| line.split(": ").nth(1).unwrap_or_default());
    values.find(|value| *value == name);
    make_cipher(&format!("pcrypt({})", values.next().unwrap_or_default()));
}

#[test]
fn what_ipsec_encrypts_in_the_background_is_its_senders() {
    const CIPHER: &str = "rfc4309(ccm(aes))";
    const KEY: &str = "0x00112233445566778899aabbccddeeff001122";
    /// IPv4, UDP, number and sequence, initialization vector, padding to 4 bytes with its length and the protocol, tag.
    const SENT_BYTES: u64 = 20 + 8 + 8 + 8 + SIZE as u64 + 4 + 16;
    const RECEIVED_BYTES: u64 = 20 + 8 + SIZE as u64;
    if has_sockets(libc::AF_ALG, libc::SOCK_SEQPACKET, 0) {
        defer_cipher(CIPHER);
    }
    let (a, b) = veth_pair();
    let ends = "src 10.0.0.1 dst 10.0.0.2";
    for namespace in [&a, &b] {
        let state = format!("xfrm state add {ends} proto esp spi 1 mode transport aead {CIPHER} {KEY} 128");
        if !namespace.try_ip(&state) {
            return skip("no IPsec");
        }
    }
    let nettopd = Nettopd::start(&[]);
    a.ip(&format!("xfrm policy add {ends} dir out tmpl {ends} proto esp mode transport"));
    let ciphers = fs::read_to_string("/proc/crypto").unwrap();
    if !ciphers.contains("pcrypt(") {
        return skip("no ciphers that work in the background");
    }
    assert!(ciphers.contains("seqiv(pcrypt(rfc4309("), "it works at once: {ciphers}");
    let server = Process::start(Some(&b), |parent| {
        let socket = UdpSocket::bind("10.0.0.2:7000").unwrap();
        parent.signal_ready();
        receive(&socket, parent, || ())
    });
    server.wait_until_ready();
    let client = Process::start(Some(&a), |parent| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        let sent = (0..PACKETS).map(|_| socket.send_to(&[5; SIZE], "10.0.0.2:7000").unwrap() as u64).sum();
        parent.send_number(sent);
        parent.wait_for_parent();
        Moved { sent, received: 0 }
    });
    let document = run(&nettopd, &client, &server);
    assert_eq!(wire(&document, client.pid()), Moved { sent: PACKETS * SENT_BYTES, received: 0 });
    assert_eq!(wire(&document, server.pid()), Moved { sent: 0, received: PACKETS * RECEIVED_BYTES });
    // Beside them only the kernel sends, to its neighbours.
    let others = document.rows.iter().filter(|row| [a.inode(), b.inode()].contains(&row.netns));
    let pids: Vec<u32> = others.map(|row| row.pid).filter(|pid| ![client.pid(), server.pid()].contains(pid)).collect();
    assert!(pids.iter().all(|pid| *pid == 0), "{pids:?} {:#?}", document.rows);
}
