//! Drops: counts, reasons, places and owners, against the kernel's own statistics of the same namespace.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario that cannot be set up has failed")]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
    time::Duration,
};

use nettop_tests::{Moved, Namespace, Nettopd, Process, kernel};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

/// Drops of a namespace that lost something, by reason.
fn drops<'a>(document: &'a Value, namespace: &Namespace, reason: &str) -> Vec<&'a Value> {
    let drops = document["drops"].as_array().unwrap().iter();
    drops.filter(|drop| drop["netns"] == namespace.inode() && drop["reason"] == reason).collect()
}

fn packets(drops: &[&Value]) -> u64 {
    drops.iter().map(|drop| drop["total"]["packets"].as_u64().unwrap()).sum()
}

/// A counter of /proc/net/snmp.
fn snmp(namespace: &Namespace, protocol: &str, counter: &str) -> u64 {
    let text = namespace.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{protocol}:")));
    let names = lines.next().unwrap().split_whitespace();
    let values = lines.next().unwrap().split_whitespace();
    names.zip(values).find(|(name, _)| *name == counter).unwrap().1.parse().unwrap()
}

fn run(namespace: &Namespace, program: &str, args: &str) {
    let mut command = Command::new(program);
    command.args(args.split_whitespace());
    assert!(namespace.inside(command).status().unwrap().success(), "{program} {args}");
}

/// The function in which a drop happened.
fn function(drop: &Value) -> &str {
    drop["location"].as_str().unwrap().split('+').next().unwrap()
}

/// Before 6.11 the kernel does not say whose socket was to receive.
fn tells_receivers() -> bool {
    kernel() >= (6, 11)
}

#[test]
fn datagrams_that_find_the_buffer_full_are_the_receivers() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let receiver = Process::start(Some(&alone), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:4000").unwrap();
        setsockopt(&socket, sockopt::RcvBuf, &2048).unwrap();
        parent.tell();
        parent.wait_for_parent();
        Moved::default()
    });
    receiver.wait_until_ready();
    alone.enter(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..50 {
            socket.send_to(&[0; 500], "127.0.0.1:4000").unwrap();
        }
    });
    let document = nettopd.settled();
    let full = drops(&document, &alone, "SOCKET_RCVBUFF");
    let lost = snmp(&alone, "Udp", "RcvbufErrors");
    assert!(lost > 30, "{lost}");
    assert_eq!(packets(&full), lost, "{full:#?}");
    let drop = full[0];
    assert_eq!((drop["class"].as_str(), drop["protocol"].as_str()), (Some("capacity"), Some("UDP")), "{drop:#}");
    assert_eq!(drop["device"], "lo", "{drop:#}");
    assert!(function(drop).starts_with("udp_") || function(drop).starts_with("__udp_"), "{drop:#}");
    if tells_receivers() {
        assert_eq!((&drop["pid"], &drop["owner"]), (&receiver.pid().into(), &"receiver".into()), "{drop:#}");
    }
    receiver.go();
    receiver.finish();
}

#[test]
fn packets_to_closed_ports_are_nobodys() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    alone.enter(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..7 {
            socket.send_to(&[0; 10], "127.0.0.1:9").unwrap();
            assert!(TcpStream::connect("127.0.0.1:9").is_err());
        }
    });
    let document = nettopd.settled();
    let closed = drops(&document, &alone, "NO_SOCKET");
    for protocol in ["UDP", "TCP"] {
        let of: Vec<&Value> = closed.iter().copied().filter(|drop| drop["protocol"] == protocol).collect();
        assert_eq!(packets(&of), 7, "{protocol}: {closed:#?}");
        let drop = of[0];
        assert_eq!((&drop["class"], &drop["device"]), (&"routing".into(), &"lo".into()), "{drop:#}");
        assert_eq!((&drop["pid"], &drop["owner"]), (&Value::Null, &"none".into()), "{drop:#}");
    }
    assert_eq!(snmp(&alone, "Udp", "NoPorts"), 7);
}

#[test]
fn what_a_firewall_drops_on_output_is_the_senders() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    run(&alone, "nft", "add table ip t");
    run(&alone, "nft", "add chain ip t out { type filter hook output priority 0 ; }");
    run(&alone, "nft", "add rule ip t out udp dport 4000 counter drop");
    let (pid, _) = Process::run(Some(&alone), |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..11 {
            // EPERM, which the kernel tells the sender as well.
            assert!(socket.send_to(&[0; 10], "127.0.0.1:4000").is_err());
        }
        Moved::default()
    });
    let document = nettopd.settled();
    let dropped = drops(&document, &alone, "NETFILTER_DROP");
    assert_eq!(packets(&dropped), 11, "{dropped:#?}");
    let drop = dropped[0];
    assert_eq!((&drop["pid"], &drop["owner"]), (&pid.into(), &"packet".into()), "{drop:#}");
    assert_eq!((&drop["class"], &drop["protocol"]), (&"policy".into(), &"UDP".into()), "{drop:#}");
}

