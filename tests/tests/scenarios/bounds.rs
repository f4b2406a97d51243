//! What happens when room runs out: no byte is lost, what did not fit is counted, and what ended is given back.

use std::{
    net::UdpSocket,
    process::Command,
    time::{Duration, Instant},
};

use nettop_model::Snapshot;
use nettop_tests::{
    Kept, Moved, Namespace, Nettopd, Process, amount, app, assert_app_bytes, become_nobody, device, directions,
    drops::nft_drop,
    netns_inode, ports, rows_of, skip,
    sockets::{send_frame, socket},
    unshare_as_nobody, veth_pair,
};
use nix::unistd::{Uid, setuid};

fn send_to_nobody() {
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 10], "127.0.0.1:9").unwrap();
}

/// A process that stays, and sends `size` bytes to a sink on lo.
fn sender(namespace: &Namespace, size: usize) -> Process {
    Process::start(Some(namespace), move |parent| {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&vec![0; size], "127.0.0.1:7000").unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    })
}

#[test]
fn sixty_four_rows_and_five_hundred_processes_lose_no_byte() {
    let nettopd = Nettopd::start(&["--rows", "64"]);
    let alone = Namespace::new();
    let _sink = alone.enter(|| UdpSocket::bind("127.0.0.1:7000").unwrap());
    let senders: Vec<Process> = (0..500).map(|_| sender(&alone, 100)).collect();
    for sender in &senders {
        sender.wait_until_ready();
    }
    let document = nettopd.settled();
    let rows: Vec<_> = document.rows.iter().filter(|row| row.netns == alone.inode()).collect();
    let overflows = rows.iter().filter(|row| row.owner == "overflow");
    let overflow: u64 = overflows.map(|row| row.total.tx.bytes).sum();
    assert_eq!(rows.iter().map(|row| row.total.tx.bytes).sum::<u64>(), 500 * 128);
    assert!(overflow > 400 * 128, "{overflow}");
    let processes = rows.iter().filter(|row| row.pid != 0).count();
    assert!((1..=64).contains(&processes), "{processes}");
    let loss = &document.loss;
    assert_eq!(loss.overflow_tx_bytes, overflow);
    assert!(loss.rows_full + loss.owners_full > 0, "{loss:#?}");
    let balance = device(&document, alone.inode(), "lo");
    for (_, side) in directions(balance) {
        assert_eq!(side.bytes, 500 * 128);
        assert_eq!(side.unattributed_bytes, 0, "{balance:#?}");
    }
}

#[test]
fn thousands_of_short_processes_leave_neither_rows_nor_memory_behind() {
    let batch_size = amount(500, 60);
    // Rows are given back as soon as half of the table is used: none is refused.
    let rows = 16 * batch_size;
    // Documents of thousands of rows would cost more than the processes: show none of them.
    let nettopd = Nettopd::start(&["--rows", &rows.to_string(), "-p", "1"]);
    let alone = Namespace::new();
    let sink = alone.enter(|| UdpSocket::bind("127.0.0.1:7000").unwrap());
    sink.set_nonblocking(true).unwrap();
    let mut rss_kib = Vec::new();
    for batch in 0..60 {
        for _ in 0..batch_size {
            Process::run(Some(&alone), |_| {
                UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 72], "127.0.0.1:7000").unwrap();
                Moved::default()
            });
        }
        if batch >= 20 {
            rss_kib.push(nettopd.rss_kib());
        }
    }
    let document = nettopd.settled();
    // Most were given back, and other processes of the machine may be too.
    let exited = document.exited.tx.bytes;
    assert!(exited >= (60 * batch_size - rows) * 100, "{exited}");
    let balance = device(&document, alone.inode(), "lo");
    assert_eq!(balance.tx.attributed_bytes, 60 * batch_size * 100);
    assert_eq!(balance.tx.unattributed_bytes, 0);
    let loss = document.loss;
    assert_eq!([loss.rows_full, loss.owners_full, loss.index_full, loss.overflow_tx_bytes], [0; 4], "{loss:#?}");
    // Caches are emptied and free memory is given back now and then: what is needed at most is compared.
    let peaks = [&rss_kib[..20], &rss_kib[20..]].map(|half| *half.iter().max().unwrap());
    assert!(peaks[1] < peaks[0] + 1024, "memory grew over {} processes: {rss_kib:?} KiB", 20 * batch_size);
}

#[test]
fn a_process_that_goes_on_keeps_its_row_while_others_come_and_go() {
    let nettopd = Nettopd::start(&["--rows", "64"]);
    let alone = Namespace::new();
    let _sink = alone.enter(|| UdpSocket::bind("127.0.0.1:7000").unwrap());
    let lasting = Process::start(Some(&alone), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..2 {
            socket.send_to(&[0; 10], "127.0.0.1:7000").unwrap();
            parent.signal_ready();
            parent.wait_for_parent();
        }
        Moved::default()
    });
    lasting.wait_until_ready();
    for _ in 0..10 {
        for _ in 0..20 {
            Process::run(Some(&alone), |_| {
                UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 10], "127.0.0.1:7000").unwrap();
                Moved::default()
            });
        }
        nettopd.settled();
    }
    lasting.go();
    lasting.wait_until_ready();
    let document = nettopd.settled();
    assert_app_bytes(&document, app(&document, lasting.pid()).sent, 20);
}

