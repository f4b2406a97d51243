//! What passes through a machine, routed or bridged: forwarded on each device that it passes, and nobody's.

use std::{
    net::UdpSocket,
    sync::Arc,
    time::{Duration, Instant},
};

use nettop_model::{Snapshot, snapshot::DirectionBalance};
use nettop_tests::{
    Kept, Moved, Namespace, Nettopd, Process, amount, device, directions, drops::nft_drop, kernel, rto_min, skip,
};

use crate::devices::offloads::{GRO, TSO, set_feature, tcp, udp_segments};

/// Two hosts, each with `v`, behind `v0` and `v1` of a third, without addresses and own traffic.
fn joined() -> [Namespace; 3] {
    let hosts = [(); 3].map(|()| {
        let namespace = Namespace::new();
        namespace.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        // No report of multicast groups, which nobody's socket would send or take.
        nft_drop(&namespace, "output", "meta l4proto icmpv6");
        namespace
    });
    let [a, router, b] = &hosts;
    for (host, name, number) in [(a, "v0", 1), (b, "v1", 2)] {
        router.ip_lines(&[
            &format!("link add {name} type veth peer name v netns {}", host.pid()),
            &format!("link set {name} address 02:00:00:00:0{number}:01 up"),
        ]);
        host.ip(&format!("link set v address 02:00:00:00:0{number}:02 up"));
        host.wait_until_up("v");
        router.wait_until_up(name);
    }
    hosts
}

/// Gives a device of a router an address, and the host behind it one and the way to others: `10.N.0.1` and `10.N.0.2`,
/// `fd0N::1` and `fd0N::2`. Nobody has to ask for an address of the link layer.
fn route(router: &Namespace, name: &str, host: &Namespace, host_device: &str, number: u8) {
    for (namespace, device, own, other) in [(router, name, 1, 2), (host, host_device, 2, 1)] {
        namespace.write(&format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "0");
        namespace.ip_lines(&[
            &format!("link set {device} address 02:00:00:00:0{number}:0{own}"),
            &format!("addr add 10.{number}.0.{own}/24 dev {device}"),
            &format!("addr add fd0{number}::{own}/64 dev {device} nodad"),
            &format!(
                "neigh replace 10.{number}.0.{other} lladdr 02:00:00:00:0{number}:0{other} dev {device} nud permanent"
            ),
            &format!(
                "neigh replace fd0{number}::{other} lladdr 02:00:00:00:0{number}:0{other} dev {device} nud permanent"
            ),
        ]);
    }
    host.ip_lines(&[
        &format!("route add default via 10.{number}.0.1 rto_min {}", rto_min()),
        &format!("route add default via fd0{number}::1 rto_min {}", rto_min()),
    ]);
    router.write("/proc/sys/net/ipv4/ip_forward", "1");
    router.write("/proc/sys/net/ipv6/conf/all/forwarding", "1");
}

/// A router between two hosts: `10.1.0.2` and `fd01::2` behind `v0`, `10.2.0.2` and `fd02::2` behind `v1`.
fn routed() -> [Namespace; 3] {
    let all = joined();
    let [a, router, b] = &all;
    route(router, "v0", a, "v", 1);
    route(router, "v1", b, "v", 2);
    all
}

fn side(document: &Snapshot, namespace: &Namespace, name: &str, direction: &str) -> DirectionBalance {
    directions(device(document, namespace.inode(), name)).into_iter().find(|(found, _)| *found == direction).unwrap().1
}

/// All that the device moved was forwarded, to the byte.
fn assert_forwarded(document: &Snapshot, namespace: &Namespace, name: &str, direction: &str) -> (u64, u64) {
    let side = side(document, namespace, name, direction);
    let rests = [side.unattributed_bytes, side.unattributed_packets, side.pending_bytes, side.pending_packets];
    assert_eq!(rests, [0; 4], "{name} {direction}: {side:#?}");
    assert_eq!(
        (side.attributed_bytes, side.kernel_bytes, side.undecided_bytes),
        (0, 0, 0),
        "{name} {direction}: {side:#?}"
    );
    assert!(side.forwarded_packets > 0, "{name} {direction}: {side:#?}");
    (side.forwarded_bytes, side.forwarded_packets)
}

