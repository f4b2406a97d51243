//! What TCP does about losses, and what listeners turn away, against the kernel's own statistics; and a storm of drops.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use nettop_model::{Snapshot, drops::Class};
use nettop_tests::{
    Moved, Namespace, Nettopd, Process, amount,
    drops::{LOSSY, drops, lost, netstat, nft_counted, nft_drop, packets, snmp, tcp},
    kernel,
    pairs::{read_all, send_until_sent_again, socket},
    rows_of,
    service::Service,
    veth_pair, wait_at_most, wait_until,
};
use nix::{
    sys::socket::{Backlog, Shutdown, SockaddrIn, bind, connect, listen, shutdown},
    unistd::{ForkResult, fork},
};

/// A listener that has room for one connection and accepts none.
fn deaf(namespace: &Namespace, port: u16) -> Process {
    let process = Process::start(Some(namespace), move |parent| {
        let listener = socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let address: SocketAddr = ([0, 0, 0, 0], port).into();
        let SocketAddr::V4(address) = address else { unreachable!() };
        bind(listener.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    process.wait_until_ready();
    process
}

/// Asks for connections, and keeps the first: the others do not ask again. Returns once one is queued, if the queue was
/// empty, and all others are turned away: a busy machine does both later.
fn knock(namespace: &Namespace, port: u16, times: u64) -> OwnedFd {
    let ask = |_| {
        let client = socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
        let _ = connect(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port));
        client
    };
    let turned_away = || netstat(namespace, "TcpExt", "ListenDrops");
    let (before, has_room) = (turned_away(), queued(namespace, port) == 0);
    let first = namespace.enter(|| ask(0));
    wait_until("one is queued", || queued(namespace, port) == 1);
    let _others: Vec<OwnedFd> = namespace.enter(|| (1..times).map(ask).collect());
    wait_until("the others are turned away", || turned_away() >= before + times - u64::from(has_room));
    first
}

/// How many connections wait to be accepted at a port.
fn queued(namespace: &Namespace, port: u16) -> u64 {
    let text = namespace.enter(|| std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
    let listener = text.lines().find(|line| line.contains(&format!(":{port:04X} 00000000:0000 0A "))).unwrap();
    let queues = listener.split_whitespace().nth(4).unwrap();
    u64::from_str_radix(queues.split_once(':').unwrap().1, 16).unwrap()
}

#[test]
fn connections_that_a_full_listener_turns_away_are_its_drops() {
    let alone = Namespace::new();
    let before = deaf(&alone, 4000);
    // Those are older than nettopd: the first is queued, two are turned away.
    let _queued = knock(&alone, 4000, 3);
    let old = netstat(&alone, "TcpExt", "ListenDrops");
    assert_eq!(old, 2);
    let nettopd = Nettopd::start(&[]);
    let other = deaf(&alone, 4001);
    drop(knock(&alone, 4000, 8));
    let _accepted = knock(&alone, 4001, 6);
    let turned_away = netstat(&alone, "TcpExt", "ListenDrops") - old;
    let document = nettopd.settled();
    let overflows = drops(&document, &alone, "LISTEN_OVERFLOW");
    assert_eq!(packets(&overflows), turned_away, "{overflows:#?}");
    let of = |pid: u32| overflows.iter().find(|drop| drop.pid == Some(pid)).unwrap();
    for (listener, port, count) in [(&before, 4000, 8), (&other, 4001, 5)] {
        let drop = of(listener.pid());
        assert_eq!((drop.local_port, drop.total.packets), (Some(port), count), "{drop:#?}");
        assert_eq!((drop.class, drop.owner.as_ref()), (Class::Capacity, "listener"), "{drop:#?}");
        let rows = rows_of(&document, listener.pid());
        assert!(rows.iter().any(|row| row.drops.total == count), "{rows:#?}");
    }
    // One that ends right after is counted all the same.
    drop(knock(&alone, 4001, 4));
    let turned_away = netstat(&alone, "TcpExt", "ListenDrops") - old;
    let pid = other.pid();
    other.go();
    other.finish();
    let document = nettopd.settled();
    let overflows = drops(&document, &alone, "LISTEN_OVERFLOW");
    assert_eq!(packets(&overflows), turned_away, "{overflows:#?}");
    assert_eq!(overflows.iter().find(|drop| drop.pid == Some(pid)).unwrap().total.packets, 9);
}

#[test]
fn a_listener_whose_maker_has_ended_is_its_holders() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        // As daemons do.
        // SAFETY: the process has one thread.
        if let ForkResult::Parent { .. } = unsafe { fork() }.unwrap() {
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        parent.send_number(std::process::id().into());
        let mut stream = listener.accept().unwrap().0;
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(b"ok").unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    let holder = u32::try_from(server.wait_until_ready()).unwrap();
    alone.enter(|| {
        let mut client = TcpStream::connect("127.0.0.1:4000").unwrap();
        client.write_all(b"hi").unwrap();
        client.read_exact(&mut [0; 2]).unwrap();
    });
    server.wait_until_ready();
    drop(knock(&alone, 4000, 5));
    let document = nettopd.settled();
    let overflows = drops(&document, &alone, "LISTEN_OVERFLOW");
    assert_eq!(packets(&overflows), netstat(&alone, "TcpExt", "ListenDrops"));
    assert!(overflows.iter().all(|drop| drop.pid == Some(holder)), "{holder}: {overflows:#?}");
    server.go();
    server.finish();
}

#[test]
fn segments_sent_again_are_their_senders_and_what_was_lost_the_receivers() {
    let nettopd = Nettopd::start(&[]);
    let (a, b) = veth_pair();
    nft_drop(&b, "input", LOSSY);
    let server = Process::start(Some(&b), |parent| {
        let listener = TcpListener::bind("10.0.0.2:4000").unwrap();
        parent.signal_ready();
        read_all(listener.accept().unwrap().0)
    });
    server.wait_until_ready();
    let (client, moved) = Process::run(Some(&a), |_| {
        let mut stream = TcpStream::connect("10.0.0.2:4000").unwrap();
        let sent = send_until_sent_again(&mut stream);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        Moved { sent, received: 0 }
    });
    let server_pid = server.pid();
    assert_eq!(server.finish().received, moved.sent);
    let document = nettopd.settled();
    // What the device would not take counts for TCP all the same.
    let again = snmp(&a, "Tcp", "RetransSegs") - netstat(&a, "TcpExt", "TCPRetransFail");
    assert!(again > 0);
    assert_eq!(tcp(&document, "retransmit", client), again, "{:#?} {:#?}", document.tcp, document.loss);
    let row = rows_of(&document, client)[0];
    assert_eq!((row.device.as_deref(), row.retransmits.total), (Some("v0"), again), "{row:#?}");
    let dropped = drops(&document, &b, "NETFILTER_DROP");
    assert_eq!(packets(&dropped), nft_counted(&b), "{dropped:#?}");
    assert!(
        dropped.iter().all(|drop| drop.pid == Some(server_pid) && drop.device.as_deref() == Some("v1")),
        "{dropped:#?}"
    );
}

#[test]
fn resets_are_reported_on_both_sides() {
    const CONNECTIONS: u64 = 5;
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        parent.signal_ready();
        for _ in 0..CONNECTIONS {
            let mut stream = listener.accept().unwrap().0;
            // The client sends after this, so that nothing is under way that completes the handshake.
            stream.write_all(b"x").unwrap();
            // Closed with data unread: the kernel resets the connection.
            while stream.peek(&mut [0; 2]).unwrap() < 2 {}
        }
        Moved::default()
    });
    server.wait_until_ready();
    let (client, _) = Process::run(Some(&alone), |_| {
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect("127.0.0.1:4000").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(b"hi").unwrap();
            assert!(stream.read(&mut [0]).is_err());
        }
        Moved::default()
    });
    let pid = server.pid();
    server.finish();
    let refused = alone.enter(|| (0..3).filter(|_| TcpStream::connect("127.0.0.1:9").is_err()).count());
    let document = nettopd.settled();
    assert_eq!(snmp(&alone, "Tcp", "OutRsts"), CONNECTIONS + refused as u64);
    assert_eq!(tcp(&document, "reset_sent", pid), CONNECTIONS, "{:#?}", document.tcp);
    if kernel() >= (6, 10) {
        let mut events = document.tcp.iter().filter(|event| event.netns == Some(alone.inode()));
        let nobodys = events.find(|event| event.event == "reset_sent" && event.pid.is_none());
        assert_eq!(nobodys.unwrap().count.total, refused as u64, "{:#?}", document.tcp);
    }
    assert_eq!(tcp(&document, "reset_received", client), CONNECTIONS, "{:#?}", document.tcp);
    assert!(lost(&document, &alone).iter().all(|drop| drop.reason == "NO_SOCKET"));
}

