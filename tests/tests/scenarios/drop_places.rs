//! Where packets are dropped: namespace and device are of the same place, whoever sent them.

use std::{net::UdpSocket, time::Duration};

use nettop_model::{Snapshot, drops::Class};
use nettop_tests::{
    Moved, Namespace, Nettopd, Process, device,
    drops::{drops, lost, nft_counted, nft_drop, packets},
    kernel, routed, rows_of, skip, wait_until, wire,
};
use serde_json::Value;

/// Sends datagrams from a process of its own, and ignores errors.
fn send(from: &Namespace, to: &'static str, times: usize, bytes: usize) -> u32 {
    let (pid, _) = Process::run(Some(from), |_| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..times {
            let _ = socket.send_to(&vec![0; bytes], to);
        }
        Moved::default()
    });
    pid
}

/// Two namespaces joined by a veth pair whose ends have these indexes: `v0` with 10.0.0.1 and `v1` with 10.0.0.2.
fn joined(indexes: [u32; 2]) -> (Namespace, Namespace) {
    let (a, b) = (Namespace::new(), Namespace::new());
    a.ip(&format!("link add v0 index {} type veth peer name v1 index {} netns {}", indexes[0], indexes[1], b.pid()));
    for (namespace, device, host) in [(&a, "v0", 1), (&b, "v1", 2)] {
        namespace.ip(&format!("addr add 10.0.0.{host}/24 dev {device}"));
        namespace.ip(&format!("link set {device} up"));
    }
    a.wait_until_up("v0");
    b.wait_until_up("v1");
    (a, b)
}

#[test]
fn what_the_far_end_of_a_veth_drops_is_the_far_ends() {
    if kernel() < (5, 17) {
        return skip("no reasons of drops");
    }
    // In the sender's namespace, another device has the far end's number.
    let (a, b) = joined([5, 7]);
    a.ip("link add w0 index 7 type veth peer name w1");
    let nettopd = Nettopd::start(&[]);
    b.run("nft", "add table netdev t");
    b.run("nft", "add chain netdev t c { type filter hook ingress device v1 priority 0 ; }");
    b.run("nft", "add rule netdev t c udp dport 4000 counter drop");
    let pid = send(&a, "10.0.0.2:4000", 9, 10);
    let document = nettopd.settled();
    let there = drops(&document, &b, "NETFILTER_DROP");
    assert_eq!((packets(&there), nft_counted(&b)), (9, 9), "{:#?}", document.drops);
    for drop in there {
        // Another namespace has taken it: the drop is not its sender's.
        assert_eq!((drop.device.as_deref(), drop.ifindex, drop.pid), (Some("v1"), Some(7), None), "{drop:#?}");
    }
    assert!(lost(&document, &a).is_empty(), "{:#?}", lost(&document, &a));
    let devices: Vec<_> = rows_of(&document, pid).iter().map(|row| row.device.as_deref()).collect();
    assert_eq!(devices, [Some("v0")], "{:#?}", rows_of(&document, pid));
}

#[test]
fn a_device_is_found_whatever_number_it_has() {
    if kernel() < (5, 17) {
        return skip("no reasons of drops");
    }
    let (a, _b) = joined([2_000_000_000, 3_000_000]);
    nft_drop(&a, "output", "udp dport 4000");
    nft_drop_also(&a, "postrouting", "udp dport 4001");
    let nettopd = Nettopd::start(&[]);
    let pid = send(&a, "10.0.0.2:4000", 3, 10);
    send(&a, "10.0.0.2:4001", 4, 10);
    let document = nettopd.settled();
    let dropped = drops(&document, &a, "NETFILTER_DROP");
    assert_eq!(packets(&dropped), 3 + 4, "{dropped:#?}");
    for drop in &dropped {
        assert_eq!((drop.device.as_deref(), drop.ifindex), (Some("v0"), Some(2_000_000_000)), "{drop:#?}");
    }
    assert!(dropped.iter().any(|drop| drop.pid == Some(pid)), "{dropped:#?}");
}

/// A second chain in the table that `nft_drop` has made.
fn nft_drop_also(namespace: &Namespace, hook: &str, matches: &str) {
    namespace.run("nft", &format!("add chain inet t d {{ type filter hook {hook} priority 0 ; }}"));
    namespace.run("nft", &format!("add rule inet t d {matches} counter drop"));
}

#[test]
fn what_a_routers_queue_drops_is_on_the_outgoing_device() {
    let (a, router, b) = routed();
    if !router.try_tc("qdisc add dev v1 root tbf rate 8kbit burst 2000 limit 3000") {
        return skip("no tbf");
    }
    // The neighbour is resolved before.
    send(&b, "10.2.0.1:9", 1, 1);
    let nettopd = Nettopd::start(&[]);
    send(&a, "10.2.0.2:4000", 20, 1000);
    let document = nettopd.settled();
    let dropped = lost(&document, &router);
    assert!(packets(&dropped) > 10, "{dropped:#?}");
    for drop in dropped {
        assert_eq!((drop.device.as_deref(), drop.pid), (Some("v1"), None), "{drop:#?}");
    }
}

