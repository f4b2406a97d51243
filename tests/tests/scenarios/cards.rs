//! Network cards that QEMU emulates, each on a cable to a virtio card: each balances, whatever its driver counts.
//! Ignored where there are none; `cargo xtask vm 6.12 -- cards::` makes a machine that has them.

mod stacks;

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use nettop_model::{
    Snapshot,
    check::Document,
    snapshot::{DeviceReport, DirectionBalance},
};
use nettop_tests::{Namespace, Nettopd, amount, nettopd_command};

use crate::devices::offloads::{GRO, TSO, add_addresses_to, set_feature, tcp, udp_segments};

/// Transfers after which a card that is not in the table is known, each way. Three or four do, unless an emulated card loses
/// frames on a busy machine: what was observed with them is given up after 60 readings, of which a transfer takes two.
const MAX_TRANSFERS: usize = 45;
/// So often a card has time to send what waits in it.
const MAX_SETTLINGS: usize = 10;
const NAMES: [&str; 2] = ["v0", "v1"];
/// Cables.
const E1000: u8 = 1;
const VMXNET3: u8 = 3;
const USB: u8 = 5;
/// The first between virtio cards that passes super-packets.
const TAPS: u8 = 6;
const IGB: u8 = 9;
/// TSO, GRO and MTU.
const ROUNDS: [(bool, bool, u32); 3] = [(true, true, 1500), (false, false, 1400), (true, true, 9000)];

/// Two namespaces with no traffic but the scenarios'.
fn silent_namespaces() -> [Namespace; 2] {
    [(); 2].map(|()| {
        let namespace = Namespace::new();
        namespace.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        namespace
    })
}

/// Puts the cards of a cable into two namespaces, with the addresses that scenarios use. `cable` as in xtask/src/vm/cards.rs.
fn plug(cable: u8, ends: &[Namespace; 2], names: [&str; 2]) {
    // The kernels' own default, fq_codel, drops on a busy machine what has waited for long, after it was reported as sent.
    fs::write("/proc/sys/net/core/default_qdisc", "pfifo_fast").unwrap();
    for ((end, namespace), name) in (1..).zip(ends).zip(names) {
        let card = find_card(&format!(":54:00:00:0{cable}:0{end}"));
        let mut ip = Command::new("ip");
        ip.args(["link", "set", &card, "netns", &namespace.pid().to_string(), "name", name]);
        assert!(ip.status().unwrap().success());
        namespace.ip(&format!("link set {name} address 02:00:00:00:01:0{end}"));
        namespace.ip(&format!("link set {name} up"));
        match (cable, end) {
            // It has its carrier from the beginning, and the kernel no reason to look at it.
            (USB, 1) => namespace.ip(&format!("link set {name} state up")),
            // QEMU's forgets its address when it is reset, as with another MTU.
            (VMXNET3, 1) => namespace.ip(&format!("link set {name} promisc on")),
            _ => {}
        }
    }
    for (namespace, name) in ends.iter().zip(names) {
        namespace.wait_until_up(name);
    }
}

/// The card whose address ends so: QEMU's USB card has another first byte than it is given. A card comes back some time
/// after the namespace that it was in has ended, and USB takes time from the beginning.
fn find_card(address: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(amount(20, 80));
    loop {
        let output = Command::new("ip").args(["-json", "link"]).output().unwrap();
        let links: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let is_it = |link: &&serde_json::Value| {
            // Its own address, where it was given another.
            let found = link.get("permaddr").unwrap_or(&link["address"]);
            found.as_str().is_some_and(|found| found.ends_with(address))
        };
        if let Some(card) = links.iter().find(is_it) {
            return card["ifname"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < deadline, "no card has an address with {address}: {links:#?}");
        sleep(Duration::from_millis(20));
    }
}

/// Switches the offloads of devices that are up, and sets their MTU.
fn set_up(ends: &[Namespace; 2], names: [&str; 2], (is_tso, is_gro, mtu): (bool, bool, u32)) {
    for (namespace, name) in ends.iter().zip(names) {
        namespace.ip(&format!("link set {name} mtu {mtu}"));
        let has = [set_feature(namespace, name, TSO, is_tso), set_feature(namespace, name, GRO, is_gro)];
        println!("{name}: MTU {mtu}, TSO {is_tso} and GRO {is_gro}, has them: {has:?}");
    }
    for (namespace, name) in ends.iter().zip(names) {
        namespace.wait_until_up(name);
    }
}

fn card<'a>(document: &'a Snapshot, namespace: &Namespace, name: &str) -> &'a DeviceReport {
    let is_it = |device: &&DeviceReport| device.netns == namespace.inode() && device.device == name;
    document.devices.iter().find(is_it).unwrap()
}

