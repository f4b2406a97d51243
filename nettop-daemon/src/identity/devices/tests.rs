//! What a device counts where another device decides it.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use super::*;
use crate::sys::ethtool::Features;

#[test]
fn what_was_measured_holds_for_a_device_and_for_the_bond_above_it() {
    const BOND: u32 = 9;
    let here = Netns { inode: 1, cookie: 1 };
    let mut card = Device::default();
    (card.setup.driver, card.setup.master) = ("bnxt_en".into(), Some(BOND));
    let identity = Identity { kind: "bond".into(), ..Identity::default() };
    let bond = Device { identity, ..Device::default() };
    let mut devices = Devices::fixed(here, BTreeMap::from([((here, 2), card), ((here, BOND), bond)]));
    devices.find_bases();
    let known = |devices: &Devices| [2, BOND].map(|ifindex| devices.known[&(here, ifindex)].basis[0].is_decided());
    assert_eq!(known(&devices), [false; 2]);
    let measured = Measured::new(vec![Basis::new(Counts::Once, 18)]);
    devices.set_measured(BTreeMap::from([((here, 2), [measured, None])]));
    devices.find_bases();
    assert_eq!(known(&devices), [true; 2]);
    assert_eq!(devices.known[&(here, BOND)].basis[0].link_header_bytes, 18);
}

fn veth(link: u32, features: Features) -> Device {
    let identity = Identity { kind: "veth".into(), link: Some(link), ..Identity::default() };
    let setup = Setup { features: Some(features), ..Setup::default() };
    Device { identity, setup, ..Device::default() }
}

#[test]
fn the_other_end_of_a_veth_is_found_where_it_is_now() {
    let [here, there, gone] = [1, 2, 3].map(|inode| Netns { inode, cookie: inode });
    // One that segments nothing itself, and the other end, which polls.
    let (own, polling) = (veth(3, Features::default()), veth(5, Features { gro: true, ..Features::default() }));
    let known = BTreeMap::from([((here, 5), own), ((there, 3), polling), ((gone, 3), veth(5, Features::default()))]);
    let mut devices = Devices::fixed(here, known);
    devices.fresh.remove(&gone);
    devices.find_bases();
    let link_header = |devices: &Devices| devices.known[&(here, 5)].basis[0].link_header_bytes;
    assert_eq!(link_header(&devices), 0);
    devices.fresh.insert(gone);
    devices.find_bases();
    assert!(!devices.known[&(here, 5)].basis[0].is_decided(), "it may be either");
    devices.fresh.remove(&there);
    devices.find_bases();
    assert_eq!(link_header(&devices), 14);
}

const QUIET: Netns = Netns { inode: 1, cookie: 7 };

/// Devices that look for a namespace without traffic, and may enter those that they find.
fn seeking() -> Devices {
    let here = netns::current().unwrap();
    Devices { may_enter: true, ..Devices::fixed(here, BTreeMap::new()) }
}

/// Reads until a search was made, of which the kernel reported this.
fn search(devices: &mut Devices, existing: &[TaskNetns]) -> Presence {
    let is_made = Cell::new(false);
    while !is_made.get() {
        let tasks = || {
            is_made.set(true);
            Some(existing.to_vec())
        };
        devices
            .update(
                &BTreeMap::from([(QUIET, Vec::new())]),
                Queries { tasks, existing: || None, of_drops: BTreeSet::new() },
            )
            .unwrap();
    }
    devices.place((QUIET, 0))
}

#[test]
fn a_query_that_had_to_wait_for_a_cpu_makes_the_rest_no_longer() {
    const WAIT: Duration = Duration::from_millis(500);
    let mut devices = Devices { may_enter: false, ..seeking() };
    let asked = Cell::new(0);
    let started = Instant::now();
    while asked.get() < 2 {
        assert!(started.elapsed() < WAIT * 10, "the wait counts as work");
        let existing = || {
            asked.set(asked.get() + 1);
            std::thread::sleep(WAIT);
            Some(HashSet::new())
        };
        devices
            .update(&BTreeMap::new(), Queries { tasks: || None, existing, of_drops: BTreeSet::from([QUIET]) })
            .unwrap();
    }
}

#[test]
fn a_namespace_that_exists_is_not_gone_though_no_way_into_it_was_found() {
    let mut devices = seeking();
    let exists = TaskNetns { netns: QUIET, tgid: 0, pid: 0 };
    for _ in 0..3 {
        assert_eq!(search(&mut devices, &[exists, TaskNetns::END_OF_NAMESPACES]), Presence::Unknown);
    }
    assert_eq!(search(&mut devices, &[TaskNetns::END_OF_NAMESPACES]), Presence::Gone);
}

#[test]
fn a_namespace_stays_gone_though_the_one_that_got_its_number_is_gone_too() {
    let mut devices = seeking();
    let wanted = BTreeMap::from([(QUIET, Vec::new())]);
    let next = Netns { cookie: QUIET.cookie + 1, ..QUIET };
    devices.fresh.insert(next);
    for _ in 0..2 {
        devices.note_ended(&wanted);
        assert_eq!(devices.place((QUIET, 1)), Presence::Gone);
        devices.fresh.remove(&next);
    }
    devices.note_ended(&BTreeMap::new());
    assert_eq!(devices.place((QUIET, 1)), Presence::Unknown, "nothing names it any more");
}

#[test]
fn where_no_list_shows_it_a_namespace_is_gone_after_a_second_search() {
    let mut devices = seeking();
    assert_eq!(search(&mut devices, &[]), Presence::Unknown);
    assert_eq!(search(&mut devices, &[]), Presence::Gone);
}

#[test]
fn a_device_that_a_list_lacks_is_gone_if_the_list_was_whole_or_the_next_lacks_it_too() {
    let here = Netns { inode: 1, cookie: 1 };
    let mut devices = Devices::fixed(here, BTreeMap::from([((here, 2), Device::default())]));
    let place = |devices: &mut Devices, indexes: &[u32], is_whole| {
        let listed = indexes.iter().map(|ifindex| (*ifindex, Device::default())).collect();
        devices.store(here, Links { devices: listed, is_whole });
        devices.place((here, 2))
    };
    for _ in 0..2 {
        assert_eq!(place(&mut devices, &[], false), Presence::Present);
        assert_eq!(place(&mut devices, &[2], false), Presence::Present);
    }
    assert_eq!(place(&mut devices, &[], false), Presence::Present);
    assert_eq!(place(&mut devices, &[], false), Presence::Gone);
    assert_eq!(place(&mut devices, &[2], false), Presence::Present);
    assert_eq!(place(&mut devices, &[], true), Presence::Gone);
}
