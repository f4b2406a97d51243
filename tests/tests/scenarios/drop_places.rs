//! Where packets are dropped: namespace and device are of the same place, whoever sent them.

use std::net::UdpSocket;

use nettop_tests::{
    Moved, Namespace, Nettopd, Process,
    drops::{drops, lost, nft_counted, nft_drop, packets},
    kernel, routed, rows_of, skip,
};

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
