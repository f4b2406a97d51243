//! Network cards that QEMU emulates, each on a cable to a virtio card: each balances, whatever its driver counts.
//! Ignored where there are none; `cargo xtask vm 6.12 -- cards::` makes a machine that has them.

use std::{collections::BTreeSet, fs, process::Command, sync::Arc};

use nettop_model::{
    Snapshot,
    snapshot::{DeviceReport, DirectionBalance},
};
use nettop_tests::{Namespace, Nettopd};

use crate::devices::offloads::{GRO, TSO, add_addresses, set_feature, tcp, udp_segments};

/// Transfers after which a card that is not in the table is known, each way.
const MAX_TRANSFERS: usize = 15;

/// The cards of a cable, in two namespaces with no traffic but the scenarios'. `cable` as in xtask/src/vm/cards.rs.
fn plugged(cable: u8) -> [Namespace; 2] {
    let ends = [(1, "v0"), (2, "v1")].map(|(end, name)| {
        let namespace = Namespace::new();
        namespace.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        let address = format!("52:54:00:00:0{cable}:0{end}");
        let has_it = |device: &fs::DirEntry| {
            fs::read_to_string(device.path().join("address")).is_ok_and(|found| found.trim() == address)
        };
        let card = fs::read_dir("/sys/class/net").unwrap().filter_map(Result::ok).find(has_it);
        let card = card.unwrap_or_else(|| panic!("no card has the address {address}")).file_name();
        let mut ip = Command::new("ip");
        ip.args(["link", "set"]).arg(card).args(["netns", &namespace.pid().to_string(), "name", name]);
        assert!(ip.status().unwrap().success());
        namespace.ip(&format!("link set {name} up"));
        (namespace, name)
    });
    for (namespace, name) in &ends {
        namespace.wait_until_up(name);
    }
    let ends = ends.map(|(namespace, _)| namespace);
    add_addresses(&ends[0], &ends[1]);
    ends
}

fn card<'a>(document: &'a Snapshot, namespace: &Namespace, name: &str) -> &'a DeviceReport {
    let is_it = |device: &&DeviceReport| device.netns == namespace.inode() && device.device == name;
    document.devices.iter().find(is_it).unwrap()
}

/// What is left of a direction.
fn rest(side: &DirectionBalance) -> [u64; 4] {
    [side.unattributed_bytes, side.unattributed_packets, side.pending_bytes, side.pending_packets]
}

/// Nothing is left on either card of what passed between two documents, except on a virtio card that `gets_fragments`:
/// there QEMU makes IP fragments instead of segments (`net_tx_pkt_do_sw_fragmentation`), and no row has their headers.
fn assert_explained(before: &Snapshot, after: &Snapshot, ends: &[Namespace; 2], gets_fragments: bool) {
    for (namespace, name) in ends.iter().zip(["v0", "v1"]) {
        let [before, after] = [before, after].map(|document| card(document, namespace, name));
        let driver = after.driver.as_deref().unwrap_or("?");
        for (way, before, after, basis) in [
            ("tx", &before.total.tx, &after.total.tx, &after.tx_basis),
            ("rx", &before.total.rx, &after.total.rx, &after.rx_basis),
        ] {
            assert!(basis.is_decided(), "{driver} {way}: {basis:?}");
            if gets_fragments && (name, way) == ("v1", "rx") {
                continue;
            }
            assert_eq!(rest(after), rest(before), "{driver} {way}, {basis:?}: {before:#?} {after:#?}");
            assert_eq!(after.undecided_bytes, before.undecided_bytes, "{driver} {way}, {basis:?}");
        }
    }
}

/// Transfers until it is known what both cards count. Returns the last document.
fn transfer_until_known(nettopd: &Nettopd, ends: &[Namespace; 2], server: &str) -> Arc<Snapshot> {
    let mut document = nettopd.settled();
    for transfers in 0..MAX_TRANSFERS {
        let is_known = |(namespace, name): (&Namespace, &str)| {
            let card = card(&document, namespace, name);
            card.tx_basis.is_decided() && card.rx_basis.is_decided()
        };
        if ends.iter().zip(["v0", "v1"]).all(is_known) {
            println!("known after {transfers} transfers");
            break;
        }
        document = tcp(nettopd, [&ends[0], &ends[1]], server);
    }
    document
}

/// Returns how the card on `cable` was known, with one MTU and another.
fn balances(cable: u8, mtus: [u32; 2], makes_fragments: bool) -> BTreeSet<String> {
    let nettopd = Nettopd::start(&[]);
    let ends = plugged(cable);
    let mut known = BTreeSet::new();
    for (is_tso, is_gro, mtu) in [(true, true, mtus[0]), (false, false, mtus[1])] {
        for (namespace, name) in ends.iter().zip(["v0", "v1"]) {
            namespace.ip(&format!("link set {name} mtu {mtu}"));
            let has = [set_feature(namespace, name, TSO, is_tso), set_feature(namespace, name, GRO, is_gro)];
            println!("{name}: MTU {mtu}, TSO {is_tso} and GRO {is_gro}, has them: {has:?}");
        }
        for (namespace, name) in ends.iter().zip(["v0", "v1"]) {
            namespace.wait_until_up(name);
        }
        for server in ["10.1.0.2", "fd00::2"] {
            let before = transfer_until_known(&nettopd, &ends, server);
            let after = tcp(&nettopd, [&ends[0], &ends[1]], server);
            assert_explained(&before, &after, &ends, is_tso && makes_fragments);
            let segments = udp_segments(&nettopd, [&ends[0], &ends[1]], server, false);
            assert_explained(&after, &segments, &ends, is_tso && makes_fragments);
            let card = card(&segments, &ends[0], "v0");
            known.extend([&card.tx_basis, &card.rx_basis].map(|basis| basis.known.clone().into_owned()));
            println!("{:?}: {:?} {:?}", card.driver, card.tx_basis, card.rx_basis);
        }
    }
    known
}

fn words(known: &[&str]) -> BTreeSet<String> {
    known.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn virtio_net_balances() {
    assert_eq!(balances(0, [1500, 1400], false), words(&["source"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn e1000_balances() {
    assert_eq!(balances(1, [1500, 1400], false), words(&["source"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn e1000e_is_measured_where_it_is_emulated() {
    assert_eq!(balances(2, [1500, 1400], true), words(&["measured"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn vmxnet3_is_measured() {
    // QEMU's receives nothing after its MTU was changed.
    assert_eq!(balances(3, [1500; 2], true), words(&["measured"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn rtl8139_is_measured() {
    assert_eq!(balances(4, [1500, 1400], false), words(&["measured"]));
}