#[test]
fn what_a_listener_turned_away_is_its_processs_after_a_crash_however_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), false, "interval = 0.2", &[]);
    service.wait_for("READY=1");
    service.follow();
    let alone = Namespace::new();
    for (port, is_shut_down) in [(4000, false), (4001, true)] {
        let process = Process::start(Some(&alone), move |parent| {
            let listener = socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
            listen(&listener, Backlog::new(0).unwrap()).unwrap();
            parent.signal_ready();
            parent.wait_for_parent();
            if is_shut_down {
                shutdown(listener.as_raw_fd(), Shutdown::Both).unwrap();
            }
            drop(listener);
            parent.signal_ready();
            parent.wait_for_parent();
            Moved::default()
        });
        process.wait_until_ready();
        drop(knock(&alone, port, 5));
        let turned_away =
            |document: &Snapshot| -> u64 { rows_of(document, process.pid()).iter().map(|row| row.drops.total).sum() };
        assert!(turned_away(&service.document()) >= 4);
        process.go();
        process.wait_until_ready();
        // The queued connection, which its client has closed, may have been counted as well.
        let counted = turned_away(&service.document());
        assert!((4..=5).contains(&counted), "{counted}");
        service.crash(|| {});
        service.wait_for("READY=1");
        service.follow();
        assert_eq!(turned_away(&service.document()), counted, "shut down: {is_shut_down}");
    }
    assert_eq!(service.stop(), Some(0));
}

