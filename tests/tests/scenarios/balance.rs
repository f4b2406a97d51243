//! The books balance: app bytes are what the programs say, wire bytes what the interfaces say, to the byte.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    thread::sleep,
    time::{Duration, Instant},
};

use nettop_tests::{
    Moved, Namespace, Nettopd, Process, Sniffer, amount, app, assert_app, device, drops::snmp, join, kernel, rows_of,
    veth_pair, wire,
};
use serde_json::Value;

/// Not a multiple of anything: segments and buffers end ragged.
const BULK: usize = 3_000_017;

fn read_all(stream: &mut TcpStream) -> u64 {
    let mut buffer = vec![0; 65_536];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return received,
            n => received += n as u64,
        }
    }
}

/// Sends `bytes` and the end of them, but that only once all have arrived: were one sent again after it, the answer would
/// come from TIME_WAIT, which passes no hook.
fn send_all(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    loop {
        let mut queued: libc::c_int = 0;
        // SAFETY: SIOCOUTQ, which is TIOCOUTQ by number, writes one int.
        assert_eq!(unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) }, 0);
        if queued == 0 {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// A server that takes one connection, sends `down` bytes and reads to the end; tells its port.
fn serve(namespace: &Namespace, address: IpAddr, down: usize) -> Process {
    Process::start(Some(namespace), move |parent| {
        let listener = TcpListener::bind((address, 0)).unwrap();
        parent.tell_number(listener.local_addr().unwrap().port().into());
        let (mut stream, _) = listener.accept().unwrap();
        send_all(&mut stream, &vec![1; down]);
        Moved { sent: down as u64, received: read_all(&mut stream) }
    })
}

fn connect(namespace: &Namespace, to: SocketAddr, up: usize) -> Process {
    Process::start(Some(namespace), move |_| {
        let mut stream = TcpStream::connect(to).unwrap();
        let mut sender = stream.try_clone().unwrap();
        let writer = std::thread::spawn(move || send_all(&mut sender, &vec![2; up]));
        let received = read_all(&mut stream);
        writer.join().unwrap();
        Moved { sent: up as u64, received }
    })
}

/// The device's own counters moved as nettopd says, and all of it has an owner but `unseen` bytes.
fn assert_balanced(document: &Value, namespace: &Namespace, name: &str, unseen: Moved) {
    let books = device(document, namespace.inode(), name);
    for (way, unseen) in [("tx", unseen.sent), ("rx", unseen.received)] {
        let side = &books[way];
        assert_eq!(
            side["unattributed_bytes"], unseen,
            "{name} {way}: {books:#} {:#} {:#}",
            document["loss"], document["rows"]
        );
        if unseen == 0 {
            assert_eq!(side["unattributed_packets"], 0, "{name} {way}: {side:#}");
        }
    }
}

/// One TCP connection over lo and over a veth pair, with the books of both ends.
fn tcp(server: &str, client: &str, veth_server: &str, up: usize, down: usize) {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let before = alone.counters("lo");
    let bind: IpAddr = server.parse().unwrap();
    // 6.1 shows no hook the SYN-ACK of IPv6: its skb belongs to the request, and the hook is asked for the listener.
    let is_v6 = client.parse().is_ok_and(|client: IpAddr| client.to_canonical().is_ipv6());
    let unseen = if is_v6 && kernel() < (6, 12) { 80 } else { 0 };
    let server = serve(&alone, bind, down);
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let client = connect(&alone, SocketAddr::new(client.parse().unwrap(), port), up);
    let pids = [server.pid(), client.pid()];
    let moved = [server.finish(), client.finish()];
    let document = nettopd.settled();
    let after = alone.counters("lo");
    assert_eq!(moved[0], Moved { sent: down as u64, received: up as u64 });
    for (pid, moved) in pids.into_iter().zip(moved) {
        assert_app(&document, pid, moved);
    }
    assert_balanced(&document, &alone, "lo", Moved { sent: unseen, received: 0 });
    let books = device(&document, alone.inode(), "lo");
    assert_eq!(books["tx"]["bytes"], after.tx_bytes - before.tx_bytes);
    assert_eq!(books["rx"]["packets"], after.rx_packets - before.rx_packets);

    let (a, b) = (Namespace::new(), Namespace::new());
    // Before the devices are there: their first packets are their own.
    let (sniffer_a, sniffer_b) = (Sniffer::start(&a), Sniffer::start(&b));
    join(&a, &b);
    let bind = if bind.is_ipv6() { "::" } else { "0.0.0.0" };
    let server = serve(&b, bind.parse().unwrap(), down);
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let client = connect(&a, SocketAddr::new(veth_server.parse().unwrap(), port), up);
    let pids = [server.pid(), client.pid()];
    let moved = [server.finish(), client.finish()];
    // Multicast reports of the new addresses come when they like: take a document that none was near.
    let frames = || [sniffer_a.frames(), sniffer_b.frames()];
    let (document, frames) = loop {
        let before = frames();
        let document = nettopd.settled();
        if before == frames() {
            break (document, before);
        }
    };
    for (pid, moved) in pids.into_iter().zip(moved) {
        assert_app(&document, pid, moved);
    }
    for (namespace, name, frames) in [(&a, "v0", frames[0]), (&b, "v1", frames[1])] {
        // What no process moved is what the neighbours asked each other: part of it passes sockets of the kernel's.
        for (way, found, arp) in [
            ("tx", frames.arp_tx_bytes + frames.icmpv6_tx_bytes, frames.arp_tx_bytes),
            ("rx", frames.arp_rx_bytes + frames.icmpv6_rx_bytes, frames.arp_rx_bytes),
        ] {
            let side = &device(&document, namespace.inode(), name)[way];
            let unseen = if (name, way) == ("v1", "tx") && unseen > 0 { unseen + 14 } else { 0 };
            let unattributed = side["unattributed_bytes"].as_u64().unwrap();
            assert_eq!(
                unattributed + side["kernel_bytes"].as_u64().unwrap(),
                found + unseen,
                "{name} {way}: {side:#} {frames:?}"
            );
            assert!(unattributed >= arp && found > 0, "{name} {way}: {side:#} {frames:?}");
        }
    }
}

#[test]
fn tcp_v4_upload_balances_to_the_byte() {
    tcp("127.0.0.1", "127.0.0.1", "10.0.0.2", BULK, 0);
}

#[test]
fn tcp_v4_download_balances_to_the_byte() {
    tcp("127.0.0.1", "127.0.0.1", "10.0.0.2", 0, BULK);
}

#[test]
fn tcp_v6_both_ways_balances_to_the_byte() {
    tcp("::1", "::1", "fd00::2", BULK, BULK);
}

#[test]
fn tcp_v4_mapped_v6_is_counted_once_and_as_v4() {
    let nettopd = Nettopd::start(&["-4"]);
    let alone = Namespace::new();
    let server = serve(&alone, "::".parse().unwrap(), BULK);
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let client = connect(&alone, SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), port), 1000);
    let pids = [server.pid(), client.pid()];
    let moved = [server.finish(), client.finish()];
    let document = nettopd.settled();
    for (pid, moved) in pids.into_iter().zip(moved) {
        assert_app(&document, pid, moved);
    }
    assert_balanced(&document, &alone, "lo", Moved::default());
}

