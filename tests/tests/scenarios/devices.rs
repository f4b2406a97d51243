//! Devices on devices: a packet is counted once for its process, on the device that its socket's route names. Each device's
//! balance stands next to its own counters.

pub(crate) mod offloads;
mod stacks;
pub(crate) mod tunnels;

use std::{
    io::{Read as _, Write as _},
    net::UdpSocket,
    sync::Arc,
};

use nettop_model::Snapshot;
use nettop_tests::{
    Moved, Namespace, Nettopd, Process, assert_app, device, directions, hang_timeout, owner_row,
    pairs::{finish_at, tun},
    skip, wire,
};

const DATAGRAMS: u64 = 10;
const SIZE: u64 = 300;
/// IP and UDP header.
const HEADERS: u64 = 28;
const ETHERNET: u64 = 14;

/// Two namespaces joined by `v0` and `v1`, without addresses and own traffic.
fn silent_pair() -> (Namespace, Namespace) {
    let pair = [(1, "v0"), (2, "v1")].map(|(host, name)| {
        let namespace = Namespace::new();
        namespace.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        (namespace, host, name)
    });
    pair[0].0.ip(&format!("link add v0 type veth peer name v1 netns {}", pair[1].0.pid()));
    for (namespace, host, name) in &pair {
        namespace.ip(&format!("link set {name} address 02:00:00:00:00:0{host} up"));
    }
    for (namespace, _, name) in &pair {
        namespace.wait_until_up(name);
    }
    let [(a, ..), (b, ..)] = pair;
    (a, b)
}

/// Gives a device an address and the other side's, so that nobody has to ask.
pub(crate) fn address(namespace: &Namespace, device: &str, net: &str, host: u8) {
    let other = 3 - host;
    namespace.ip(&format!("addr add {net}.{host}/24 dev {device}"));
    let link_address = format!("02:00:00:00:01:0{host}");
    // Some cards take none while they are up.
    if !namespace.run("ip", &format!("link show dev {device}")).contains(&link_address) {
        namespace.ip(&format!("link set {device} address {link_address}"));
    }
    namespace.ip(&format!("link set {device} up"));
    namespace.ip(&format!("neigh add {net}.{other} lladdr 02:00:00:00:01:0{other} dev {device} nud permanent"));
    namespace.wait_until_up(device);
}

/// Datagrams from a to b and back; returns each side's document row by pid.
fn exchange(a: &Namespace, b: &Namespace, net: &'static str) -> (Arc<Snapshot>, [u32; 2]) {
    let nettopd = Nettopd::start(&[]);
    let server = Process::start(Some(b), move |parent| {
        let socket = UdpSocket::bind(format!("{net}.2:5000")).unwrap();
        socket.set_read_timeout(Some(hang_timeout())).unwrap();
        parent.signal_ready();
        let mut buffer = [0; 1000];
        for _ in 0..DATAGRAMS {
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..n], from).unwrap();
        }
        Moved { sent: DATAGRAMS * SIZE, received: DATAGRAMS * SIZE }
    });
    server.wait_until_ready();
    let client = Process::start(Some(a), move |_| {
        let socket = UdpSocket::bind(format!("{net}.1:0")).unwrap();
        socket.set_read_timeout(Some(hang_timeout())).unwrap();
        for _ in 0..DATAGRAMS {
            socket.send_to(&[8; SIZE as usize], format!("{net}.2:5000")).unwrap();
            socket.recv(&mut [0; 1000]).unwrap();
        }
        Moved { sent: DATAGRAMS * SIZE, received: DATAGRAMS * SIZE }
    });
    finish_at(&nettopd, [client, server])
}

