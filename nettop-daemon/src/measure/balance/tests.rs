//! Devices that come, move, go and come back, with traffic all the while: no counter falls, no rest is negative, and what
//! was moved before is not moved again.

use std::collections::BTreeMap;

use nettop_common::{Flow, Netns};
use nettop_kernel::ledger::accumulate;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::identity::devices::{Basis, Counts, Identity, LinkLayer, Setup};

/// The namespaces that are read, and one that is not.
const PLACES: [Netns; 3] =
    [Netns { inode: 1, cookie: 1 }, Netns { inode: 2, cookie: 2 }, Netns { inode: 3, cookie: 3 }];
const HIDDEN: usize = 2;
/// Without link headers.
const BASIS: [Basis; 2] = [Basis::new(Counts::Once, 0), Basis::new(Counts::Buffers, 0)];

/// A device of software.
fn device_of(name: &str, identity: Identity, counters: Counters) -> Device {
    let setup = Setup { link_layer: LinkLayer::Other, ..Setup::default() };
    Device { name: name.into(), identity, setup, basis: BASIS, counters, ..Device::default() }
}

#[derive(Clone, Debug)]
enum Step {
    Create { place: usize, index: u32 },
    Traffic { device: usize, packets: u64, forwarded: u64 },
    Move { device: usize, place: usize },
    Delete { device: usize },
    Read,
}

fn step() -> impl Strategy<Value = Step> {
    let device = 0..6_usize;
    prop_oneof![
        (0..2_usize, 2..6_u32).prop_map(|(place, index)| Step::Create { place, index }),
        (device.clone(), 0..50_u64, 0..50_u64).prop_map(|(device, packets, forwarded)| Step::Traffic {
            device,
            packets,
            forwarded
        }),
        (device.clone(), 0..PLACES.len()).prop_map(|(device, place)| Step::Move { device, place }),
        device.prop_map(|device| Step::Delete { device }),
        Just(Step::Read),
        Just(Step::Read),
    ]
}

struct Living {
    key: DeviceKey,
    device: Device,
    /// A reading was made since it came to where it is.
    was_read: bool,
}

#[derive(Default)]
struct World {
    devices: Vec<Living>,
    rows: BTreeMap<DeviceKey, DeviceReading>,
    made: u8,
    /// Bytes that devices moved where they are read.
    moved: u64,
}

impl World {
    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Create { place, index } => {
                self.made = self.made.wrapping_add(1);
                let identity = Identity { kind: "veth".into(), address: vec![2, self.made], link: None };
                let (name, counters) = (format!("v{}", self.made), Counters::default());
                let device = device_of(&name, identity, counters);
                let key = self.free(PLACES[place], index);
                self.devices.push(Living { key, device, was_read: false });
            }
            Step::Traffic { device, packets, forwarded } => {
                let Some(living) = self.devices.get_mut(device) else { return };
                let bytes = packets * 100;
                let flows = &mut self.rows.entry(living.key).or_default().processes;
                let more = Flow { skbs: packets, skb_bytes: bytes, ..Flow::default() };
                accumulate(flows, &[more, Flow::default()]);
                living.device.counters.tx_packets += packets + forwarded;
                living.device.counters.tx_bytes += bytes + forwarded * 60;
                if living.key.0 != PLACES[HIDDEN] {
                    self.moved += bytes + forwarded * 60;
                }
            }
            Step::Move { device, place } => {
                let Some((from, index)) = self.devices.get(device).map(|living| living.key) else { return };
                // Nothing shows where one was between two readings (docs/report.md).
                if from == PLACES[place] || !self.devices[device].was_read {
                    return;
                }
                let key = self.free(PLACES[place], index);
                self.devices[device].key = key;
                self.devices[device].was_read = false;
            }
            Step::Delete { device } if device < self.devices.len() => drop(self.devices.remove(device)),
            Step::Delete { .. } | Step::Read => {}
        }
    }

    /// The index, or another if it is taken.
    fn free(&self, place: Netns, index: u32) -> DeviceKey {
        let is_free = |index: &u32| self.devices.iter().all(|living| living.key != (place, *index));
        (place, (index..).find(is_free).unwrap_or(index))
    }

    fn devices(&self) -> Devices {
        let lo = |place| {
            let (identity, counters) = (Identity::default(), Counters::default());
            let device = device_of("lo", identity, counters);
            ((place, 1), device)
        };
        let seen = self.devices.iter().filter(|living| living.key.0 != PLACES[HIDDEN]);
        let known = seen.map(|living| (living.key, living.device.clone()));
        Devices::fixed(PLACES[0], known.chain(PLACES[..HIDDEN].iter().map(|place| lo(*place))).collect())
    }
}

