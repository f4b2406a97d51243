//! Stacks: what the upper device has counted is explained on those below it, to the byte.

use std::os::fd::AsRawFd as _;

use nettop_model::snapshot::DirectionBalance;
use nettop_tests::{directions, kernel, pairs::set_option};

use super::{
    offloads::{add_addresses_to, tcp, udp_segments},
    *,
};

/// Rests: bytes and packets, and those that are pending.
fn rests(side: &DirectionBalance) -> [u64; 4] {
    [side.unattributed_bytes, side.unattributed_packets, side.pending_bytes, side.pending_packets]
}

/// Nothing is left on the upper device, and on each below it all is the upper one's.
fn assert_explained(document: &Snapshot, namespace: &Namespace, upper: &str, lowers: &[&str]) {
    // On 6.1 no hook sees the SYN-ACK of IPv6.
    let is_exact = kernel() >= (6, 12);
    let above = device(document, namespace.inode(), upper);
    for (direction, side) in directions(above) {
        assert!(!is_exact || rests(&side) == [0; 4], "{upper} {direction}: {side:#?}");
        assert!(side.attributed_bytes > 0, "{upper} {direction}: {side:#?}");
        let mut carried = 0;
        for lower in lowers {
            let found = directions(device(document, namespace.inode(), lower));
            let (_, below) = found.into_iter().find(|(found, _)| *found == direction).unwrap();
            assert_eq!(rests(&below), [0; 4], "{lower} {direction}: {below:#?}");
            let is_own = [below.attributed_bytes, below.kernel_bytes, below.forwarded_bytes];
            assert_eq!(is_own, [0; 3], "{lower} {direction}: {below:#?}");
            assert_eq!([below.upper_bytes, below.upper_packets], [below.bytes, below.packets], "{lower} {direction}");
            carried += below.upper_packets;
        }
        let has = side.attributed_packets + side.kernel_packets + side.unattributed_packets;
        assert!(carried > 0 && carried <= has, "{direction}: {carried} on {lowers:?} of {side:#?}");
    }
}

/// TCP and super-packets of UDP, by IPv4 and IPv6, both ways between the ends of a stack.
fn transfer(nettopd: &Nettopd, [a, b]: [&Namespace; 2]) -> Arc<Snapshot> {
    tcp(nettopd, [a, b], "10.1.0.2");
    tcp(nettopd, [a, b], "fd00::2");
    udp_segments(nettopd, [a, b], "fd00::2", true);
    udp_segments(nettopd, [b, a], "10.1.0.1", false)
}

/// Devices of this kind and name on `v0` of a, and on `v1` of b if there are two.
fn on_veth(options: &str, uppers: [&str; 2]) {
    let nettopd = Nettopd::start(&[]);
    let (a, b) = silent_pair();
    if options.starts_with("ipvlan") {
        // It has the address of the device below, and is up only if it sees that come up.
        a.ip("link set v0 address 02:00:00:00:01:01 down");
    }
    for ((namespace, lower), upper) in [(&a, "v0"), (&b, "v1")].into_iter().zip(uppers) {
        if upper != lower && !namespace.try_ip(&format!("link add link {lower} name {upper} type {options}")) {
            return skip(&format!("no {options}"));
        }
    }
    a.ip("link set v0 up");
    a.wait_until_up("v0");
    b.wait_until_up("v1");
    add_addresses_to([&a, &b], uppers);
    let document = transfer(&nettopd, [&a, &b]);
    for ((namespace, lower), upper) in [(&a, "v0"), (&b, "v1")].into_iter().zip(uppers) {
        if upper != lower {
            assert_explained(&document, namespace, upper, &[lower]);
        }
    }
}

#[test]
fn what_a_vlan_counts_is_explained_on_the_device_below() {
    on_veth("vlan id 7", ["vlan7", "vlan7"]);
}

#[test]
fn what_a_macvlan_counts_is_explained_on_the_device_below() {
    on_veth("macvlan mode bridge", ["mac0", "v1"]);
}

#[test]
fn what_an_ipvlan_counts_is_explained_on_the_device_below() {
    on_veth("ipvlan mode l2", ["ipvl0", "v1"]);
}

/// Two cables, joined to a bond at either end; none if the kernel has no bonds.
fn bonds(mode: &str) -> Option<[Namespace; 2]> {
    let (a, b) = silent_pair();
    a.ip(&format!("link add w0 type veth peer name w1 netns {}", b.pid()));
    for (namespace, parts) in [(&a, ["v0", "w0"]), (&b, ["v1", "w1"])] {
        if !namespace.try_ip(&format!("link add bond0 type bond mode {mode} miimon 100")) {
            skip("no bonds");
            return None;
        }
        for part in parts {
            namespace.ip(&format!("link set {part} down"));
            namespace.ip(&format!("link set {part} master bond0"));
        }
        namespace.ip("link set bond0 up");
    }
    for (namespace, parts) in [(&a, ["v0", "w0"]), (&b, ["v1", "w1"])] {
        parts.iter().for_each(|part| namespace.wait_until_up(part));
        namespace.wait_until_up("bond0");
    }
    Some([a, b])
}

#[test]
fn what_a_bond_counts_is_explained_on_its_parts() {
    for mode in ["active-backup", "balance-rr"] {
        println!("{mode}");
        let nettopd = Nettopd::start(&[]);
        let Some([a, b]) = bonds(mode) else { return };
        add_addresses_to([&a, &b], ["bond0"; 2]);
        let document = transfer(&nettopd, [&a, &b]);
        assert_explained(&document, &a, "bond0", &["v0", "w0"]);
        assert_explained(&document, &b, "bond0", &["v1", "w1"]);
        let second = device(&document, a.inode(), "w0").tx;
        assert_eq!(second.upper_packets > 0, mode == "balance-rr", "{second:#?}");
    }
}