/// The process has one row, on `upper`, which balances; `lower` carried the same, with `overhead` on each packet. That is
/// explained by the upper one, but for tunnels.
fn assert_stacked(document: &Snapshot, namespace: &Namespace, pid: u32, upper: &str, lower: &str, overhead: u64) {
    let row = owner_row(document, pid);
    assert_eq!(row.device.as_deref(), Some(upper), "{row:#?}");
    let bytes = DATAGRAMS * (SIZE + HEADERS);
    assert_eq!(wire(document, pid), Moved { sent: bytes, received: bytes });
    let balance = device(document, namespace.inode(), upper);
    for (direction, side) in directions(balance) {
        assert_eq!(side.packets, DATAGRAMS, "{upper} {direction}: {balance:#?}");
        assert_eq!(side.unattributed_bytes, 0, "{upper} {direction}: {balance:#?}");
    }
    let carried = DATAGRAMS * (SIZE + HEADERS + overhead);
    for (direction, side) in directions(device(document, namespace.inode(), lower)) {
        assert_eq!((side.bytes, side.attributed_bytes), (carried, 0));
        let explained = if upper == "tun1" { 0 } else { carried };
        assert_eq!(side.upper_bytes, explained, "{lower} {direction}: {side:#?}");
        assert_eq!(side.unattributed_bytes, carried - explained, "{lower} {direction}: {side:#?}");
    }
}

#[test]
fn a_bridge_has_the_row_and_its_port_the_bytes() {
    let (a, b) = silent_pair();
    a.ip("link add br0 type bridge mcast_snooping 0");
    a.ip("link set v0 master br0");
    address(&a, "br0", "10.1.0", 1);
    address(&b, "v1", "10.1.0", 2);
    let (document, [client, _]) = exchange(&a, &b, "10.1.0");
    assert_stacked(&document, &a, client, "br0", "v0", ETHERNET);
}

#[test]
fn a_vlan_has_the_row_and_its_parent_the_bytes() {
    const TAG: u64 = 4;
    let (a, b) = silent_pair();
    if !a.try_ip("link add link v0 name vlan7 type vlan id 7") {
        return skip("no VLANs");
    }
    b.ip("link add link v1 name vlan7 type vlan id 7");
    address(&a, "vlan7", "10.1.0", 1);
    address(&b, "vlan7", "10.1.0", 2);
    let (document, [client, _]) = exchange(&a, &b, "10.1.0");
    // The tag travels beside the packet, where veth counts no bytes of it.
    let carried = device(&document, a.inode(), "v0").tx.bytes;
    let tag = carried / DATAGRAMS - SIZE - HEADERS - ETHERNET;
    assert!(tag == 0 || tag == TAG, "{tag}");
    assert_stacked(&document, &a, client, "vlan7", "v0", ETHERNET + tag);
}

#[test]
fn a_macvlan_has_the_row_and_its_parent_the_bytes() {
    let (a, b) = silent_pair();
    if !a.try_ip("link add link v0 name mac0 type macvlan mode bridge") {
        return skip("no macvlan");
    }
    address(&a, "mac0", "10.1.0", 1);
    address(&b, "v1", "10.1.0", 2);
    let (document, [client, _]) = exchange(&a, &b, "10.1.0");
    assert_stacked(&document, &a, client, "mac0", "v0", ETHERNET);
}

/// A tunnel over the pair, and what it puts around each packet.
fn tunnel(kind: &str, options: &str, overhead: u64) {
    let (a, b) = silent_pair();
    for (namespace, under, host) in [(&a, "v0", 1), (&b, "v1", 2)] {
        address(namespace, under, "10.1.0", host);
        let other = 3 - host;
        if !namespace.try_ip(&format!("link add tun1 type {kind} {options} local 10.1.0.{host} remote 10.1.0.{other}"))
        {
            return skip(&format!("no {kind}"));
        }
        if kind == "gre" {
            namespace.ip(&format!("addr add 10.2.0.{host}/24 dev tun1"));
            namespace.ip("link set tun1 up");
        } else {
            namespace.ip(&format!("addr add 10.2.0.{host}/24 dev tun1"));
            namespace.ip(&format!("link set tun1 address 02:00:00:00:02:0{host} up"));
            namespace.ip(&format!("neigh add 10.2.0.{other} lladdr 02:00:00:00:02:0{other} dev tun1 nud permanent"));
        }
    }
    let (document, [client, _]) = exchange(&a, &b, "10.2.0");
    assert_stacked(&document, &a, client, "tun1", "v0", overhead);
}

#[test]
fn vxlan_has_the_row_and_the_device_below_the_outer_packets() {
    const OUTER: u64 = ETHERNET + 20 + 8 + 8 + ETHERNET;
    tunnel("vxlan", "id 7 dstport 4789", OUTER);
}

#[test]
fn gre_has_the_row_and_the_device_below_the_outer_packets() {
    const OUTER: u64 = ETHERNET + 20 + 4;
    tunnel("gre", "", OUTER);
}