/// What a queue dropped, and what waits in it.
fn queue_of(namespace: &Namespace, queue: &str) -> (u64, u64) {
    let queues: Value = serde_json::from_str(&namespace.run("tc", "-s -j qdisc show dev v0")).unwrap();
    let found = queues.as_array().unwrap().iter().find(|found| found["kind"] == queue).unwrap();
    (found["drops"].as_u64().unwrap(), found["qlen"].as_u64().unwrap())
}

/// A process that sends so many datagrams of 1,000 bytes at once, and once it is let go, `later` more without haste: what
/// was reported as sent and is dropped afterwards is made up for by those.
fn sender(from: &Namespace, at_once: u64, later: u64) -> Process {
    let sender = Process::start(Some(from), move |parent| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        let send = || assert_eq!(socket.send_to(&[0; 1000], "10.0.0.2:4000").unwrap(), 1000);
        (0..at_once).for_each(|_| send());
        parent.signal_ready();
        parent.wait_for_parent();
        for _ in 0..later {
            send();
            std::thread::sleep(Duration::from_millis(5));
        }
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    sender.wait_until_ready();
    sender
}

/// Two namespaces, the first with a queue for so many bits a second.
fn behind_a_queue(rate: &str) -> Option<(Namespace, Namespace)> {
    let (a, b) = nettop_tests::veth_pair();
    a.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent");
    a.try_tc(&format!("qdisc add dev v0 root handle 1: tbf rate {rate} burst 3000 limit 1000000")).then_some((a, b))
}

#[track_caller]
fn assert_sent(document: &Snapshot, from: &Namespace, pid: u32, datagrams: u64) {
    assert_eq!(wire(document, pid).sent, datagrams * 1028);
    let side = device(document, from.inode(), "v0").tx;
    assert_eq!((side.pending_packets, side.unattributed_packets), (0, 0), "{side:#?}");
}

/// What a queue drops when it is emptied has no reason of its own before 6.14.
fn what_waited_too_long(queue: &str, args: &str) {
    const AT_ONCE: u64 = 100;
    const LATER: u64 = 100;
    if kernel() < (5, 18) {
        return skip("no reasons of queues' drops");
    }
    let Some((a, _b)) = behind_a_queue("4mbit") else { return skip("no tbf") };
    if !a.try_tc(&format!("qdisc add dev v0 parent 1: handle 2: {queue} {args}")) {
        return skip(&format!("no {queue}"));
    }
    let nettopd = Nettopd::start(&[]);
    let sender = sender(&a, AT_ONCE, LATER);
    wait_until("the queue is empty", || queue_of(&a, queue).1 == 0);
    sender.go();
    sender.wait_until_ready();
    let document = nettopd.settled();
    let (dropped, _) = queue_of(&a, queue);
    assert!((1..LATER).contains(&dropped), "{dropped}");
    let lost: u64 = lost(&document, &a)
        .iter()
        .filter(|drop| drop.pid == Some(sender.pid()) && drop.class == Class::Capacity)
        .map(|drop| drop.total.packets)
        .sum();
    assert_eq!(lost, dropped, "{:#?}", document.drops);
    assert_sent(&document, &a, sender.pid(), AT_ONCE + LATER - dropped);
}

#[test]
fn what_waited_too_long_in_codel_is_not_sent() {
    what_waited_too_long("codel", "target 1ms interval 10ms");
}

#[test]
fn what_waited_too_long_in_fq_codel_is_not_sent() {
    what_waited_too_long("fq_codel", "target 1ms interval 10ms");
}

#[test]
fn what_waited_too_long_in_cake_is_not_sent() {
    what_waited_too_long("cake", "rtt 1ms");
}

#[test]
fn what_waited_in_a_queue_that_is_removed_is_not_sent() {
    const AT_ONCE: u64 = 40;
    const LATER: u64 = 60;
    if kernel() < (5, 18) {
        return skip("no reasons of queues' drops");
    }
    for is_device_off in [false, true] {
        let Some((a, _b)) = behind_a_queue("100kbit") else { return skip("no tbf") };
        let nettopd = Nettopd::start(&[]);
        let sender = sender(&a, AT_ONCE, LATER);
        if is_device_off {
            a.ip("link set v0 down");
            a.ip("link set v0 up");
            a.wait_until_up("v0");
            a.ip("neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent");
        }
        a.run("tc", "qdisc del dev v0 root");
        sender.go();
        sender.wait_until_ready();
        let document = nettopd.settled();
        let sent = wire(&document, sender.pid()).sent / 1028;
        assert!((LATER..LATER + AT_ONCE - 10).contains(&sent), "{sent}");
        assert_sent(&document, &a, sender.pid(), sent);
    }
}