/// What is left of a direction, but for packets in rows that the card's driver threw away.
fn rest(side: &DirectionBalance, lost_packets: u64) -> [u64; 4] {
    let is_lost = side.pending_packets > 0 && side.pending_packets <= lost_packets;
    let pending = if is_lost { [0; 2] } else { [side.pending_bytes, side.pending_packets] };
    [side.unattributed_bytes, side.unattributed_packets, pending[0], pending[1]]
}

/// Packets that a device's driver did not send.
fn lost_packets(namespace: &Namespace, name: &str) -> u64 {
    let links = namespace.run("ip", &format!("-json -stats link show dev {name}"));
    let links: serde_json::Value = serde_json::from_str(&links).unwrap();
    ["dropped", "errors"].iter().map(|why| links[0]["stats64"]["tx"][why].as_u64().unwrap()).sum()
}

/// Settles until no packet waits in a card that did not wait before: a driver that counts what is sent (`tx_complete` of
/// usbnet) counts late on a busy machine.
fn settled_when_sent(
    nettopd: &Nettopd,
    [before, mut after]: [Arc<Snapshot>; 2],
    ends: &[Namespace; 2],
    names: [&str; 2],
) -> Arc<Snapshot> {
    for _ in 0..MAX_SETTLINGS {
        let pending = |document: &Snapshot, end: usize| card(document, &ends[end], names[end]).total.tx.pending_packets;
        if [0, 1].iter().all(|end| pending(&after, *end) <= pending(&before, *end)) {
            break;
        }
        after = nettopd.settled();
    }
    after
}

/// Nothing is left on either device of what passed between two documents, except on a virtio card that `gets_fragments`:
/// there QEMU makes IP fragments instead of segments (`net_tx_pkt_udp_fragment`), and no row has their headers.
fn assert_explained([before, after]: [&Snapshot; 2], ends: &[Namespace; 2], names: [&str; 2], gets_fragments: bool) {
    for (end, (namespace, name)) in ends.iter().zip(names).enumerate() {
        let [before, after] = [before, after].map(|document| card(document, namespace, name));
        let driver = after.driver.as_deref().unwrap_or(name);
        let lost = lost_packets(namespace, name);
        for (direction, lost, before, after, basis) in [
            ("tx", lost, &before.total.tx, &after.total.tx, &after.tx_basis),
            ("rx", 0, &before.total.rx, &after.total.rx, &after.rx_basis),
        ] {
            assert!(basis.is_decided(), "{driver} {direction}: {basis:?}");
            if gets_fragments && (end, direction) == (1, "rx") {
                continue;
            }
            let rests = [before, after].map(|side| rest(side, lost));
            assert_eq!(rests[1], rests[0], "{driver} {direction}, {basis:?}, {lost} lost: {before:#?} {after:#?}");
            assert_eq!(after.undecided_bytes, before.undecided_bytes, "{driver} {direction}, {basis:?}");
        }
    }
}

/// Transfers until it is known what both cards count. Returns the last document.
fn transfer_until_known(nettopd: &Nettopd, ends: &[Namespace; 2]) -> Arc<Snapshot> {
    for transfers in 1.. {
        // With another MTU some lose their link for a moment.
        let document = tcp(nettopd, [&ends[0], &ends[1]], "10.1.0.2");
        let is_known = |(namespace, name): (&Namespace, &str)| {
            let card = card(&document, namespace, name);
            card.tx_basis.is_decided() && card.rx_basis.is_decided()
        };
        if ends.iter().zip(NAMES).all(is_known) {
            println!("known after {transfers} transfers");
            return document;
        }
        let cards = || [0, 1].map(|end| card(&document, &ends[end], NAMES[end]));
        assert!(transfers < MAX_TRANSFERS, "{:#?}", cards());
    }
    unreachable!()
}