#[test]
fn what_a_full_queue_drops_is_the_senders_though_send_succeeded() {
    const SENT: u64 = 20;
    let nettopd = Nettopd::start(&[]);
    let (a, _b) = nettop_tests::veth_pair();
    // Room for the first datagrams only, and then nothing for seconds.
    run(&a, "tc", "qdisc add dev v0 root tbf rate 8kbit burst 1600 limit 3200");
    a.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent");
    let (pid, _) = Process::run(Some(&a), |_| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        for _ in 0..SENT {
            socket.send_to(&[0; 1000], "10.0.0.2:4000").unwrap();
        }
        Moved::default()
    });
    let document = nettopd.settled();
    let reported: Vec<&Value> = document["drops"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|drop| drop["netns"] == a.inode() && drop["class"] == "capacity")
        .collect();
    let mut tc = Command::new("tc");
    tc.args(["-s", "-j", "qdisc", "show", "dev", "v0"]);
    let qdiscs: Value = serde_json::from_slice(&a.inside(tc).output().unwrap().stdout).unwrap();
    let lost = qdiscs.as_array().unwrap().iter().map(|qdisc| qdisc["drops"].as_u64().unwrap()).max().unwrap();
    assert!(lost > 10, "{lost}");
    assert_eq!(packets(&reported), lost, "{reported:#?}");
    let drop = reported[0];
    assert_eq!((&drop["pid"], &drop["device"]), (&pid.into(), &"v0".into()), "{drop:#}");
}

#[test]
fn a_neighbour_that_does_not_answer_costs_the_sender_its_packets() {
    let nettopd = Nettopd::start(&[]);
    let (a, _b) = nettop_tests::veth_pair();
    a.write("/proc/sys/net/ipv4/neigh/v0/retrans_time_ms", "100");
    let (pid, _) = Process::run(Some(&a), |_| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        for _ in 0..3 {
            let _ = socket.send_to(&[0; 10], "10.0.0.99:4000");
        }
        std::thread::sleep(Duration::from_millis(1500));
        Moved::default()
    });
    let document = nettopd.settled();
    let failed = drops(&document, &a, "NEIGH_FAILED");
    assert_eq!(packets(&failed), 3, "{:#}", document["drops"]);
    let drop = failed[0];
    assert_eq!(
        (&drop["pid"], &drop["device"], &drop["class"]),
        (&pid.into(), &"v0".into(), &"routing".into()),
        "{drop:#}"
    );
}

#[test]
fn ordinary_connections_lose_nothing() {
    const CONNECTIONS: u64 = 200;
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        parent.tell();
        for _ in 0..CONNECTIONS {
            let mut stream = listener.accept().unwrap().0;
            stream.read_exact(&mut [0; 2]).unwrap();
            stream.write_all(b"ok").unwrap();
        }
        Moved::default()
    });
    server.wait_until_ready();
    alone.enter(|| {
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect("127.0.0.1:4000").unwrap();
            stream.write_all(b"hi").unwrap();
            stream.read_exact(&mut [0; 2]).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
    });
    server.finish();
    let document = nettopd.settled();
    let here = document["drops"].as_array().unwrap().iter().filter(|drop| drop["netns"] == alone.inode());
    let (lifecycle, lost): (Vec<&Value>, Vec<&Value>) = here.partition(|drop| drop["class"] == "lifecycle");
    assert!(lost.is_empty(), "{lost:#?}");
    if kernel() >= (6, 2) {
        assert_eq!(packets(&lifecycle), CONNECTIONS, "{lifecycle:#?}");
    }
}

#[test]
fn names_of_functions_need_no_open_kallsyms() {
    const RESTRICT: &str = "/proc/sys/kernel/kptr_restrict";
    struct Restored(String);
    impl Drop for Restored {
        fn drop(&mut self) {
            std::fs::write(RESTRICT, &self.0).unwrap();
        }
    }
    let _before = Restored(std::fs::read_to_string(RESTRICT).unwrap());
    std::fs::write(RESTRICT, "2").unwrap();
    assert!(std::fs::read_to_string("/proc/kallsyms").unwrap().starts_with("0000000000000000 "));
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    alone.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 10], "127.0.0.1:9").unwrap());
    let document = nettopd.settled();
    let drop = drops(&document, &alone, "NO_SOCKET")[0];
    assert!(function(drop).contains("udp"), "{drop:#}");
}