/// Its namespace is missed in the reading that first sees the drop, and nothing else tells of it afterwards.
#[test]
fn a_process_that_had_only_drops_may_end_with_its_namespace_at_once() {
    let nettopd = Nettopd::start(&[]);
    let mut inodes = Vec::new();
    for _ in 0..amount(40, 20) {
        let alone = Namespace::new();
        inodes.push(Some(alone.inode()));
        nft_drop(&alone, "output", "udp dport 4000");
        Process::run(Some(&alone), |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            assert!(socket.send_to(&[0; 10], "127.0.0.1:4000").is_err());
            Moved::default()
        });
    }
    // Each document is compared with the one before, also when the kinds are given back and the processes are not.
    let has_kinds = |document: &Snapshot| document.drops.iter().any(|drop| inodes.contains(&drop.netns));
    assert!(has_kinds(&nettopd.settled()));
    // Two passes over all tasks have to miss the namespaces, and nettopd rests between them, for twenty times a pass's CPU time.
    let limit = Duration::from_secs(amount(20, 240));
    wait_at_most(limit, "the kinds are given back", || !has_kinds(&nettopd.settled()));
    nettopd.settled();
}

#[test]
fn a_storm_is_counted_whole_though_the_table_is_small() {
    const KINDS: u64 = 64;
    let (sources, each) = (amount(1000, 200), amount(1000, 50));
    let small = Nettopd::start(&["--drop-kinds", &KINDS.to_string()]);
    let large = Nettopd::start(&[]);
    let alone = Namespace::new();
    nft_drop(&alone, "output", "udp dport 4000");
    for _ in 0..sources {
        Process::run(Some(&alone), |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            (0..each).for_each(|_| assert!(socket.send_to(&[0; 10], "127.0.0.1:4000").is_err()));
            Moved::default()
        });
    }
    let storm = nft_counted(&alone);
    assert_eq!(storm, sources * each);
    let document = large.settled();
    let result = drops(&document, &alone, "NETFILTER_DROP");
    assert_eq!((result.len() as u64, packets(&result)), (sources, storm));
    assert!(result.iter().all(|drop| drop.total.packets == each), "{result:#?}");
    let document = small.settled();
    let result = drops(&document, &alone, "NETFILTER_DROP");
    assert!((1..=KINDS).contains(&(result.len() as u64)), "{}", result.len());
    let other = document.other_drops.total.packets;
    // What the rest of the machine drops meanwhile stands there as well, and is no storm.
    let missing = storm - packets(&result);
    assert!((missing..missing + each).contains(&other), "{other} of {missing}");
}