/// Returns how the card on `cable` was known, in each of the rounds. It may make fragments of `UDP_SEGMENT`.
fn balances(cable: u8, rounds: &[(bool, bool, u32)], makes_fragments: bool) -> BTreeSet<String> {
    let nettopd = Nettopd::start(&[]);
    let ends = silent_namespaces();
    plug(cable, &ends, NAMES);
    add_addresses_to([&ends[0], &ends[1]], NAMES);
    let mut known = BTreeSet::new();
    for round in rounds {
        set_up(&ends, NAMES, *round);
        let mut before = transfer_until_known(&nettopd, &ends);
        for server in ["10.1.0.2", "fd00::2"] {
            let after = tcp(&nettopd, [&ends[0], &ends[1]], server);
            let after = settled_when_sent(&nettopd, [before.clone(), after], &ends, NAMES);
            assert_explained([&before, &after], &ends, NAMES, false);
            before = after;
            // Of IPv6 it makes nothing that arrives.
            if !(makes_fragments && server.contains(':')) {
                let after = udp_segments(&nettopd, [&ends[0], &ends[1]], server, false);
                assert_explained([&before, &after], &ends, NAMES, makes_fragments);
                before = after;
            }
        }
        let card = card(&before, &ends[0], NAMES[0]);
        known.extend([&card.tx_basis, &card.rx_basis].map(|basis| basis.known.clone().into_owned()));
        println!("{:?}: {:?} {:?}", card.driver, card.tx_basis, card.rx_basis);
    }
    known
}

fn words(known: &[&str]) -> BTreeSet<String> {
    known.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn virtio_net_balances() {
    assert_eq!(balances(0, &ROUNDS, false), words(&["source"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn virtio_net_balances_where_super_packets_pass_whole() {
    assert_eq!(balances(TAPS, &ROUNDS, false), words(&["source"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn virtio_net_balances_with_two_queues() {
    assert_eq!(balances(TAPS + 1, &ROUNDS[..1], false), words(&["source"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn virtio_net_balances_where_one_end_sends_super_packets_and_none_gets_them() {
    assert_eq!(balances(TAPS + 2, &ROUNDS[..2], false), words(&["source"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn e1000_balances() {
    assert_eq!(balances(E1000, &ROUNDS, false), words(&["source"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn e1000e_is_measured_where_it_is_emulated() {
    assert_eq!(balances(2, &ROUNDS, false), words(&["measured"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn vmxnet3_is_measured() {
    assert_eq!(balances(VMXNET3, &ROUNDS, false), words(&["measured"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn rtl8139_is_measured() {
    assert_eq!(balances(4, &ROUNDS[..2], false), words(&["measured"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn usb_net_balances() {
    assert_eq!(balances(USB, &ROUNDS[..2], false), words(&["source"]));
}

#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn igb_balances() {
    assert_eq!(balances(IGB, &ROUNDS, true), words(&["source"]));
}

/// `nettopd check` says what it observed, whatever the table says.
#[test]
#[ignore = "for a machine with cards; cargo xtask vm 6.12 -- cards:: runs it"]
fn what_a_card_of_the_table_counts_is_measured_as_well() {
    let nettopd = Nettopd::start(&[]);
    for (cable, counts) in [(E1000, "segments"), (TAPS, "once")] {
        let ends = silent_namespaces();
        plug(cable, &ends, NAMES);
        set_up(&ends, NAMES, ROUNDS[0]);
        add_addresses_to([&ends[0], &ends[1]], NAMES);
        // Super-packets of a few segments, so that ten seconds have enough of them.
        let limit = |bytes: u32| {
            for (namespace, name) in ends.iter().zip(NAMES) {
                namespace.ip(&format!("link set {name} gso_max_size {bytes}"));
            }
        };
        limit(5000);
        // On a busy machine too little may pass, and it says that this shows nothing.
        let shows = (0..3).any(|_| {
            let observed = observe(&nettopd, &ends);
            println!("{observed:#?}");
            let said = observed.iter().filter_map(|found| Some(found.split_once("observed: ")?.1));
            // What fits as well is named too.
            let right = said.filter(|said| {
                let (words, header) = said.split_once(", ").unwrap();
                assert!(words.split(" or ").any(|word| word == counts) && header.starts_with("+14 B each"), "{said}");
                true
            });
            right.count() == 2
        });
        limit(65_536);
        assert!(shows, "nothing was observed");
    }
}

/// What `nettopd check` finds of the first card under transfers: sent, received.
fn observe(nettopd: &Nettopd, ends: &[Namespace; 2]) -> Vec<String> {
    let mut check = nettopd_command();
    check.args(["check", "--format", "json", "--device", NAMES[0]]).stdout(Stdio::piped());
    let mut check = ends[0].inside(check).spawn().unwrap();
    while check.try_wait().unwrap().is_none() {
        tcp(nettopd, [&ends[0], &ends[1]], "10.1.0.2");
    }
    let report: Document = serde_json::from_slice(&check.wait_with_output().unwrap().stdout).unwrap();
    report.proof.into_iter().filter(|proof| proof.what.starts_with("device ")).map(|proof| proof.found).collect()
}