#[test]
fn rows_of_a_dead_namespace_are_given_back_whoever_owns_them() {
    let nettopd = Nettopd::start(&["--rows", "64"]);
    // Its user has more than is free, so his gone and quiet rows leave at once.
    let crowd = Namespace::new();
    let start = |_| {
        Process::start(Some(&crowd), |parent| {
            become_nobody();
            send_to_nobody();
            parent.signal_ready();
            parent.wait_for_parent();
            Moved::default()
        })
    };
    let senders: Vec<Process> = (0..40).map(start).collect();
    for sender in &senders {
        sender.wait_until_ready();
    }
    // A datagram of a process, and the kernel's answer that nobody listens.
    let gone = Process::start(None, |parent| {
        if unshare_as_nobody().is_err() {
            parent.signal_ready();
        }
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        send_to_nobody();
        parent.send_number(netns_inode("/proc/self/ns/net").into());
        parent.wait_for_parent();
        Moved::default()
    });
    let inode = gone.wait_until_ready();
    if inode == 0 {
        return skip("no user namespaces for users");
    }
    let inode = u32::try_from(inode).unwrap();
    let rows = |document: &Snapshot| document.rows.iter().filter(|row| row.netns == inode).count();
    assert!(rows(&nettopd.settled()) >= 2);
    drop(gone);
    let deadline = Instant::now() + Duration::from_secs(amount(30, 120));
    while rows(&nettopd.settled()) > 0 {
        assert!(Instant::now() < deadline, "rows stay");
    }
    let document = nettopd.settled();
    assert!(document.devices.iter().all(|device| device.netns != inode));
}

#[test]
fn a_namespace_that_root_made_leaves_room_to_others() {
    let nettopd = Nettopd::start(&["--rows", "64"]);
    let crowd = Namespace::new();
    let _sink = crowd.enter(|| UdpSocket::bind("127.0.0.1:7000").unwrap());
    let senders: Vec<Process> = (0..200).map(|_| sender(&crowd, 10)).collect();
    for sender in &senders {
        sender.wait_until_ready();
    }
    let elsewhere = Namespace::new();
    let _sink = elsewhere.enter(|| UdpSocket::bind("127.0.0.1:7000").unwrap());
    let other = sender(&elsewhere, 1000);
    other.wait_until_ready();
    let document = nettopd.settled();
    assert_app_bytes(&document, app(&document, other.pid()).sent, 1000);
    assert!(document.rows.iter().any(|row| row.netns == crowd.inode() && row.owner == "overflow"));
}

/// Most kinds of drops that a nettopd of these scenarios distinguishes.
const KINDS: u16 = 128;
const DROPPED: u64 = 7;

/// Has so many datagrams dropped, which do not leave.
fn send_dropped(number: u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    (0..number).for_each(|_| assert!(socket.send_to(&[0; 10], "127.0.0.1:4000").is_err()));
}

/// Another user's drops, after somebody has made more kinds than there is room for, are a kind of their own.
fn assert_has_room_for_others(nettopd: &Nettopd, dropping: &Namespace) {
    const SOMEBODY: u32 = 65_533;
    let other = Process::start(Some(dropping), move |parent| {
        setuid(Uid::from_raw(SOMEBODY)).unwrap();
        send_dropped(DROPPED);
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    other.wait_until_ready();
    let document = nettopd.settled();
    assert!(document.other_drops.total.packets > u64::from(KINDS) / 2, "{:?}", document.other_drops);
    let kinds = document.drops.iter().filter(|drop| drop.pid == Some(other.pid()));
    assert_eq!(kinds.map(|drop| drop.total.packets).collect::<Vec<_>>(), [DROPPED]);
    assert_eq!(rows_of(&document, other.pid()).iter().map(|row| row.drops.total).sum::<u64>(), DROPPED);
    // Others of this machine may make some between the two readings.
    let kept = Kept::by(nettopd.pid());
    assert!(kept.tables.drops.abs_diff(kept.counted.drops) <= 20, "{kept:?}");
}

#[test]
fn a_user_whose_packets_are_dropped_leaves_kinds_of_drops_to_others() {
    let nettopd = Nettopd::start(&["--drop-kinds", &KINDS.to_string()]);
    let alone = Namespace::new();
    nft_drop(&alone, "output", "udp dport 4000");
    for _ in 0..2 * KINDS {
        Process::run(Some(&alone), |_| {
            become_nobody();
            send_dropped(1);
            Moved::default()
        });
    }
    assert_has_room_for_others(&nettopd, &alone);
}

/// What others send there is no process's.
#[test]
fn unknown_protocols_in_its_own_namespace_leave_kinds_of_drops_to_others() {
    const FIRST: u16 = 0x1000;
    let (own, neighbour) = veth_pair();
    let nettopd = own.enter(|| Nettopd::start(&["--drop-kinds", &KINDS.to_string()]));
    neighbour.enter(|| {
        let link = socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0);
        (FIRST..FIRST + 2 * KINDS).for_each(|protocol| send_frame(&link, "v1", [0xff; 6], protocol, &[0; 46]));
    });
    let alone = Namespace::new();
    nft_drop(&alone, "output", "udp dport 4000");
    assert_has_room_for_others(&nettopd, &alone);
}

/// Each namespace has sockets by which the kernel itself sends, as to its neighbours. They have the protocol's number for a
/// port, and pass no hook when they are closed.
#[test]
fn the_kernels_own_sockets_take_no_port() {
    const IPPROTO_ICMPV6: u8 = 58;
    let nettopd = Nettopd::start(&[]);
    let known = || ports(nettopd.pid()).into_iter().filter(|port| port.transport == IPPROTO_ICMPV6).count();
    let before = known();
    for _ in 0..8 {
        let namespace = Namespace::new();
        namespace.write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "0");
        namespace.ip("link add near type veth peer name far");
        namespace.ip("link set near up");
        namespace.ip("link set far up");
        let deadline = Instant::now() + Duration::from_secs(10);
        while namespace.counters("near").tx_packets == 0 {
            assert!(Instant::now() < deadline, "it says nothing to its neighbours");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(known(), before);
}
