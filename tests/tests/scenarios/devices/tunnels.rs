//! Tunnels: a packet is in the row of its process on the tunnel, which balances; the outer packets have no socket that a
//! hook sees, and are unattributed on the device below.

use std::process::Command;

use nettop_model::snapshot::{DeviceBalance, DirectionBalance};
use nettop_tests::{drops::nft_drop, kernel};

use super::{
    offloads::{GRO, TSO, set_feature, tcp, udp_segments},
    *,
};

const TUNNEL: &str = "tun1";
/// Of what the tunnel goes over, and of the tunnel.
const UNDER: &str = "10.9.0";
const INNER: &str = "10.1.0";
/// A keepalive, the smallest packet of wireguard that has no row, and the largest, which begins a handshake.
const WIREGUARD_BYTES: std::ops::RangeInclusive<u64> = 32..=148;

/// What wireguard counts of a packet beyond its own bytes, at most: header and tag, and padding to 16 bytes.
const SEALED_BYTES: std::ops::RangeInclusive<u64> = 32..=47;

/// Gives both ends of a tunnel addresses that nobody asks for.
fn add_addresses(ends: [&Namespace; 2], is_ethernet: bool) {
    for (host, namespace) in (1_u8..).zip(ends) {
        let other = 3 - host;
        nft_drop(namespace, "output", "meta l4proto icmpv6");
        for (key, value) in [("disable_ipv6", "0"), ("addr_gen_mode", "1"), ("router_solicitations", "0")] {
            namespace.write(&format!("/proc/sys/net/ipv6/conf/{TUNNEL}/{key}"), value);
        }
        if is_ethernet {
            namespace.ip(&format!("link set {TUNNEL} address 02:00:00:00:02:0{host}"));
        }
        // With the outer headers, it fits the device below: a tunnel drops what does not until TCP knows.
        namespace.ip(&format!("link set {TUNNEL} mtu 1400 up"));
        namespace.ip(&format!("addr add {INNER}.{host}/24 dev {TUNNEL}"));
        namespace.ip(&format!("addr add fd00::{host}/64 dev {TUNNEL} nodad"));
        if is_ethernet {
            for address in [format!("{INNER}.{other}"), format!("fd00::{other}")] {
                namespace.ip(&format!("neigh add {address} lladdr 02:00:00:00:02:0{other} dev {TUNNEL} nud permanent"));
            }
        }
        namespace.retransmit_late_over(TUNNEL);
    }
}