#[test]
fn a_super_packet_counts_as_its_segments() {
    let nettopd = Nettopd::start(&[]);
    let (a, b) = veth_pair();
    let server = serve(&b, "0.0.0.0".parse().unwrap(), 0);
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let client = connect(&a, SocketAddr::new("10.0.0.2".parse().unwrap(), port), BULK);
    let pid = client.pid();
    client.finish();
    server.finish();
    let document = nettopd.settled();
    let row = rows_of(&document, pid)[0];
    let (bytes, packets) =
        (row["total"]["tx"]["bytes"].as_u64().unwrap(), row["total"]["tx"]["packets"].as_u64().unwrap());
    let books = &device(&document, a.inode(), "v0")["tx"];
    assert!(packets > books["packets"].as_u64().unwrap(), "the pair hands over super-packets");
    // Every packet has an IP header of 20 bytes and a TCP header of 32, but the SYN of 40.
    assert_eq!(bytes, BULK as u64 + packets * 52 + 8);
    assert!(packets >= BULK.div_ceil(1448) as u64);
}

#[test]
fn udp_balances_connected_and_unconnected_both_ways() {
    const SIZE: usize = 333;
    let datagrams = amount(500, 100);
    let nettopd = Nettopd::start(&[]);
    for (bind, ip_header) in [("127.0.0.1:0", 20), ("[::1]:0", 40)] {
        for connected in [true, false] {
            let alone = Namespace::new();
            let echo = Process::start(Some(&alone), move |parent| {
                let socket = UdpSocket::bind(bind).unwrap();
                parent.tell_number(socket.local_addr().unwrap().port().into());
                let mut buffer = [0; 2048];
                for _ in 0..datagrams {
                    let (n, from) = socket.recv_from(&mut buffer).unwrap();
                    socket.send_to(&buffer[..n], from).unwrap();
                }
                Moved { sent: datagrams * SIZE as u64, received: datagrams * SIZE as u64 }
            });
            let port = u16::try_from(echo.wait_until_ready()).unwrap();
            let (pid, moved) = Process::run(Some(&alone), move |_| {
                let socket = UdpSocket::bind(bind).unwrap();
                let to = SocketAddr::new(socket.local_addr().unwrap().ip(), port);
                if connected {
                    socket.connect(to).unwrap();
                }
                let mut buffer = [0; 2048];
                let mut moved = Moved::default();
                for _ in 0..datagrams {
                    let sent =
                        if connected { socket.send(&[7; SIZE]) } else { socket.send_to(&[7; SIZE], to) }.unwrap();
                    moved.sent += sent as u64;
                    moved.received += socket.recv(&mut buffer).unwrap() as u64;
                }
                moved
            });
            let echo_pid = echo.pid();
            let echoed = echo.finish();
            let document = nettopd.settled();
            for (pid, moved) in [(pid, moved), (echo_pid, echoed)] {
                assert_app(&document, pid, moved);
                let bytes = datagrams * (SIZE as u64 + 8 + ip_header);
                assert_eq!(wire(&document, pid), Moved { sent: bytes, received: bytes });
            }
            assert_balanced(&document, &alone, "lo", Moved::default());
        }
    }
}

