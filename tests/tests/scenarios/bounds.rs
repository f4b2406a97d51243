//! What happens when room runs out: no byte is lost, what did not fit is counted, and what ended is given back.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use nettop_tests::{Moved, Namespace, Nettopd, Process, amount, app, device};

/// A process that stays, and sends `size` bytes to a sink on lo.
fn sender(namespace: &Namespace, size: usize) -> Process {
    Process::start(Some(namespace), move |parent| {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&vec![0; size], "127.0.0.1:7000").unwrap();
        parent.tell();
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
    let rows: Vec<_> =
        document["rows"].as_array().unwrap().iter().filter(|row| row["netns"] == alone.inode()).collect();
    let sum = |owner: &dyn Fn(&str) -> bool| -> u64 {
        let matching = rows.iter().filter(|row| owner(row["owner"].as_str().unwrap()));
        matching.map(|row| row["total"]["tx"]["bytes"].as_u64().unwrap()).sum()
    };
    let overflow = sum(&|owner| owner == "overflow");
    assert_eq!(sum(&|_| true), 500 * 128);
    assert!(overflow > 400 * 128, "{overflow}");
    let processes = rows.iter().filter(|row| row["pid"] != 0).count();
    assert!((1..=64).contains(&processes), "{processes}");
    let loss = &document["loss"];
    assert_eq!(loss["overflow_tx_bytes"], overflow);
    assert!(loss["rows_full"].as_u64().unwrap() + loss["owners_full"].as_u64().unwrap() > 0, "{loss:#}");
    let books = device(&document, alone.inode(), "lo");
    for way in ["tx", "rx"] {
        assert_eq!(books[way]["bytes"], 500 * 128);
        assert_eq!(books[way]["unattributed_bytes"], 0, "{books:#}");
    }
}

#[test]
fn thousands_of_short_processes_leave_neither_rows_nor_memory_behind() {
    let batch_size = amount(500, 60);
    let rows = 8 * batch_size;
    // Documents of thousands of rows would cost more than the processes: show none of them.
    let nettopd = Nettopd::start(&["--rows", &rows.to_string(), "-p", "1"]);
    let alone = Namespace::new();
    let sink = alone.enter(|| UdpSocket::bind("127.0.0.1:7000").unwrap());
    sink.set_nonblocking(true).unwrap();
    let mut rss_kib = Vec::new();
    for batch in 0..40 {
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
    let exited = document["exited"]["tx"]["bytes"].as_u64().unwrap();
    assert!(exited >= (40 * batch_size - rows) * 100, "{exited}");
    let books = device(&document, alone.inode(), "lo");
    assert_eq!(books["tx"]["attributed_bytes"], 40 * batch_size * 100);
    assert_eq!(books["tx"]["unattributed_bytes"], 0);
    for cause in ["rows_full", "owners_full", "index_full", "overflow_tx_bytes"] {
        assert_eq!(document["loss"][cause], 0, "{cause}");
    }
    let (first, last) = (rss_kib[0], *rss_kib.last().unwrap());
    assert!(last < first + 1024, "memory grew from {first} to {last} KiB over {} processes", 20 * batch_size);
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
            parent.tell();
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
    assert_eq!(app(&nettopd.settled(), lasting.pid()).sent, 20);
}

#[test]
fn rows_of_a_dead_namespace_are_given_back_whoever_owns_them() {
    // Half full, so that what is gone and quiet goes at once.
    let nettopd = Nettopd::start(&["--rows", "64"]);
    let crowd = Namespace::new();
    let _sink = crowd.enter(|| UdpSocket::bind("127.0.0.1:7000").unwrap());
    let senders: Vec<Process> = (0..40).map(|_| sender(&crowd, 100)).collect();
    for sender in &senders {
        sender.wait_until_ready();
    }
    let gone = Namespace::new();
    // A datagram of a process that stays, and the kernel's answer that nobody listens.
    gone.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 10], "127.0.0.1:9").unwrap());
    let inode = gone.inode();
    let rows = |document: &serde_json::Value| {
        document["rows"].as_array().unwrap().iter().filter(|row| row["netns"] == inode).count()
    };
    assert!(rows(&nettopd.settled()) >= 2);
    drop(gone);
    let deadline = Instant::now() + Duration::from_secs(30);
    while rows(&nettopd.settled()) > 0 {
        assert!(Instant::now() < deadline, "rows stay");
    }
    let document = nettopd.settled();
    assert!(document["devices"].as_array().unwrap().iter().all(|device| device["netns"] != inode));
}