/// Joins two namespaces that have addresses in [`UNDER`] by a wireguard of this name. `false` if the kernel has none.
pub(crate) fn wireguard(ends: [&Namespace; 2], name: &str) -> bool {
    let key = |command: &str, input: &str| {
        let commands = format!("printf '%s' '{input}' | wg {command}");
        let output = Command::new("sh").args(["-c", &commands]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let private = [(); 2].map(|()| key("genkey", ""));
    for ((host, namespace), end) in (1_u8..).zip(ends).zip(0..) {
        let other = 3 - host;
        if !namespace.try_ip(&format!("link add {name} type wireguard")) {
            return false;
        }
        let public = key("pubkey", &private[1 - end]);
        let peer = format!("peer {public} endpoint {UNDER}.{other}:51820 allowed-ips {INNER}.0/24,fd00::/64");
        let file = std::env::temp_dir().join(format!("wireguard-{}-{host}", std::process::id()));
        std::fs::write(&file, &private[end]).unwrap();
        let settings = format!("listen-port 51820 private-key {} {peer}", file.display());
        namespace.run("wg", &format!("set {name} {settings}"));
        std::fs::remove_file(file).unwrap();
    }
    true
}

/// What was counted between two documents on a device.
fn between(documents: [&Snapshot; 2], namespace: &Namespace, name: &str) -> [DirectionBalance; 2] {
    let of = |document| -> DeviceBalance { *device(document, namespace.inode(), name) };
    let [before, after] = documents.map(of);
    [(before.tx, after.tx), (before.rx, after.rx)].map(|(before, after)| DirectionBalance {
        bytes: after.bytes - before.bytes,
        packets: after.packets - before.packets,
        attributed_bytes: after.attributed_bytes - before.attributed_bytes,
        attributed_packets: after.attributed_packets - before.attributed_packets,
        kernel_bytes: after.kernel_bytes - before.kernel_bytes,
        unattributed_bytes: after.unattributed_bytes - before.unattributed_bytes,
        unattributed_packets: after.unattributed_packets - before.unattributed_packets,
        padding_bytes: after.padding_bytes - before.padding_bytes,
        undecided_bytes: after.undecided_bytes - before.undecided_bytes,
        // Nothing is left on its way.
        pending_bytes: after.pending_bytes,
        pending_packets: after.pending_packets,
        ..DirectionBalance::default()
    })
}

/// Both tunnels' rests are zero, and both devices below have no rows and count the same outer packets.
fn assert_balances(documents: [&Snapshot; 2], ends: [&Namespace; 2], server: &str, is_wireguard: bool) {
    for (end, namespace) in ends.into_iter().enumerate() {
        for (direction, side) in ["tx", "rx"].into_iter().zip(between(documents, namespace, TUNNEL)) {
            assert!(side.attributed_packets > 0 || (end, direction) != (0, "tx"), "{end} {direction}: {side:#?}");
            assert_eq!(
                (side.pending_bytes, side.pending_packets, side.undecided_bytes),
                (0, 0, 0),
                "{end} {direction}"
            );
            // No hook sees the SYN-ACK of IPv6 on 6.1.
            let most = u64::from(kernel() < (6, 12) && server.contains(':') && (end, direction) == (1, "tx"));
            let rest = (side.unattributed_packets, side.unattributed_bytes);
            if is_wireguard {
                let others = side.packets - side.attributed_packets;
                assert_eq!(rest.0, others, "{end} {direction}: {side:#?}");
                let sealed = side.bytes - side.attributed_bytes;
                let [least, most] =
                    [SEALED_BYTES.start(), SEALED_BYTES.end()].map(|bytes| bytes * side.attributed_packets);
                let of_others = WIREGUARD_BYTES.end() * others;
                assert!((least..=most + of_others).contains(&sealed), "{end} {direction}: {side:#?}");
                assert!(rest.1 <= of_others, "{end} {direction}: {side:#?}");
            } else {
                assert!(rest.0 <= most && rest.1 <= 94 * most, "{end} {direction}: {side:#?}");
            }
        }
    }
    let [sent, received] = ends
        .into_iter()
        .zip(["v0", "v1"])
        .map(|(namespace, name)| {
            let sides = between(documents, namespace, name);
            for side in &sides {
                let (rows, pending) = (side.attributed_bytes + side.kernel_bytes, side.pending_bytes);
                assert_eq!((rows, pending, side.unattributed_bytes), (0, 0, side.bytes), "{name}: {side:#?}");
            }
            sides
        })
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    assert_eq!([sent[0].bytes, sent[1].bytes], [received[1].bytes, received[0].bytes]);
}

/// TCP and `UDP_SEGMENT` through a tunnel over a veth with offloads and without.
fn balances(kind: &str, options: &str, is_ethernet: bool, servers: &[&str]) {
    let nettopd = Nettopd::start(&[]);
    for (is_tso, is_gro) in [(true, true), (false, false)] {
        let (a, b) = silent_pair();
        for (namespace, under, host) in [(&a, "v0", 1), (&b, "v1", 2)] {
            address(namespace, under, UNDER, host);
            assert!(set_feature(namespace, under, TSO, is_tso) && set_feature(namespace, under, GRO, is_gro));
            let other = 3 - host;
            let ends = format!("local {UNDER}.{host} remote {UNDER}.{other}");
            let ends = if kind == "geneve" { format!("remote {UNDER}.{other}") } else { ends };
            if kind != "wireguard" && !namespace.try_ip(&format!("link add {TUNNEL} type {kind} {options} {ends}")) {
                return skip(&format!("no {kind}"));
            }
        }
        if kind == "wireguard" && !wireguard([&a, &b], TUNNEL) {
            return skip("no wireguard");
        }
        add_addresses([&a, &b], is_ethernet);
        let mut before = nettopd.settled();
        for server in servers {
            println!("{kind}, TSO {is_tso}, GRO {is_gro}, {server}");
            for is_udp in [false, true] {
                let document = if is_udp {
                    udp_segments(&nettopd, [&a, &b], server, false)
                } else {
                    tcp(&nettopd, [&a, &b], server)
                };
                assert_balances([&before, &document], [&a, &b], server, kind == "wireguard");
                before = document;
            }
        }
    }
}

const BOTH: [&str; 2] = ["10.1.0.2", "fd00::2"];

#[test]
fn vxlan_balances_whoever_makes_the_segments() {
    balances("vxlan", "id 7 dstport 4789", true, &BOTH);
}

#[test]
fn geneve_balances_whoever_makes_the_segments() {
    balances("geneve", "id 7", true, &BOTH);
}

#[test]
fn gre_balances_whoever_makes_the_segments() {
    balances("gre", "", false, &BOTH);
}

#[test]
fn ipip_balances_whoever_makes_the_segments() {
    balances("ipip", "", false, &BOTH[..1]);
}

#[test]
fn wireguard_balances_whoever_makes_the_segments() {
    balances("wireguard", "", false, &BOTH);
}
