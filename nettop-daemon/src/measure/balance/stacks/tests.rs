//! Stacks of devices whose packets are read above and below at different times: never more is explained than was carried.

use nettop_common::Netns;
use nettop_model::snapshot::DeviceBalance;
use proptest::{collection::vec, prelude::*};

use super::{super::Balance, *};
use crate::identity::devices::{Counters, Counts, Devices, Identity};

const HERE: Netns = Netns { inode: 1, cookie: 1 };
const UPPER: u32 = 9;
const PACKET_BYTES: u64 = 100;
const HEADER_BYTES: u64 = 14;

/// What a device has sent, and what its rows hold of it.
#[derive(Clone, Copy, Default, Debug)]
struct Sent {
    packets: u64,
    rows: u64,
}

fn device_of(kind: &str, sent: Sent) -> Device {
    let counters = Counters {
        tx_packets: sent.packets,
        tx_bytes: sent.packets * (PACKET_BYTES + HEADER_BYTES),
        ..Counters::default()
    };
    let basis = [Basis::new(Counts::Once, HEADER_BYTES as u32), Basis::new(Counts::Buffers, 0)];
    Device {
        name: kind.into(),
        identity: Identity { kind: kind.into(), ..Identity::default() },
        basis,
        counters,
        ..Device::default()
    }
}

/// An upper device and those below it.
struct Stack {
    kind: &'static str,
    balance: Balance,
    /// Now, and at the last reading: the upper device, then the others.
    now: Vec<Sent>,
    before: Vec<Sent>,
}

impl Stack {
    fn new(kind: &'static str, lowers: usize) -> Self {
        let balance = Balance::new(&Devices::fixed(HERE, BTreeMap::new()));
        let zero = vec![Sent::default(); lowers + 1];
        let mut stack = Self { kind, balance, now: zero.clone(), before: zero };
        stack.read();
        stack
    }

    fn key(at: usize) -> DeviceKey {
        (HERE, if at == 0 { UPPER } else { u32::try_from(at).unwrap() })
    }

    fn devices(&self) -> Devices {
        let device = |(at, sent): (usize, &Sent)| {
            let mut device = device_of(if at == 0 { self.kind } else { "veth" }, *sent);
            match (at, self.kind) {
                (0, "vlan" | "macvlan") => device.identity.link = Some(1),
                (1.., "bond" | "bridge") => device.setup.master = Some(UPPER),
                _ => {}
            }
            (Self::key(at), device)
        };
        Devices::fixed(HERE, self.now.iter().enumerate().map(device).collect())
    }

    /// The totals of all, the upper device's first.
    fn read(&mut self) -> Vec<DeviceBalance> {
        let mut rows = BTreeMap::<_, DeviceReading>::new();
        for (at, (now, before)) in self.now.iter().zip(&self.before).enumerate() {
            let packets = now.rows - before.rows;
            if packets > 0 {
                let reading = rows.entry(Self::key(at)).or_default();
                (reading.processes[0].skbs, reading.processes[0].skb_bytes) = (packets, packets * PACKET_BYTES);
            }
        }
        self.before.clone_from(&self.now);
        let reports = self.balance.update(Duration::from_secs(1), &rows, &self.devices());
        let by_index: BTreeMap<u32, DeviceBalance> =
            reports.into_iter().map(|report| (report.ifindex, report.total)).collect();
        (0..self.now.len()).map(|at| by_index[&Self::key(at).1]).collect()
    }

    fn add(&mut self, at: usize, packets: u64, rows: u64) {
        self.now[at].packets += packets;
        self.now[at].rows += rows;
    }
}

fn explained(balance: &DeviceBalance) -> [u64; 4] {
    let side = &balance.tx;
    [side.upper_packets, side.upper_bytes, side.unattributed_packets, side.unattributed_bytes]
}

const fn bytes(packets: u64) -> u64 {
    packets * (PACKET_BYTES + HEADER_BYTES)
}

#[test]
fn what_is_counted_above_is_explained_below_whichever_is_read_first() {
    let mut stack = Stack::new("vlan", 1);
    stack.add(0, 10, 10);
    stack.add(1, 7, 0);
    assert_eq!(explained(&stack.read()[1]), [7, bytes(7), 0, 0]);
    stack.add(1, 5, 0);
    assert_eq!(explained(&stack.read()[1]), [10, bytes(10), 2, bytes(2)]);
    // Its rows are late, its counter is not: two of these were counted below already.
    stack.add(0, 4, 0);
    stack.add(1, 2, 0);
    assert_eq!(explained(&stack.read()[1]), [14, bytes(14), 0, 0]);
    stack.add(0, 0, 4);
    assert_eq!(explained(&stack.read()[1]), [14, bytes(14), 0, 0]);
}