fn sides(balance: &DeviceBalance) -> [u64; 8] {
    let [tx, rx] = [&balance.tx, &balance.rx];
    [
        tx.bytes,
        tx.packets,
        tx.attributed_bytes,
        tx.kernel_bytes,
        rx.bytes,
        rx.packets,
        rx.attributed_bytes,
        rx.kernel_bytes,
    ]
}

/// The reports by device, and the sum of all totals.
fn read(world: &mut World, balance: &mut Balance) -> (BTreeMap<(u32, u32), DeviceReport>, u64) {
    let reports = balance.update(Duration::from_secs(1), &std::mem::take(&mut world.rows), &world.devices());
    world.devices.iter_mut().for_each(|living| living.was_read = true);
    let sum = reports.iter().map(|report| report.total.tx.bytes).sum::<u64>() + balance.gone().tx.bytes;
    (reports.into_iter().map(|report| ((report.netns, report.ifindex), report)).collect(), sum)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_counter_falls_and_no_rest_is_negative(steps in vec(step(), 1..80)) {
        let mut world = World::default();
        let mut balance = Balance::new(&world.devices());
        let (mut last, mut last_sum) = (BTreeMap::new(), 0);
        // How often in a row the rest of what has an index was negative.
        let mut negative: BTreeMap<(u32, u32), u8> = BTreeMap::new();
        for step in &steps {
            world.apply(step);
            if !matches!(step, Step::Read) {
                continue;
            }
            let (reports, sum) = read(&mut world, &mut balance);
            negative.retain(|key, _| reports.contains_key(key));
            for (key, report) in &reports {
                let rest = &report.total.tx;
                let readings = negative.entry(*key).or_default();
                *readings = if rest.pending_bytes > 0 || rest.pending_packets > 0 { *readings + 1 } else { 0 };
                prop_assert!(*readings < SETTLING_READINGS, "{report:?}");
                if let Some(before) = last.get(key).map(|before: &DeviceReport| sides(&before.total)) {
                    let is_no_less = sides(&report.total).iter().zip(before).all(|(now, before)| *now >= before);
                    prop_assert!(is_no_less, "{before:?}, then {report:?}");
                }
            }
            prop_assert!(sum >= last_sum && sum <= world.moved, "{last_sum}, then {sum} of {}", world.moved);
            (last, last_sum) = (reports, sum);
        }
        // What is gone leaves the reports once its rows are quiet.
        for _ in 0..2 {
            (last, _) = read(&mut world, &mut balance);
        }
        prop_assert_eq!(last.len(), world.devices().iter().count());
    }
}

fn run(steps: &[Step]) -> (BTreeMap<(u32, u32), DeviceReport>, u64) {
    let mut world = World::default();
    let mut balance = Balance::new(&world.devices());
    let mut result = (BTreeMap::new(), 0);
    for step in steps {
        world.apply(step);
        if matches!(step, Step::Read) {
            result = read(&mut world, &mut balance);
        }
    }
    result
}

#[test]
fn a_new_device_begins_at_zero_and_one_that_comes_back_where_it_is() {
    let traffic = Step::Traffic { device: 0, packets: 10, forwarded: 10 };
    let create = Step::Create { place: 0, index: 2 };
    let (reports, _) = run(&[create.clone(), traffic.clone(), Step::Read]);
    assert_eq!(reports[&(1, 2)].interval.tx.bytes, 1600);
    // Into a namespace that is not read, and back.
    let hide = Step::Move { device: 0, place: HIDDEN };
    let back = Step::Move { device: 0, place: 1 };
    let steps =
        [create, Step::Read, hide, Step::Read, Step::Read, traffic.clone(), back, Step::Read, traffic, Step::Read];
    let (reports, sum) = run(&steps);
    assert_eq!((reports[&(2, 2)].total.tx.bytes, sum), (1600, 1600));
}

/// One that takes the index of another, of which rows are all that is left, twice before that was settled.
#[test]
fn what_is_pending_of_a_device_whose_index_another_takes_was_counted_by_it() {
    let create = Step::Create { place: 1, index: 3 };
    let (traffic, delete) = (Step::Traffic { device: 0, packets: 1, forwarded: 0 }, Step::Delete { device: 0 });
    let first = [create.clone(), traffic, delete.clone(), create.clone(), Step::Read];
    let (reports, _) = run(&first);
    assert_eq!(reports[&(2, 3)].total.tx.pending_bytes, 100);
    let (reports, sum) = run(&[&first[..], &[delete, create, Step::Read]].concat());
    assert_eq!((reports[&(2, 3)].total.tx.pending_bytes, sum), (0, 100));
}

#[test]
fn the_last_interval_of_a_device_that_is_deleted_is_closed_with_its_rows() {
    let create = Step::Create { place: 0, index: 2 };
    let traffic = Step::Traffic { device: 0, packets: 10, forwarded: 0 };
    let (reports, sum) = run(&[create, Step::Read, traffic, Step::Delete { device: 0 }, Step::Read]);
    let balance = &reports[&(1, 2)].interval.tx;
    assert_eq!((balance.bytes, balance.attributed_bytes, balance.unattributed_bytes, sum), (1000, 1000, 0, 1000));
}

