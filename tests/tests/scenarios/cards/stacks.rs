//! What stands on network cards: a packet is in the row of its process on the upper device, which balances; cards below it
//! count the same, and have no rows: it is explained by the upper device.

use super::*;
use crate::devices::{address, tunnels::wireguard};

const ETHERNET: u64 = 14;
/// TSO and GRO on.
const OFFLOADS: (bool, bool, u32) = ROUNDS[0];

/// TCP and UDP both ways, by IPv4 and IPv6, between upper devices. Returns the documents before and after.
fn transfer(nettopd: &Nettopd, ends: &[Namespace; 2]) -> [Arc<Snapshot>; 2] {
    let [a, b] = [&ends[0], &ends[1]];
    let before = nettopd.settled();
    let mut after = Arc::clone(&before);
    for [address, other] in [["10.1.0.1", "10.1.0.2"], ["fd00::1", "fd00::2"]] {
        tcp(nettopd, [a, b], other);
        udp_segments(nettopd, [a, b], other, false);
        after = udp_segments(nettopd, [b, a], address, false);
    }
    [before, after]
}

/// What a device counted each way between two documents: bytes, packets.
fn moved(documents: &[Arc<Snapshot>; 2], namespace: &Namespace, name: &str) -> [[u64; 2]; 2] {
    let [before, after] = documents.each_ref().map(|document| card(document, namespace, name).total);
    [(before.tx, after.tx), (before.rx, after.rx)]
        .map(|(before, after)| [after.bytes - before.bytes, after.packets - before.packets])
}

/// No row has anything of what a card below another device counted; all of it is the upper device's, or nobody's.
fn assert_without_rows(documents: &[Arc<Snapshot>; 2], namespace: &Namespace, name: &str, is_upper: bool) {
    let [before, after] = documents.each_ref().map(|document| card(document, namespace, name).total);
    for (before, after) in [(before.tx, after.tx), (before.rx, after.rx)] {
        let parts = [after.upper_bytes - before.upper_bytes, after.unattributed_bytes - before.unattributed_bytes];
        let bytes = after.bytes - before.bytes;
        assert_eq!(parts, if is_upper { [bytes, 0] } else { [0, bytes] }, "{name}: {after:#?}");
        assert_eq!(after.attributed_bytes + after.kernel_bytes, before.attributed_bytes + before.kernel_bytes);
    }
}