/// What the sockets of a host sent or received.
fn of_host(document: &Snapshot, host: &Namespace, direction: &str) -> (u64, u64) {
    let side = side(document, host, "v", direction);
    (side.attributed_bytes + side.kernel_bytes, side.attributed_packets + side.kernel_packets)
}

/// Each end of these devices has passed on what the hosts sent and received.
fn assert_passed([a, router, b]: &[Namespace; 3], document: &Snapshot, names: [&str; 2], server: &str) {
    let [from_a, to_a] = ["rx", "tx"].map(|direction| assert_forwarded(document, router, names[0], direction));
    let [to_b, from_b] = ["tx", "rx"].map(|direction| assert_forwarded(document, router, names[1], direction));
    assert_eq!((from_a, to_a), (to_b, from_b), "{server}");
    assert_eq!((from_a, to_a), (of_host(document, a, "tx"), of_host(document, a, "rx")), "{server}");
    assert_eq!(to_b, of_host(document, b, "rx"), "{server}");
    // On 6.1 no hook sees the SYN-ACK of IPv6.
    if kernel() >= (6, 12) || !server.contains(':') {
        assert_eq!(from_b, of_host(document, b, "tx"), "{server}");
    }
}

/// Moves data between the hosts once the router's namespace is known, to which no process with a socket leads.
fn transfer(nettopd: &Nettopd, [a, _, b]: &[Namespace; 3], server: &str) -> Arc<Snapshot> {
    nettopd.settled();
    tcp(nettopd, [a, b], server)
}

fn set_offloads([a, router, b]: &[Namespace; 3], is_tso: bool, is_gro: bool) {
    for (namespace, name) in [(a, "v"), (router, "v0"), (router, "v1"), (b, "v")] {
        assert!(set_feature(namespace, name, TSO, is_tso) && set_feature(namespace, name, GRO, is_gro));
    }
}

#[test]
fn what_a_router_passes_on_is_forwarded_whoever_makes_the_segments() {
    for (is_tso, is_gro) in [(true, false), (true, true), (false, false), (false, true)] {
        // The next namespaces may get the numbers of these.
        let nettopd = Nettopd::start(&[]);
        let all = routed();
        set_offloads(&all, is_tso, is_gro);
        for server in ["10.2.0.2", "fd02::2"] {
            println!("TSO {is_tso}, GRO {is_gro}, {server}");
            let document = transfer(&nettopd, &all, server);
            assert_passed(&all, &document, ["v0", "v1"], server);
        }
    }
}

#[test]
fn a_super_packet_that_the_router_has_to_segment_was_received_once() {
    let nettopd = Nettopd::start(&[]);
    let all = routed();
    let [_, router, _] = &all;
    assert!(set_feature(router, "v0", TSO, false) && set_feature(router, "v1", TSO, false));
    let document = transfer(&nettopd, &all, "10.2.0.2");
    assert_passed(&all, &document, ["v0", "v1"], "10.2.0.2");
    assert!(side(&document, router, "v0", "rx").offload_packets > 0);
    assert_eq!(side(&document, router, "v0", "tx").offload_packets, 0);
}

#[test]
fn datagrams_in_super_packets_are_forwarded() {
    let nettopd = Nettopd::start(&[]);
    let all = routed();
    let [a, _, b] = &all;
    nettopd.settled();
    for server in ["10.2.0.2", "fd02::2"] {
        let document = udp_segments(&nettopd, [a, b], server, true);
        let [received, sent] =
            [("v0", "rx"), ("v1", "tx")].map(|(name, direction)| assert_forwarded(&document, &all[1], name, direction));
        assert_eq!((received, received), (sent, of_host(&document, a, "tx")), "{server}");
    }
}

