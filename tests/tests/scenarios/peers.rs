//! Who a process talks to: each peer has its bytes, what finds no room is with the rest, and all of it is the row.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
};

use nettop_model::{
    Snapshot,
    peers::PeerReport,
    snapshot::{Amount, RowReport},
};
use nettop_tests::{Moved, Namespace, Nettopd, Process, amount, owner_row, sockets::socket};

/// Each of `n` addresses gets as many datagrams as its last number says.
const DATAGRAM_BYTES: u64 = 100;
const ON_THE_WIRE_BYTES: u64 = DATAGRAM_BYTES + 28;

fn address(net: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, net, host)
}

/// A process that receives at a port of any address, and stays.
fn sink(namespace: &Namespace, port: u16) -> Process {
    let sink = Process::start(Some(namespace), move |parent| {
        let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        drop(socket);
        Moved::default()
    });
    sink.wait_until_ready();
    sink
}

/// A process that does something, and stays.
fn stays(namespace: &Namespace, does: impl FnOnce()) -> Process {
    let process = Process::start(Some(namespace), move |parent| {
        does();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    process.wait_until_ready();
    process
}

fn row(document: &Snapshot, process: &Process) -> RowReport {
    owner_row(document, process.pid()).clone()
}

fn peer<'a>(row: &'a RowReport, address: &str) -> &'a PeerReport {
    let mut found = row.peers.iter().filter(|peer| peer.address == address);
    let peer = found.next().unwrap_or_else(|| panic!("no peer {address}: {row:#?}"));
    assert!(found.next().is_none(), "{row:#?}");
    peer
}

fn named(peer: &PeerReport) -> (&str, &str, Option<u16>) {
    (&peer.role, &peer.protocol, peer.port)
}

fn datagrams(n: u64) -> Amount {
    Amount { bytes: n * ON_THE_WIRE_BYTES, packets: n, app_bytes: n * DATAGRAM_BYTES }
}

#[test]
fn a_socket_of_many_peers_has_each_ones_datagrams_apart() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let sink = sink(&alone, 7000);
    let sender = stays(&alone, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // In turns: each packet has another peer than the one before.
        for turn in 1..=12 {
            for host in turn..=12 {
                socket.send_to(&[0; DATAGRAM_BYTES as usize], (address(1, host), 7000)).unwrap();
            }
        }
    });
    let sources = stays(&alone, || {
        for host in 1..=12 {
            let socket = UdpSocket::bind((address(2, host), 0)).unwrap();
            for _ in 0..host {
                socket.send_to(&[0; DATAGRAM_BYTES as usize], "127.0.0.1:7000").unwrap();
            }
        }
    });
    let document = nettopd.settled();
    let of_sender = row(&document, &sender);
    let of_sink = row(&document, &sink);
    for host in 1..=12 {
        let sent = peer(&of_sender, &address(1, host).to_string());
        assert_eq!((named(sent), sent.total.tx), (("client", "udp", Some(7000)), datagrams(host.into())));
        assert_eq!(sent.connections.total, 0, "{sent:?}");
        let received = peer(&of_sink, &address(2, host).to_string());
        assert_eq!(named(received), ("server", "udp", Some(7000)));
        assert_eq!(received.total.rx, Amount { app_bytes: 0, ..datagrams(host.into()) });
    }
    // And the sender's own address.
    assert_eq!((of_sender.peers.len(), of_sink.peers.len()), (12, 13));
    let of_sources = row(&document, &sources);
    assert_eq!(peer(&of_sources, "127.0.0.1").total.tx, datagrams((1..=12).sum()));
    for row in [&of_sender, &of_sink, &of_sources] {
        assert_eq!(row.peers_other.unwrap_or_default().total.tx, Amount::default(), "{row:#?}");
    }
}

#[test]
fn many_connections_to_a_port_are_one_peer_on_both_sides() {
    let connections = amount(2000, 100);
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), move |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.send_number(listener.local_addr().unwrap().port().into());
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 10]).unwrap();
            stream.write_all(&[0; 1000]).unwrap();
        }
        parent.wait_for_parent();
        Moved::default()
    });
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let client = stays(&alone, move || {
        for _ in 0..connections {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(&[0; 10]).unwrap();
            stream.read_exact(&mut [0; 1000]).unwrap();
        }
    });
    let document = nettopd.settled();
    for (process, role, [sent, received]) in [(&client, "client", [10, 1000]), (&server, "server", [1000, 10])] {
        let row = row(&document, process);
        let peer = peer(&row, "127.0.0.1");
        assert_eq!(named(peer), (role, "tcp", Some(port)));
        assert_eq!(peer.connections.total, connections, "{row:#?}");
        assert_eq!(
            [peer.total.tx.app_bytes, peer.total.rx.app_bytes],
            [sent, received].map(|bytes| bytes * connections)
        );
        assert_eq!(row.peers.len(), 1, "{row:#?}");
    }
}