/// A reading of rows and devices that are as given, by bytes sent.
fn read_one(balance: &mut Balance, attributed: u64, counted: u64) -> DeviceBalance {
    read_with(balance, Identity::default(), attributed, counted)
}

fn read_with(balance: &mut Balance, identity: Identity, attributed: u64, counted: u64) -> DeviceBalance {
    read_after(balance, Duration::from_secs(1), identity, attributed, counted)
}

fn read_after(
    balance: &mut Balance,
    length: Duration,
    identity: Identity,
    attributed: u64,
    counted: u64,
) -> DeviceBalance {
    let key = (PLACES[0], 2);
    let counters = Counters { tx_bytes: counted, ..Counters::default() };
    let device = device_of("v0", identity, counters);
    let mut rows = DeviceReading::default();
    rows.processes[0].skb_bytes = attributed;
    let devices = Devices::fixed(PLACES[0], [(key, device)].into());
    balance.update(length, &[(key, rows)].into(), &devices)[0].total
}

#[test]
fn what_a_new_device_has_not_counted_yet_is_awaited() {
    let mut balance = Balance::new(&Devices::fixed(PLACES[0], BTreeMap::new()));
    assert_eq!(read_one(&mut balance, 1000, 400).tx.pending_bytes, 600);
    let total = read_one(&mut balance, 0, 1000).tx;
    assert_eq!((total.bytes, total.attributed_bytes, total.unattributed_bytes), (1000, 1000, 0));
}

#[test]
fn a_packet_that_waits_for_its_neighbours_address_is_counted_once() {
    let mut balance = Balance::new(&Devices::fixed(PLACES[0], BTreeMap::new()));
    let mut read = |attributed, counted| {
        read_after(&mut balance, Duration::from_millis(200), Identity::default(), attributed, counted).tx
    };
    assert_eq!(read(94, 0).pending_bytes, 94);
    for _ in 0..2 * SETTLING_READINGS {
        assert_eq!(read(0, 0).pending_bytes, 94);
    }
    let total = read(0, 94);
    assert_eq!((total.bytes, total.attributed_bytes, total.unattributed_bytes), (94, 94, 0));
}

#[test]
fn a_device_that_gets_another_address_and_peer_is_the_same() {
    let mut balance = Balance::new(&Devices::fixed(PLACES[0], BTreeMap::new()));
    let identity = |last: u8| Identity { kind: "veth".into(), address: vec![2, last], link: Some(last.into()) };
    read_with(&mut balance, identity(1), 0, 100);
    assert_eq!(read_with(&mut balance, identity(2), 500, 1100).tx.unattributed_bytes, 600);
}

#[test]
fn what_a_new_device_never_counts_was_anothers_before_it() {
    let mut balance = Balance::new(&Devices::fixed(PLACES[0], BTreeMap::new()));
    for reading in 1..u64::from(SETTLING_READINGS) {
        let attributed = if reading == 1 { 1000 } else { 100 };
        assert_eq!(read_one(&mut balance, attributed, 300 + reading * 100).tx.pending_bytes, 600);
    }
    let total = read_one(&mut balance, 100, 300 + u64::from(SETTLING_READINGS) * 100).tx;
    assert_eq!((total.bytes, total.attributed_bytes, total.unattributed_bytes), (1300, 1300, 0));
    let total = read_one(&mut balance, 100, 400 + u64::from(SETTLING_READINGS) * 100).tx;
    assert_eq!((total.bytes, total.attributed_bytes, total.unattributed_bytes), (1400, 1400, 0));
}

#[test]
fn a_rest_that_turns_negative_later_is_reported_as_it_is() {
    let mut balance = Balance::new(&Devices::fixed(PLACES[0], BTreeMap::new()));
    assert_eq!(read_one(&mut balance, 100, 100).tx.unattributed_bytes, 0);
    assert_eq!(read_one(&mut balance, 1000, 500).tx.pending_bytes, 600);
    for _ in 0..2 * SETTLING_READINGS {
        assert_eq!(read_one(&mut balance, 0, 500).tx.pending_bytes, 600);
    }
}

#[test]
fn of_a_busy_device_the_least_is_taken_and_what_is_left_once_it_is_idle() {
    let mut decided = Decided::default();
    let pending = [500, 300, 400, 600];
    assert_eq!(pending.len(), usize::from(SETTLING_READINGS));
    let stays: Vec<_> = pending.iter().map(|bytes| decided.stays((*bytes, *bytes / 100), false)).collect();
    assert_eq!(stays, [None, None, None, Some((300, 3))]);
    assert_eq!(decided.stays((200, 2), false), None);
    assert_eq!(decided.stays((200, 2), true), Some((200, 2)));
}