#[test]
fn what_a_device_has_left_from_long_ago_is_not_explained_by_what_comes_now() {
    let mut stack = Stack::new("macvlan", 1);
    stack.add(1, 3, 0);
    (0..20).for_each(|_| drop(stack.read()));
    // Between two macvlans.
    stack.add(0, 50, 50);
    assert_eq!(explained(&stack.read()[1]), [0, 0, 3, bytes(3)]);
    (0..20).for_each(|_| drop(stack.read()));
    stack.add(1, 2, 0);
    assert_eq!(explained(&stack.read()[1]), [0, 0, 5, bytes(5)]);
}

#[test]
fn what_turns_out_to_be_a_devices_own_is_given_back() {
    let mut stack = Stack::new("macvlan", 1);
    stack.add(0, 10, 10);
    stack.add(1, 4, 0);
    assert_eq!(explained(&stack.read()[1]), [4, bytes(4), 0, 0]);
    stack.add(1, 0, 4);
    let total = stack.read()[1];
    assert_eq!((explained(&total), total.tx.pending_packets), ([0; 4], 0));
}

#[test]
fn parts_share_what_was_carried_and_one_that_carried_all_has_all() {
    for kind in ["bond", "bridge"] {
        let mut stack = Stack::new(kind, 2);
        stack.add(0, 10, 10);
        stack.add(1, 6, 0);
        stack.add(2, 4, 0);
        let totals = stack.read();
        assert_eq!([1, 2].map(|at| explained(&totals[at])), [[6, bytes(6), 0, 0], [4, bytes(4), 0, 0]], "{kind}");
        // What a bridge does not pass up.
        stack.add(0, 10, 10);
        stack.add(1, 10, 0);
        stack.add(2, 1, 0);
        let totals = stack.read();
        assert_eq!(
            [1, 2].map(|at| explained(&totals[at])),
            [[16, bytes(16), 0, 0], [4, bytes(4), 1, bytes(1)]],
            "{kind}"
        );
    }
}

#[test]
fn a_tag_is_counted_where_the_driver_puts_it_in() {
    let lower = Device { counts_tags: [true, false], ..device_of("", Sent::default()) };
    let upper = device_of("vlan", Sent::default());
    let mut rows = DeviceReading::default();
    (rows.processes[0].skbs, rows.processes[0].skb_bytes) = (3, 300);
    let mut traffic = Traffic { known: Vec::new(), sums: [[42, 1], [28, 1]] };
    traffic.add_own(&upper, Some(&rows), None);
    assert_eq!(traffic.on(&upper, &lower), [[3 * 118 + 46, 4], [28, 1]]);
    let below = traffic.below(&upper, Some(&lower));
    assert_eq!((below.known[0].tags, below.sums), (1, [[46, 1], [28, 1]]));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each part gets some of what the upper device sent, and its own, all of it read at any time.
    #[test]
    fn never_more_is_explained_than_was_carried(
        kind in prop_oneof![Just("bond"), Just("bridge")],
        steps in vec((0..3_usize, 0..20_u64, 0..20_u64, any::<bool>()), 1..60),
    ) {
        let mut stack = Stack::new(kind, 2);
        let mut late = [0; 3];
        for (at, packets, rows, reads) in steps {
            stack.add(at, packets, 0);
            late[at] += packets;
            let rows = rows.min(late[at]);
            stack.add(at, 0, rows);
            late[at] -= rows;
            if reads {
                let totals = stack.read();
                let sum: u64 = totals[1..].iter().map(|total| total.tx.upper_packets).sum();
                prop_assert!(sum <= stack.now[0].packets, "{totals:#?}");
                for (total, sent) in totals.iter().zip(&stack.now) {
                    prop_assert!(total.tx.pending_packets == 0 && total.tx.pending_bytes == 0, "{total:#?} {sent:?}");
                }
            }
        }
        for (at, rows) in late.into_iter().enumerate() {
            stack.add(at, 0, rows);
        }
        let totals = stack.read();
        let sum: u64 = totals[1..].iter().map(|total| total.tx.upper_packets).sum();
        prop_assert!(sum <= stack.now[0].packets, "{totals:#?}");
        prop_assert!(totals.iter().all(|total| total.tx.pending_packets == 0), "{totals:#?}");
    }
}