/// Cables side by side, joined to a bond at either end.
fn bonds(cables: [u8; 2], mode: &str) -> [Namespace; 2] {
    let ends = silent_namespaces();
    for namespace in &ends {
        namespace.ip(&format!("link add bond0 type bond mode {mode} miimon 100"));
    }
    let names = [NAMES, ["w0", "w1"]];
    for (cable, names) in cables.into_iter().zip(names) {
        plug(cable, &ends, names);
        set_up(&ends, names, OFFLOADS);
        for (namespace, name) in ends.iter().zip(names) {
            namespace.ip(&format!("link set {name} down"));
            namespace.ip(&format!("link set {name} master bond0"));
        }
    }
    add_addresses_to([&ends[0], &ends[1]], ["bond0"; 2]);
    // A bond sends by a card as soon as that has a carrier: it may have no queue yet.
    for (namespace, name) in names.iter().flat_map(|names| ends.iter().zip(names)) {
        namespace.wait_until_up(name);
    }
    ends
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn a_bond_of_cards_that_count_alike_balances() {
    let nettopd = Nettopd::start(&[]);
    for mode in ["active-backup", "balance-rr"] {
        println!("{mode}");
        let ends = bonds([TAPS, TAPS + 1], mode);
        let documents = transfer(&nettopd, &ends);
        assert_explained(documents.each_ref().map(|document| &**document), &ends, ["bond0"; 2], false);
        for (namespace, parts) in ends.iter().zip([["v0", "w0"], ["v1", "w1"]]) {
            let parts = parts.map(|name| {
                assert_without_rows(&documents, namespace, name, true);
                moved(&documents, namespace, name)
            });
            println!("{mode}: {parts:?}");
            let sum = [0, 1].map(|direction| [0, 1].map(|what| parts[0][direction][what] + parts[1][direction][what]));
            assert_eq!(sum, moved(&documents, namespace, "bond0"));
            assert_eq!(parts[1][0][1] > 0, mode == "balance-rr", "{parts:?}");
        }
    }
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn a_bond_of_cards_that_do_not_count_alike_is_undecided() {
    let nettopd = Nettopd::start(&[]);
    let ends = bonds([0, E1000], "active-backup");
    let document = udp_segments(&nettopd, [&ends[0], &ends[1]], "10.1.0.2", false);
    // The second cable has an e1000 at one end.
    let [unlike, alike] = [card(&document, &ends[0], "bond0"), card(&document, &ends[1], "bond0")];
    for basis in [&unlike.tx_basis, &unlike.rx_basis] {
        assert_eq!(basis.reason.as_deref(), Some("its parts do not count alike"), "{basis:?}");
    }
    assert!(alike.tx_basis.is_decided() && alike.rx_basis.is_decided(), "{alike:#?}");
    assert_eq!(rest(&alike.total.rx, 0), [0; 4], "{alike:#?}");
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn a_bridge_on_cards_balances() {
    let nettopd = Nettopd::start(&[]);
    let ends = stack(TAPS, "br0", |namespace, name| {
        namespace.ip("link add br0 type bridge mcast_snooping 0");
        namespace.ip(&format!("link set {name} master br0"));
    });
    assert_passed_whole(&transfer(&nettopd, &ends), &ends, "br0", [0, 0]);
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn a_vlan_on_cards_balances() {
    const TAG: u64 = 4;
    let nettopd = Nettopd::start(&[]);
    // An e1000 puts the tag in itself, and does not count it.
    for (cable, tags) in [(TAPS, [TAG, TAG]), (E1000, [0, TAG])] {
        println!("cable {cable}");
        let ends = stack(cable, "vlan7", |namespace, name| {
            namespace.ip(&format!("link add link {name} name vlan7 type vlan id 7"));
        });
        assert_passed_whole(&transfer(&nettopd, &ends), &ends, "vlan7", tags);
    }
}

/// A device on the card at each end of a cable, with addresses. Without GRO, so that both devices get the same packets.
fn stack(cable: u8, upper: &str, put: impl Fn(&Namespace, &str)) -> [Namespace; 2] {
    let ends = silent_namespaces();
    plug(cable, &ends, NAMES);
    // As an e1000, QEMU sends an empty segment after a super-packet of whole ones.
    set_up(&ends, NAMES, (cable != E1000, false, 1500));
    for (namespace, name) in ends.iter().zip(NAMES) {
        put(namespace, name);
    }
    add_addresses_to([&ends[0], &ends[1]], [upper; 2]);
    ends
}

/// The upper devices balance. The cards have no rows; each received what the other sent, and the device on it the same,
/// but for a tag where the card counts one. (A VLAN sends `UDP_SEGMENT`'s super-packets, and a virtio card their segments.)
fn assert_passed_whole(documents: &[Arc<Snapshot>; 2], ends: &[Namespace; 2], upper: &str, tags: [u64; 2]) {
    assert_explained(documents.each_ref().map(|document| &**document), ends, [upper; 2], false);
    let [v0, v1] = [0, 1].map(|end| {
        assert_without_rows(documents, &ends[end], NAMES[end], true);
        moved(documents, &ends[end], NAMES[end]).map(|[bytes, packets]| [bytes - tags[end] * packets, packets])
    });
    assert_eq!(v0, [v1[1], v1[0]]);
    let [_, [bytes, packets]] = moved(documents, &ends[1], upper);
    assert_eq!(v1[1], [bytes + ETHERNET * packets, packets], "{upper}");
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn wireguard_on_a_card_balances() {
    /// Wireguard's header and authentication tag.
    const SEALED: u64 = 32;
    const PADDED_TO: u64 = 16;
    /// Ethernet, IP and UDP.
    const OUTER: u64 = ETHERNET + 28;
    let nettopd = Nettopd::start(&[]);
    let ends = silent_namespaces();
    plug(TAPS, &ends, NAMES);
    set_up(&ends, NAMES, OFFLOADS);
    for ((host, namespace), name) in (1_u8..).zip(&ends).zip(NAMES) {
        address(namespace, name, "10.9.0", host);
    }
    assert!(wireguard([&ends[0], &ends[1]], "wg0"));
    for (host, namespace) in (1..).zip(&ends) {
        namespace.ip(&format!("addr add 10.1.0.{host}/24 dev wg0"));
        namespace.write("/proc/sys/net/ipv6/conf/wg0/disable_ipv6", "0");
        namespace.ip(&format!("addr add fd00::{host}/64 dev wg0 nodad"));
        namespace.ip("link set wg0 up");
        namespace.retransmit_late_over("wg0");
    }
    let before = tcp(&nettopd, [&ends[0], &ends[1]], "10.1.0.2");
    let documents = [before, udp_segments(&nettopd, [&ends[0], &ends[1]], "10.1.0.2", false)];
    assert_explained(documents.each_ref().map(|document| &**document), &ends, ["wg0"; 2], false);
    let [sent, received] = [moved(&documents, &ends[0], "wg0")[0], moved(&documents, &ends[1], "wg0")[1]];
    assert_eq!(sent, received);
    let [before, after] = documents.each_ref().map(|document| card(document, &ends[0], "wg0"));
    let rows = after.total.tx.attributed_packets - before.total.tx.attributed_packets;
    let bytes = after.total.tx.attributed_bytes - before.total.tx.attributed_bytes;
    // All are of one size.
    let padded = rows * (bytes / rows).next_multiple_of(PADDED_TO);
    assert_eq!(sent, [padded + rows * SEALED, rows]);
    assert_eq!(after.total.tx.padding_bytes - before.total.tx.padding_bytes, padded - bytes);
    for (namespace, name) in ends.iter().zip(NAMES) {
        assert_without_rows(&documents, namespace, name, false);
        let outer = moved(&documents, namespace, "wg0").map(|[bytes, packets]| [bytes + OUTER * packets, packets]);
        assert_eq!(moved(&documents, namespace, name), outer);
    }
}