#[test]
fn thousands_of_small_connections_of_fifty_processes_balance() {
    let each = amount(100, 20);
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.tell_number(listener.local_addr().unwrap().port().into());
        let mut moved = Moved::default();
        for _ in 0..50 * each {
            let (mut stream, _) = listener.accept().unwrap();
            moved.received += read_all(&mut stream);
            stream.write_all(b"done").unwrap();
            moved.sent += 4;
        }
        moved
    });
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let clients: Vec<Process> = (0..50_usize)
        .map(|number| {
            Process::start(Some(&alone), move |_| {
                let mut moved = Moved::default();
                for _ in 0..each {
                    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    stream.write_all(&vec![0; number + 1]).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                    moved.sent += number as u64 + 1;
                    moved.received += read_all(&mut stream);
                }
                moved
            })
        })
        .collect();
    let clients: Vec<(u32, Moved)> = clients.into_iter().map(|client| (client.pid(), client.finish())).collect();
    let server_pid = server.pid();
    let served = server.finish();
    let document = nettopd.settled();
    assert_eq!(served, Moved { sent: 50 * each * 4, received: each * (1..=50).sum::<u64>() });
    assert_app(&document, server_pid, served);
    for (pid, moved) in clients {
        assert_app(&document, pid, moved);
    }
    // On a slow machine some packets come to connections in TIME_WAIT, which kernels before 6.11 do not tell: FINs that are
    // sent again, and resets.
    let books = device(&document, alone.inode(), "lo");
    let unseen = if kernel() < (6, 11) {
        let packets = books["rx"]["unattributed_packets"].as_u64().unwrap();
        assert!(packets <= snmp(&alone, "Tcp", "RetransSegs") + snmp(&alone, "Tcp", "OutRsts"), "{books:#}");
        books["rx"]["unattributed_bytes"].as_u64().unwrap()
    } else {
        0
    };
    assert_balanced(&document, &alone, "lo", Moved { sent: 0, received: unseen });
}

#[test]
fn one_process_on_two_devices_has_a_row_for_each() {
    let nettopd = Nettopd::start(&[]);
    let (a, b) = veth_pair();
    let sink = Process::start(Some(&b), |parent| {
        let socket = UdpSocket::bind("10.0.0.2:4000").unwrap();
        parent.tell();
        let mut received = 0;
        for _ in 0..10 {
            received += socket.recv(&mut [0; 100]).unwrap() as u64;
        }
        Moved { sent: 0, received }
    });
    sink.wait_until_ready();
    // One socket that alternates between both.
    let (pid, _) = Process::run(Some(&a), |_| {
        let here = UdpSocket::bind("127.0.0.1:4000").unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..10 {
            socket.send_to(&[0; 50], "10.0.0.2:4000").unwrap();
            socket.send_to(&[0; 70], "127.0.0.1:4000").unwrap();
            here.recv(&mut [0; 100]).unwrap();
        }
        Moved::default()
    });
    sink.finish();
    let document = nettopd.settled();
    let amount = |name: &str, way: &str, what: &str| {
        let row = rows_of(&document, pid).into_iter().find(|row| row["device"] == name).unwrap();
        row["total"][way][what].as_u64().unwrap()
    };
    assert_eq!(amount("v0", "tx", "app_bytes"), 500);
    assert_eq!(amount("lo", "tx", "app_bytes"), 700);
    assert_eq!(amount("lo", "rx", "app_bytes"), 700);
    assert_eq!(amount("v0", "tx", "bytes"), 10 * 78);
    assert_eq!(amount("lo", "rx", "bytes"), 10 * 98);
    assert_balanced(&document, &a, "lo", Moved::default());
}