#[test]
fn what_a_bridge_passes_between_its_ports_is_forwarded() {
    let nettopd = Nettopd::start(&[]);
    let all = joined();
    let [a, router, b] = &all;
    router.ip("link add br0 type bridge mcast_snooping 0");
    for name in ["v0", "v1"] {
        router.ip(&format!("link set {name} master br0"));
    }
    router.ip("link set br0 up");
    for (host, own, other) in [(a, 1, 2), (b, 2, 1)] {
        host.ip(&format!("addr add 10.0.0.{own}/24 dev v"));
        host.ip(&format!("neigh add 10.0.0.{other} lladdr 02:00:00:00:0{other}:02 dev v nud permanent"));
        host.retransmit_late_over("v");
    }
    let document = transfer(&nettopd, &all, "10.0.0.2");
    assert_passed(&all, &document, ["v0", "v1"], "10.0.0.2");
    // A frame to many is sent in copies, and it is not known how often it was received. The bridge takes one itself.
    Process::run(Some(a), |_| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        socket.set_broadcast(true).unwrap();
        Moved { sent: socket.send_to(b"to all", "10.0.0.255:9").unwrap() as u64, received: 0 }
    });
    let after = nettopd.settled();
    let more = |name: &str, direction: &str| {
        let [before, after] = [&document, &after].map(|document| side(document, router, name, direction));
        [
            after.forwarded_packets - before.forwarded_packets,
            after.upper_packets - before.upper_packets,
            after.unattributed_packets - before.unattributed_packets,
        ]
    };
    assert_eq!([more("v1", "tx"), more("v0", "rx"), more("br0", "rx")], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]);
}

/// A container behind a bridge, as docker0 and cni0 have it, whose address is translated.
#[test]
fn what_a_container_moves_is_forwarded_by_its_bridge_and_by_the_hosts_device() {
    let nettopd = Nettopd::start(&[]);
    let all = joined();
    let [a, router, b] = &all;
    router.ip("link add br0 type bridge mcast_snooping 0");
    router.ip("link set v0 master br0");
    router.ip("link set br0 up");
    router.wait_until_up("br0");
    route(router, "br0", a, "v", 1);
    route(router, "v1", b, "v", 2);
    router.run("nft", "add table ip nat");
    router.run("nft", "add chain ip nat out { type nat hook postrouting priority 100 ; }");
    router.run("nft", "add rule ip nat out oifname v1 masquerade");
    let document = transfer(&nettopd, &all, "10.2.0.2");
    assert_passed(&all, &document, ["br0", "v1"], "10.2.0.2");
    // Below the bridge it was sent as well. What a port receives is the bridge's.
    assert_eq!(assert_forwarded(&document, router, "v0", "tx"), assert_forwarded(&document, router, "br0", "tx"));
    assert_eq!(side(&document, router, "v0", "rx").forwarded_packets, 0);
}

#[test]
fn what_leaves_by_a_vlan_was_received_once() {
    let nettopd = Nettopd::start(&[]);
    let all = joined();
    let [a, router, b] = &all;
    for (namespace, name) in [(router, "v1"), (b, "v")] {
        if !namespace.try_ip(&format!("link add link {name} name v.5 type vlan id 5")) {
            return skip("no VLANs");
        }
    }
    for namespace in [router, b] {
        namespace.ip("link set v.5 up");
        namespace.wait_until_up("v.5");
    }
    route(router, "v0", a, "v", 1);
    route(router, "v.5", b, "v.5", 2);
    let document = transfer(&nettopd, &all, "10.2.0.2");
    let received = assert_forwarded(&document, router, "v0", "rx");
    assert_eq!(received, of_host(&document, a, "tx"));
    assert_eq!(received, assert_forwarded(&document, router, "v.5", "tx"));
    assert_eq!(received.1, side(&document, router, "v1", "tx").forwarded_packets);
}

#[test]
fn what_is_dropped_on_its_way_or_has_a_socket_here_is_not_forwarded() {
    const DATAGRAMS: u64 = 20;
    let nettopd = Nettopd::start(&[]);
    let all = routed();
    let [a, router, b] = &all;
    router.run("nft", "add chain inet t passing { type filter hook forward priority 0 ; }");
    router.run("nft", "add rule inet t passing udp dport 4001 drop");
    let send = |namespace: &Namespace, ttl: u32, to: &'static str| {
        Process::run(Some(namespace), move |_| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_ttl(ttl).unwrap();
            (0..DATAGRAMS).for_each(|_| drop(socket.send_to(b"not forwarded", to)));
            Moved { sent: DATAGRAMS * 13, received: 0 }
        })
    };
    let listener = Process::start(Some(b), |ready| {
        let socket = UdpSocket::bind("10.2.0.2:4002").unwrap();
        ready.signal_ready();
        ready.wait_for_parent();
        drop(socket);
        Moved::default()
    });
    listener.wait_until_ready();
    nettopd.settled();
    send(a, 1, "10.2.0.2:4002");
    send(a, 64, "10.2.0.2:4001");
    send(router, 64, "10.2.0.2:4002");
    let document = nettopd.settled();
    for (name, direction) in [("v0", "rx"), ("v0", "tx"), ("v1", "rx"), ("v1", "tx")] {
        let side = side(&document, router, name, direction);
        assert_eq!((side.forwarded_packets, side.forwarded_bytes), (0, 0), "{name} {direction}: {side:#?}");
    }
    assert_eq!(side(&document, router, "v0", "rx").unattributed_packets, 2 * DATAGRAMS);
    assert_eq!(side(&document, router, "v1", "tx").attributed_packets, DATAGRAMS);
}