#[test]
fn gretap_has_the_row_and_the_device_below_the_outer_packets() {
    const OUTER: u64 = ETHERNET + 20 + 4 + ETHERNET;
    tunnel("gretap", "", OUTER);
}

#[test]
fn a_tun_device_has_the_row_of_who_sends_through_it_and_not_of_who_carries() {
    let nettopd = Nettopd::start(&[]);
    let namespace = Namespace::new();
    namespace.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    // The far end: sends each packet back with its addresses and ports exchanged.
    let carrier = Process::start(Some(&namespace), |parent| {
        let mut tun = tun("tun0");
        parent.signal_ready();
        let mut packet = [0; 2000];
        for _ in 0..DATAGRAMS {
            let n = tun.read(&mut packet).unwrap();
            let (source, destination) = (packet[12..16].to_vec(), packet[16..20].to_vec());
            packet[12..16].copy_from_slice(&destination);
            packet[16..20].copy_from_slice(&source);
            let (from, to) = (packet[20..22].to_vec(), packet[22..24].to_vec());
            packet[20..22].copy_from_slice(&to);
            packet[22..24].copy_from_slice(&from);
            tun.write_all(&packet[..n]).unwrap();
        }
        parent.wait_for_parent();
        Moved::default()
    });
    carrier.wait_until_ready();
    namespace.ip("addr add 10.3.0.1/24 dev tun0");
    namespace.ip("link set tun0 up");
    let (pid, moved) = Process::run(Some(&namespace), |_| {
        let socket = UdpSocket::bind("10.3.0.1:0").unwrap();
        socket.set_read_timeout(Some(hang_timeout())).unwrap();
        for _ in 0..DATAGRAMS {
            socket.send_to(&[8; SIZE as usize], "10.3.0.2:5000").unwrap();
            socket.recv(&mut [0; 1000]).unwrap();
        }
        Moved { sent: DATAGRAMS * SIZE, received: DATAGRAMS * SIZE }
    });
    let document = nettopd.settled();
    assert_app(&document, pid, moved);
    assert!(nettop_tests::rows_of(&document, carrier.pid()).is_empty());
    let balance = device(&document, namespace.inode(), "tun0");
    for (_, side) in directions(balance) {
        assert_eq!(side.bytes, DATAGRAMS * (SIZE + HEADERS), "{balance:#?}");
        assert_eq!(side.unattributed_bytes, 0, "{balance:#?}");
    }
    carrier.go();
    carrier.finish();
}

#[test]
fn a_datagram_in_fragments_is_counted_whole_and_their_headers_are_the_devices() {
    const LARGE: u64 = 8000;
    /// Of a device whose MTU is 1500.
    const PAYLOAD: u64 = 1480;
    const IP: u64 = 20;
    let (a, b) = silent_pair();
    address(&a, "v0", "10.1.0", 1);
    address(&b, "v1", "10.1.0", 2);
    let nettopd = Nettopd::start(&[]);
    let server = Process::start(Some(&b), |parent| {
        let socket = UdpSocket::bind("10.1.0.2:5000").unwrap();
        parent.signal_ready();
        let received = (0..DATAGRAMS).map(|_| socket.recv(&mut [0; 10_000]).unwrap() as u64).sum();
        Moved { sent: 0, received }
    });
    server.wait_until_ready();
    let client = Process::start(Some(&a), |_| {
        let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
        let send = |_| socket.send_to(&[8; LARGE as usize], "10.1.0.2:5000").unwrap() as u64;
        Moved { sent: (0..DATAGRAMS).map(send).sum(), received: 0 }
    });
    let (document, [sender, receiver]) = finish_at(&nettopd, [client, server]);
    let whole = DATAGRAMS * (LARGE + HEADERS);
    assert_eq!((wire(&document, sender).sent, wire(&document, receiver).received), (whole, whole));
    let fragments = (LARGE + 8).div_ceil(PAYLOAD);
    let repeated = DATAGRAMS * (fragments - 1) * (IP + ETHERNET);
    let (sent, received) = (device(&document, a.inode(), "v0").tx, device(&document, b.inode(), "v1").rx);
    for side in [sent, received] {
        assert_eq!(side.packets, DATAGRAMS * fragments, "{side:#?}");
        assert_eq!(side.unattributed_bytes, repeated, "{side:#?}");
    }
}