#[test]
fn a_namespace_that_takes_a_dead_ones_inode_number_has_its_own_books() {
    let nettopd = Nettopd::start(&[]);
    let exchange = |namespace: &Namespace, datagrams: u64| {
        Process::run(Some(namespace), |_| {
            let socket = UdpSocket::bind("127.0.0.1:4000").unwrap();
            for _ in 0..datagrams {
                socket.send_to(&[0; 100], "127.0.0.1:4000").unwrap();
                socket.recv(&mut [0; 200]).unwrap();
            }
            Moved::default()
        })
    };
    let first = Namespace::new();
    let inode = first.inode();
    exchange(&first, 300);
    nettopd.settled();
    drop(first);
    // The lowest free number is the next namespace's, once the kernel has cleaned up.
    let deadline = Instant::now() + Duration::from_secs(20);
    let second = loop {
        let next = Namespace::new();
        if next.inode() == inode {
            break next;
        }
        assert!(Instant::now() < deadline, "no namespace got the number again");
        drop(next);
        sleep(Duration::from_millis(50));
    };
    exchange(&second, 5);
    let document = nettopd.settled();
    let books: Vec<&Value> = document["devices"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|device| device["netns"] == inode && device["device"] == "lo")
        .map(|device| &device["total"]["rx"])
        .collect();
    assert!(books.iter().all(|books| books["unattributed_bytes"] == 0), "{books:#?}");
    assert!(books.iter().any(|books| books["packets"] == 5), "{books:#?}");
}

#[test]
fn three_namespaces_whose_devices_share_an_index_are_told_apart() {
    let nettopd = Nettopd::start(&[]);
    let namespaces = [Namespace::new(), Namespace::new(), Namespace::new()];
    let names = ["one", "two", "three"];
    for (namespace, name) in namespaces.iter().zip(names) {
        namespace.ip(&format!("link add {name} type veth peer name peer"));
        namespace.ip("link set peer up");
        namespace.ip(&format!("link set {name} address 02:00:00:00:00:01"));
        namespace.ip(&format!("addr add 10.1.0.1/24 dev {name}"));
        namespace.ip(&format!("link set {name} up"));
        namespace.ip(&format!("neigh add 10.1.0.2 lladdr 02:00:00:00:00:02 dev {name}"));
    }
    for (index, (namespace, name)) in namespaces.iter().zip(names).enumerate() {
        let size = 100 * (index + 1);
        let (pid, _) = Process::run(Some(namespace), |_| {
            let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
            socket.send_to(&vec![0; size], "10.1.0.2:9").unwrap();
            Moved::default()
        });
        let document = nettopd.settled();
        let rows = rows_of(&document, pid);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["device"], name);
        assert_eq!(rows[0]["netns"], namespace.inode());
        assert_eq!(wire(&document, pid).sent, size as u64 + 28);
        assert_balanced(&document, namespace, name, Moved::default());
    }
}

#[test]
fn data_that_nobody_reads_is_on_the_wire_and_not_in_the_program() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let idle = Process::start(Some(&alone), |parent| {
        let _socket = UdpSocket::bind("127.0.0.1:5000").unwrap();
        parent.tell();
        parent.wait_for_parent();
        Moved::default()
    });
    idle.wait_until_ready();
    Process::run(Some(&alone), |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..20 {
            socket.send_to(&[0; 100], "127.0.0.1:5000").unwrap();
        }
        Moved::default()
    });
    let document = nettopd.settled();
    assert_eq!(wire(&document, idle.pid()).received, 20 * 128);
    assert_eq!(app(&document, idle.pid()).received, 0);
    assert_balanced(&document, &alone, "lo", Moved::default());
}

#[test]
fn a_closed_port_is_the_kernels_and_not_lost() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let (pid, _) = Process::run(Some(&alone), |_| {
        assert!(TcpStream::connect("127.0.0.1:1").is_err());
        Moved::default()
    });
    let document = nettopd.settled();
    // A SYN of 60 bytes out, an RST of 40 back.
    assert_eq!(wire(&document, pid), Moved { sent: 60, received: 40 });
    let books = device(&document, alone.inode(), "lo");
    assert_eq!((&books["rx"]["kernel_bytes"], &books["tx"]["kernel_bytes"]), (&60.into(), &40.into()));
    assert_balanced(&document, &alone, "lo", Moved::default());
}
