//! What was written, read back slot by slot.

use super::{counters, file, folder, open, slot, who};
use crate::{Keep, Limits, Reader, Resolution, Store};

const BEGIN: i64 = 1_795_000_020;

#[test]
fn each_slot_is_read_back_as_it_was_written() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    let mut last = slot(BEGIN + 50, &[(2, 7000), (4, 90)]);
    last.losses.insert("rows_full", 3);
    store.write(&[slot(BEGIN, &[(1, 100), (2, 200)]), slot(BEGIN + 10, &[(1, 5)]), last.clone()]).unwrap();
    let reader = Reader::open(&path).unwrap();
    let begins = |at: i64, most: usize| -> Vec<i64> {
        reader.buckets_until(at, most).unwrap().iter().map(|bucket| bucket.ts - BEGIN).collect()
    };
    assert_eq!(begins(BEGIN + 49, 9), [0, 10]);
    assert_eq!(begins(BEGIN + 50, 2), [10, 50]);
    assert_eq!(begins(BEGIN - 1, 2), [0; 0]);
    let from = reader.buckets_from(BEGIN + 1, 9).unwrap();
    assert_eq!(
        from.iter().map(|bucket| (bucket.ts - BEGIN, bucket.end() - BEGIN)).collect::<Vec<_>>(),
        [(10, 20), (50, 60)]
    );
    let recorded = reader.recorded(from[1], true).unwrap();
    assert_eq!((recorded.host.as_str(), recorded.boot_id.as_str(), recorded.measured_ms), ("host", "this", 10_000));
    let mut rows: Vec<_> = recorded.rows.into_iter().map(|(who, _, counters)| (who, counters)).collect();
    rows.sort_by_key(|(who, _)| who.pid);
    assert_eq!(rows, [(who(2), counters(7000)), (who(4), counters(90))]);
    assert_eq!(recorded.devices.into_iter().collect::<std::collections::HashMap<_, _>>(), last.devices);
    let drops = recorded.drops.into_iter().map(|(kind, mut who, dropped)| {
        // Ancestors are with rows only.
        who.parents = last.drops.keys().find(|(_, known)| known.pid == who.pid).unwrap().1.parents.clone();
        ((kind, who), dropped)
    });
    assert_eq!(drops.collect::<indexmap::IndexMap<_, _>>(), last.drops);
    assert_eq!(recorded.losses, [("rows_full".to_owned(), 3)]);
    let without = reader.recorded(from[1], false).unwrap();
    assert!(without.rows.iter().all(|(who, ..)| who.parents.is_empty()));
}

#[test]
fn older_times_are_in_minutes_and_no_time_is_in_two_buckets() {
    let folder = folder();
    let path = file(&folder);
    let limits = Limits { keep: Keep { days: [1, 2, 400] }, ..Limits::default() };
    let mut store = Store::open(&path, limits, &super::origin(), BEGIN).unwrap();
    let begin = Resolution::Hour.floor(BEGIN);
    const HOURS: i64 = 5 * 24;
    for ts in (0..HOURS).map(|hour| begin + hour * 3600) {
        // An hour was measured, or nothing would be taken for old.
        let mut first = slot(ts, &[(1, 1000)]);
        first.tick.measured_ms = 3_600_000;
        store.write(&[first, slot(ts + 10, &[(1, 10)])]).unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    let buckets = reader.buckets_from(0, usize::MAX).unwrap();
    assert!(buckets.windows(2).all(|pair| pair[0].end() <= pair[1].ts), "{buckets:?}");
    let of = |resolution: Resolution| buckets.iter().filter(|bucket| bucket.resolution == resolution).count();
    assert!(of(Resolution::Slot) > 0 && of(Resolution::Minute) > 0 && of(Resolution::Hour) > 0, "{buckets:?}");
    let sent = |bucket: &crate::Bucket| {
        let recorded = reader.recorded(*bucket, false).unwrap();
        recorded.rows.iter().map(|(_, _, counters)| counters.tx_bytes).sum::<u64>()
    };
    assert_eq!(
        buckets.iter().map(sent).sum::<u64>(),
        HOURS.unsigned_abs() * 1010,
        "nothing is missing, and nothing twice"
    );
}

#[test]
fn amounts_of_a_file_that_was_changed_are_not_below_nothing() {
    let folder = folder();
    let path = file(&folder);
    open(&path).write(&[slot(BEGIN, &[(1, 100)])]).unwrap();
    let changed = rusqlite::Connection::open(&path).unwrap();
    changed.execute_batch("UPDATE sample_10s SET tx_bytes = -1; UPDATE device_10s SET rx_attributed = -2").unwrap();
    let reader = Reader::open(&path).unwrap();
    let [bucket] = reader.buckets_from(0, 9).unwrap()[..] else { panic!() };
    let recorded = reader.recorded(bucket, false).unwrap();
    assert_eq!((recorded.rows[0].2.tx_bytes, recorded.rows[0].2.rx_bytes), (0, 300));
    assert_eq!(recorded.devices[0].1.rx.attributed_bytes, 0);
}
