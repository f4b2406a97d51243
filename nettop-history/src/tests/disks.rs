//! What disks did, at every resolution and for selected moments.

use super::{file, folder, open, question, slot};
use crate::{Disk, DiskUsage, HostUsage, MAX_DISKS, Question, Reader, Slot};

/// The begin of an hour.
const BEGIN: i64 = 1_795_003_200;

fn disk(name: &str, mounted: &str) -> Disk {
    Disk { name: name.into(), mounted: mounted.into() }
}

/// A slot with these disks.
fn busy(ts: i64, disks: impl IntoIterator<Item = (Disk, DiskUsage)>) -> Slot {
    let mut slot = slot(ts, &[(1, 100)]);
    slot.host = Some(HostUsage { usage_ms: 10_000, ..HostUsage::default() });
    slot.disks = disks.into_iter().collect();
    slot
}

#[test]
fn disks_add_up_and_those_with_the_most_requests_come_first() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    let small = DiskUsage { busy_ms: 100, in_flight_ms: 100, read_bytes: 5, write_bytes: 6 };
    let large = DiskUsage { busy_ms: 9000, in_flight_ms: 90_000, read_bytes: 0, write_bytes: 7 };
    // Two hours and a day ago: of three resolutions when they are asked.
    for number in 0..360 {
        let mut slot = busy(BEGIN + number * 10, [(disk("sda2", "/"), small), (disk("sdb1", ""), large)]);
        slot.tick.load = Some([if number == 7 { 9.0 } else { 1.0 }; 3]);
        store.write(&[slot]).unwrap();
    }
    store.finish(BEGIN + 3600).unwrap();
    let reader = Reader::open(&path).unwrap();
    let times = |usage: DiskUsage, times: u64| DiskUsage {
        busy_ms: usage.busy_ms * times,
        in_flight_ms: usage.in_flight_ms * times,
        read_bytes: usage.read_bytes * times,
        write_bytes: usage.write_bytes * times,
    };
    let both = |number| vec![(disk("sdb1", ""), times(large, number)), (disk("sda2", "/"), times(small, number))];
    let asked = question(BEGIN, BEGIN + 3600);
    assert_eq!(reader.answer(&asked).unwrap().disks, both(360));
    let day = Question { from: BEGIN - 23 * 3600, ..asked.clone() };
    assert_eq!(reader.answer(&day).unwrap().disks, both(360), "from minutes");
    let week = Question { from: BEGIN - 7 * 24 * 3600, ..asked.clone() };
    assert_eq!(reader.answer(&week).unwrap().disks, both(360), "from hours");
    let when = Some("load > 4".parse().unwrap());
    assert_eq!(reader.answer(&Question { when, ..asked }).unwrap().disks, both(1), "the selected moments");
    // It is mounted elsewhere from then on.
    let mut store = open(&path);
    store.write(&[busy(BEGIN + 3600, [(disk("sdb1", "/srv"), large)])]).unwrap();
    store.finish(BEGIN + 3610).unwrap();
    let moved = reader.answer(&question(BEGIN, BEGIN + 3610)).unwrap().disks;
    assert_eq!(moved[0], (disk("sdb1", "/srv"), times(large, 361)));
    let bucket = reader.buckets_until(BEGIN, 1).unwrap()[0];
    assert_eq!(reader.recorded(bucket, false).unwrap().disks, both(1));
}

#[test]
fn of_many_disks_a_slot_has_the_busiest() {
    let usage = |in_flight_ms| DiskUsage { in_flight_ms, ..DiskUsage::default() };
    let mut slot = busy(BEGIN, (0..50).map(|number| (disk(&format!("sd{number}"), ""), usage(number))));
    slot.cap(512);
    let fewest = slot.disks.values().map(|usage| usage.in_flight_ms).min();
    assert_eq!((slot.disks.len(), fewest), (MAX_DISKS, Some(50 - MAX_DISKS as u64)));
}