#[test]
fn what_a_vlan_on_a_bond_counts_is_explained_on_each_device_below() {
    let nettopd = Nettopd::start(&[]);
    let Some([a, b]) = bonds("active-backup") else { return };
    for namespace in [&a, &b] {
        if !namespace.try_ip("link add link bond0 name vlan7 type vlan id 7") {
            return skip("no VLANs");
        }
    }
    add_addresses_to([&a, &b], ["vlan7"; 2]);
    let document = transfer(&nettopd, [&a, &b]);
    assert_explained(&document, &a, "vlan7", &["bond0"]);
    assert_explained(&document, &b, "vlan7", &["bond0"]);
    assert_explained(&document, &a, "vlan7", &["v0", "w0"]);
    assert_explained(&document, &b, "vlan7", &["v1", "w1"]);
}

/// One host behind each of two ports: with the bridge's own traffic, that of both, and between them.
#[test]
fn what_a_bridge_counts_is_explained_on_its_ports_and_what_they_pass_on_is_not() {
    let (a, b) = silent_pair();
    let c = Namespace::new();
    c.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    a.ip(&format!("link add w0 type veth peer name w1 netns {}", c.pid()));
    a.ip("link add br0 type bridge mcast_snooping 0");
    for port in ["v0", "w0"] {
        a.ip(&format!("link set {port} master br0 up"));
    }
    add_addresses_to([&a, &b], ["br0", "v1"]);
    c.ip("link set w1 address 02:00:00:00:01:03 up");
    c.ip("addr add 10.1.0.3/24 dev w1");
    for (host, name, other) in [(&c, "w1", 1), (&c, "w1", 2), (&b, "v1", 3), (&a, "br0", 3)] {
        host.ip(&format!("neigh add 10.1.0.{other} lladdr 02:00:00:00:01:0{other} dev {name} nud permanent"));
    }
    c.wait_until_up("w1");
    c.retransmit_late_over("w1");
    // A frame to a host that the bridge does not know yet leaves in copies.
    for host in [&b, &c] {
        Process::run(Some(host), |_| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            Moved { sent: socket.send_to(b"here", "10.1.0.1:9").unwrap() as u64, received: 0 }
        });
    }
    let nettopd = Nettopd::start(&[]);
    transfer(&nettopd, [&a, &b]);
    tcp(&nettopd, [&a, &c], "10.1.0.3");
    let document = tcp(&nettopd, [&b, &c], "10.1.0.3");
    for (namespace, name) in [(&a, "br0"), (&a, "v0"), (&a, "w0")] {
        for (direction, side) in directions(device(&document, namespace.inode(), name)) {
            assert!(kernel() < (6, 12) || rests(&side) == [0; 4], "{name} {direction}: {side:#?}");
            assert_eq!(side.forwarded_bytes > 0, name != "br0", "{name} {direction}: {side:#?}");
            assert_eq!(side.upper_bytes > 0, name != "br0", "{name} {direction}: {side:#?}");
        }
    }
    let packets = |name: &str| directions(device(&document, a.inode(), name)).map(|(_, side)| side);
    for ((above, v0), w0) in packets("br0").into_iter().zip(packets("v0")).zip(packets("w0")) {
        assert!(v0.upper_packets + w0.upper_packets <= above.attributed_packets, "{above:#?} {v0:#?} {w0:#?}");
    }
}

/// A socket in a VRF sends by the device below, and receives on the VRF.
#[test]
fn what_a_vrf_receives_is_explained_on_its_part() {
    let nettopd = Nettopd::start(&[]);
    let (a, b) = silent_pair();
    if !a.try_ip("link add vrf0 type vrf table 10") {
        return skip("no VRFs");
    }
    a.ip("link set vrf0 up");
    a.ip("link set v0 master vrf0");
    address(&a, "v0", "10.1.0", 1);
    address(&b, "v1", "10.1.0", 2);
    let server = Process::start(Some(&b), |parent| {
        let socket = UdpSocket::bind("10.1.0.2:5000").unwrap();
        parent.signal_ready();
        let mut buffer = [0; 1000];
        for _ in 0..DATAGRAMS {
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..n], from).unwrap();
        }
        Moved { sent: DATAGRAMS * SIZE, received: DATAGRAMS * SIZE }
    });
    server.wait_until_ready();
    let client = Process::start(Some(&a), |_| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"vrf0");
        for _ in 0..DATAGRAMS {
            socket.send_to(&[8; SIZE as usize], "10.1.0.2:5000").unwrap();
            socket.recv(&mut [0; 1000]).unwrap();
        }
        Moved { sent: DATAGRAMS * SIZE, received: DATAGRAMS * SIZE }
    });
    let document = finish_at(&nettopd, [client, server]).0;
    let [vrf, below] = ["vrf0", "v0"].map(|name| device(&document, a.inode(), name));
    for side in [&vrf.tx, &vrf.rx, &below.tx, &below.rx] {
        assert_eq!(rests(side), [0; 4], "{vrf:#?} {below:#?}");
    }
    assert_eq!([vrf.rx.attributed_packets, below.tx.attributed_packets], [DATAGRAMS; 2], "{vrf:#?} {below:#?}");
    assert_eq!([below.rx.upper_packets, below.tx.upper_packets], [DATAGRAMS, 0], "{below:#?}");
}
