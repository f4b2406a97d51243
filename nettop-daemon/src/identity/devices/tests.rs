//! What a device counts where another device decides it.

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