#[test]
fn versions_of_ip_have_their_own_peers_on_one_socket() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let _sink = alone.enter(|| UdpSocket::bind("[::]:7000").unwrap());
    let sender = stays(&alone, || {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        for to in ["[::1]:7000", "[::ffff:127.0.1.1]:7000", "[::1]:7000"] {
            socket.send_to(&[0; DATAGRAM_BYTES as usize], to).unwrap();
        }
    });
    let document = nettopd.settled();
    let row = row(&document, &sender);
    assert_eq!(peer(&row, "127.0.1.1").total.tx, datagrams(1));
    assert_eq!(peer(&row, "::1").total.tx, Amount { bytes: 2 * (DATAGRAM_BYTES + 48), ..datagrams(2) });
    assert_eq!(row.peers.len(), 2, "{row:#?}");
}

#[test]
fn a_protocol_without_ports_has_its_peers_by_address() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let pinger = stays(&alone, || {
        let socket = UdpSocket::from(socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP));
        for host in [1, 2, 2] {
            let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
            socket.send_to(&echo, (address(3, host), 0)).unwrap();
        }
    });
    let document = nettopd.settled();
    let row = row(&document, &pinger);
    for (host, packets) in [(1, 1), (2, 2)] {
        let peer = peer(&row, &address(3, host).to_string());
        assert_eq!((named(peer), peer.total.tx.packets), (("other", "icmp", None), packets), "{row:#?}");
    }
}

#[test]
fn a_thousand_addresses_in_sixty_four_rows_lose_no_byte() {
    let hosts = amount(1000, 200);
    let nettopd = Nettopd::start(&["--peers", "64"]);
    let alone = Namespace::new();
    let _sink = alone.enter(|| UdpSocket::bind("0.0.0.0:7000").unwrap());
    let address = |host: u64| Ipv4Addr::from(0x7f05_0000 + u32::try_from(host).unwrap());
    let programs: Vec<Process> = (0..3)
        .map(|_| {
            stays(&alone, || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                for host in 0..hosts {
                    socket.send_to(&[0; DATAGRAM_BYTES as usize], (address(host), 7000)).unwrap();
                }
            })
        })
        .collect();
    let document = nettopd.settled();
    assert!(document.loss.peers_full > 0, "{:#?}", document.loss);
    assert_eq!([document.loss.rows_full, document.loss.index_full], [0; 2]);
    for program in &programs {
        let row = row(&document, program);
        assert_eq!(row.total.tx, datagrams(hosts));
        // That they are all of the row is an invariant.
        assert!(!row.peers.is_empty() && row.peers_other.unwrap_or_default().total.tx.bytes > 0, "{row:#?}");
    }
}

#[test]
fn a_scanner_leaves_room_for_others() {
    let hosts = amount(65_536, 5000);
    let nettopd = Nettopd::start(&["--peers", "1024"]);
    let alone = Namespace::new();
    let _sink = alone.enter(|| UdpSocket::bind("0.0.0.0:7000").unwrap());
    let address = |host: u64| Ipv4Addr::from(0x7f06_0000 + u32::try_from(host).unwrap());
    let send = |socket: &UdpSocket, host| {
        socket.send_to(&[0; DATAGRAM_BYTES as usize], (address(host), 7000)).unwrap();
    };
    let scanner = stays(&alone, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        (0..hosts).for_each(|host| send(&socket, host));
    });
    let other = stays(&alone, || send(&UdpSocket::bind("127.0.0.1:0").unwrap(), 9));
    let document = nettopd.settled();
    assert!(document.loss.peers_full >= hosts - 1024, "{:#?}", document.loss);
    let of_scanner = row(&document, &scanner);
    assert_eq!(of_scanner.total.tx, datagrams(hosts));
    let of_other = row(&document, &other);
    assert_eq!(peer(&of_other, &address(9).to_string()).total.tx, datagrams(1));
}

#[test]
fn without_peers_rows_are_as_they_were() {
    let nettopd = Nettopd::start(&["--peers", "0"]);
    let alone = Namespace::new();
    let _sink = alone.enter(|| UdpSocket::bind("0.0.0.0:7000").unwrap());
    let sender = stays(&alone, || {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; DATAGRAM_BYTES as usize], "127.0.0.1:7000").unwrap();
    });
    let document = nettopd.settled();
    let row = row(&document, &sender);
    assert_eq!((row.total.tx, row.peers.len(), row.peers_other), (datagrams(1), 0, None));
}