#[test]
fn pairs_of_devices_are_listed_until_one_of_them_is_gone() {
    let nettopd = Nettopd::start(&[]);
    let all = routed();
    let [_, router, _] = &all;
    let document = transfer(&nettopd, &all, "10.2.0.2");
    let found = |document: &Snapshot| {
        let pairs = document.forwarded.iter().filter(|pair| pair.netns == router.inode());
        let named = pairs.map(|pair| {
            let names = [&pair.received_on, &pair.sent_on].map(|name| name.clone().unwrap_or_default());
            (names, (pair.total.bytes, pair.total.packets))
        });
        let mut named: Vec<_> = named.collect();
        named.sort();
        named
    };
    let expected = [("v0", "v1"), ("v1", "v0")]
        .map(|(from, to)| ([from.to_owned(), to.to_owned()], assert_forwarded(&document, router, to, "tx")));
    assert_eq!(found(&document), expected);
    assert_are_counted(&nettopd);
    router.ip("link del v1");
    let deadline = Instant::now() + Duration::from_secs(amount(20, 80));
    while !found(&nettopd.settled()).is_empty() {
        assert!(Instant::now() < deadline, "the pairs stay");
    }
    assert_are_counted(&nettopd);
}

/// As many pairs are in use as there are, but for what others of this machine make meanwhile.
fn assert_are_counted(nettopd: &Nettopd) {
    let kept = Kept::by(nettopd.pid());
    let (pairs, counted) = (kept.tables.pairs, kept.counted.pairs);
    assert!(pairs.abs_diff(counted) <= 20, "{counted} of {pairs}");
}

/// A bridge sends what it gets for an unknown address to all of its ports: many pairs of few devices.
#[test]
fn pairs_that_find_no_room_are_counted_as_lost_and_leave_room_to_others() {
    const PORTS: u64 = 65;
    let nettopd = Nettopd::start(&[]);
    let [hosts, bridge] = [(); 2].map(|()| Namespace::new());
    for namespace in [&hosts, &bridge] {
        namespace.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    }
    bridge.ip("link add br0 type bridge mcast_snooping 0");
    bridge.ip("link set br0 up");
    for port in 1..=PORTS {
        bridge.ip(&format!("link add p{port} type veth peer name h{port} netns {}", hosts.pid()));
        bridge.ip(&format!("link set p{port} master br0 up"));
        hosts.ip(&format!("addr add 10.0.{port}.1/24 dev h{port}"));
        hosts.ip(&format!("link set h{port} up"));
        hosts.ip(&format!("neigh add 10.0.{port}.2 lladdr 02:00:00:00:99:01 dev h{port} nud permanent"));
        nettopd.allow_negative_rest(&bridge, &format!("p{port}"), "what was received once is sent by all others");
    }
    (1..=PORTS).for_each(|port| bridge.wait_until_up(&format!("p{port}")));
    let before = nettopd.settled().loss.forwarded_full;
    Process::run(Some(&hosts), |_| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let send = |port| socket.send_to(b"to all", format!("10.0.{port}.2:9")).unwrap() as u64;
        Moved { sent: (1..=PORTS).map(send).sum(), received: 0 }
    });
    let document = nettopd.settled();
    let counted = document.forwarded.iter().filter(|pair| pair.netns == bridge.inode()).count() as u64;
    let lost = document.loss.forwarded_full - before;
    // One namespace may have four fifths of the table, and a pair for each processor.
    assert!(counted.abs_diff(4096 * 4 / 5) <= 64 && counted + lost >= PORTS * (PORTS - 1), "{counted} and {lost}");
    let others = routed();
    let document = transfer(&nettopd, &others, "10.2.0.2");
    assert_passed(&others, &document, ["v0", "v1"], "10.2.0.2");
}
