//! Pairs of devices in stacks: who sent a packet, and who received it.

use nettop_common::{Netns, PairKey};

use super::*;
use crate::identity::devices::Identity;

const HERE: Netns = Netns { inode: 1, cookie: 1 };
const IN: u32 = 2;

fn of_kind(kind: &str) -> Device {
    let identity = Identity { kind: kind.into(), ..Identity::default() };
    Device { identity, ..Device::default() }
}

fn part_of(master: u32) -> Device {
    let mut part = of_kind("veth");
    part.setup.master = Some(master);
    part
}

/// Packets between devices of these indices, in the order that they pass.
fn readings<const N: usize, const M: usize>(
    devices: [(u32, Device); N],
    pairs: [(u32, u32, u64); M],
) -> BTreeMap<u32, [u64; 2]> {
    let known = devices.into_iter().chain([(IN, of_kind("veth"))]);
    let devices = Devices::fixed(HERE, known.map(|(ifindex, device)| ((HERE, ifindex), device)).collect());
    let pairs = pairs.map(|(received_on, sent_on, skbs)| {
        let moved = Forwarded { skbs, ..Forwarded::default() };
        PairReading { key: PairKey { netns: HERE, received_on, sent_on, family: 0 }, interval: moved, total: moved }
    });
    let mut readings = BTreeMap::new();
    add(&pairs, &devices, &mut readings);
    readings.into_iter().map(|((_, ifindex), reading)| (ifindex, reading.forwarded[0].map(|sum| sum.skbs))).collect()
}

#[test]
fn all_devices_of_a_stack_sent_a_packet_that_was_received_once() {
    let [bridge, port, vlan, card]: [u32; 4] = [3, 4, 5, 6];
    let mut second = part_of(bridge);
    (second.identity.kind, second.identity.link) = ("vlan".into(), Some(card));
    let stack = [(bridge, of_kind("bridge")), (port, part_of(bridge)), (vlan, second), (card, of_kind(""))];
    // Routed to a bridge, which sends half of it through a vlan.
    let moved = readings(stack.clone(), [(IN, bridge, 8), (IN, port, 4), (IN, vlan, 4), (IN, card, 4)]);
    assert_eq!(moved, BTreeMap::from([(IN, [0, 8]), (bridge, [8, 0]), (port, [4, 0]), (vlan, [4, 0]), (card, [4, 0])]));
    // From port to port.
    let moved = readings(stack, [(port, vlan, 3), (port, card, 3)]);
    assert_eq!(moved, BTreeMap::from([(port, [0, 3]), (vlan, [3, 0]), (card, [3, 0])]));
}

#[test]
fn a_device_below_others_forwards_what_they_do_not() {
    let [vrf, slave, macvlan, card]: [u32; 4] = [3, 4, 5, 6];
    assert_eq!(
        readings([(vrf, of_kind("vrf")), (slave, part_of(vrf))], [(IN, slave, 2)]),
        BTreeMap::from([(IN, [0, 2]), (slave, [2, 0])])
    );
    let mut upper = of_kind("macvlan");
    upper.identity.link = Some(card);
    let stack = [(macvlan, upper), (card, of_kind(""))];
    assert_eq!(readings(stack, [(IN, card, 2)]), BTreeMap::from([(IN, [0, 2]), (card, [2, 0])]));
}

#[test]
fn what_passes_an_ifb_twice_and_what_was_sent_in_copies_is_nobodys_to_receive() {
    let [ifb, out]: [u32; 2] = [3, 4];
    let devices = || [(ifb, of_kind("ifb")), (out, of_kind("veth"))];
    assert_eq!(readings(devices(), [(IN, ifb, 1), (ifb, out, 1)]), BTreeMap::new());
    assert_eq!(readings(devices(), [(0, out, 1)]), BTreeMap::from([(out, [1, 0])]));
}

#[test]
fn the_stack_cuts_what_the_sending_device_does_not_take_whole() {
    let [from, mut to] = [of_kind("veth"), of_kind("veth")];
    to.setup.gso_max_bytes = [GSO_MAX_SIZE; 2];
    assert_eq!(cuts(&from, &to, 0), [false; 2]);
    to.whole.tcp = [false, true];
    assert_eq!([0, 1].map(|family| cuts(&from, &to, family)), [[true, false], [false; 2]]);
    to.setup.gso_max_bytes[1] = 16_000;
    assert_eq!(cuts(&from, &to, 1), [true; 2]);
}
